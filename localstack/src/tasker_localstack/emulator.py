"""LocalStack as a local process: it keeps everything in one folder and listens only on the loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tasker_localstack import containers

READY_SECONDS = 60
SERVICES = "apigateway,cloudwatch,events,iam,lambda,logs,s3,secretsmanager,sqs,sts"


class Emulator:
    """A LocalStack in a folder. Another process may have started it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def images(self) -> Path:
        return self.folder / "images.json"

    def pid(self) -> int | None:
        """The pid of its process, or None if it is not running."""
        try:
            pid = int((self.folder / "pid").read_text(encoding="ascii"))
            # The pid may belong to another process by now.
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            ours = b"localstack.runtime.main" in command and Path(f"/proc/{pid}/cwd").samefile(self.folder)
        except (OSError, ValueError):
            return None
        return pid if ours else None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                what = f"port {self.port} of 127.0.0.1 is not available ({error.strerror})"
                raise SystemExit(f"{what}; stop what listens there, or give another --port") from error
        for name in ("root", "tmp", "cache", "logs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if not self.images.exists():
            self.images.write_text("{}", encoding="ascii")
        with (self.folder / "logs" / "localstack.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "localstack.runtime.main"],
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (self.folder / "pid").write_text(str(process.pid), encoding="ascii")
        deadline = time.monotonic() + READY_SECONDS
        while not self.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SystemExit(f"LocalStack did not start; see {self.folder}/logs/localstack.log")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stops it and everything that it started."""
        pid = self.pid()
        if pid is not None:
            stop(pid)
        containers.remove_all(self.folder)

    def answers(self) -> bool:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"{self.endpoint}/_localstack/health", timeout=2
            ) as answer:
                services = json.load(answer)["services"]
        except (OSError, ValueError, KeyError):
            return False
        return services.get("sqs") in ("available", "running")

    def _environment(self) -> dict[str, str]:
        passed = {n: os.environ[n] for n in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH") if n in os.environ}
        return {
            **passed,
            "GATEWAY_SERVER": "hypercorn",
            "GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
            "LOCALSTACK_HOST": f"127.0.0.1:{self.port}",
            # Queue URLs with this endpoint, without a host name that needs a DNS resolver.
            "SQS_ENDPOINT_STRATEGY": "off",
            "SERVICES": SERVICES,
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DISABLE_EVENTS": "1",
            "DNS_ADDRESS": "0",
            "FILESYSTEM_ROOT": str(self.folder / "root"),
            "TMPDIR": str(self.folder / "tmp"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "LAMBDA_RUNTIME_EXECUTOR": "process",
            "LAMBDA_KEEPALIVE_MS": "600000",
            # Queues are long-polled (see mappings), so polls need no pause between them.
            "LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC": "0.001",
            "TASKER_LOCALSTACK_DIR": str(self.folder),
            "TASKER_IMAGES": str(self.images),
        }


def stop(pid: int) -> None:
    """Stops a LocalStack and everything that it started."""
    for sent, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        try:
            os.killpg(pid, sent)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                # It is a child only if this process started it.
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    return
            except ChildProcessError:
                pass
            if not Path(f"/proc/{pid}").exists():
                return
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
