"""A small function for tests, which does what its event says. Standard library only, over the Runtime API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

BASE = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> None:
    if "FAIL_AT_START" in os.environ:
        post("init/error", {"errorType": "Start.Failed", "errorMessage": os.environ["FAIL_AT_START"]})
        sys.exit(1)
    while True:
        with OPENER.open(f"{BASE}/invocation/next") as answer:
            event, headers = json.load(answer), dict(answer.headers)
        invocation = f"invocation/{headers['Lambda-Runtime-Aws-Request-Id']}"
        said = act(event)
        if event.get("do") == "fail":
            post(f"{invocation}/error", {"errorType": "Boom", "errorMessage": "as it was told"})
        else:
            headers = {name.lower(): value for name, value in headers.items()}
            post(f"{invocation}/response", {"pid": os.getpid(), "headers": headers, "said": said})


def act(event: dict) -> object:
    what = event.get("do")
    print(f"told to {what}", flush=True)
    if what == "exit":
        sys.exit(3)
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        # With a process beside it, which must not outlive it.
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        print(f"child {child.pid}", flush=True)
        time.sleep(1000)
    if what == "show environment":
        return dict(os.environ)
    return "x" * event["size"] if what == "say much" else None


def post(path: str, what: object) -> None:
    request = urllib.request.Request(f"{BASE}/{path}", json.dumps(what).encode(), method="POST")
    try:
        OPENER.open(request).read()
    except urllib.error.HTTPError as error:
        print(f"{path}: {error.code}", flush=True)


main()
