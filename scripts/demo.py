"""The demo: starts the whole system, sends it the orders of config/demo/orders.json, and holds what came out against
what is expected. Started by scripts/demo, which builds first. Standard library only.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BINARIES = ROOT / "target/debug"
# Far longer than twenty orders take; a demo that gets here has failed.
PATIENCE_SECONDS = 180


def main() -> int:
    arguments = parse()
    data = Path(arguments.data_dir).resolve()
    data.mkdir(parents=True, exist_ok=True)
    orders = json.loads((ROOT / "config/demo/orders.json").read_text(encoding="utf-8"))
    with System(data, arguments.port) as system:
        run = Run(data)
        print(f"\nSending {len(orders)} orders to {system.url} (run {run.number})")
        tasks = submit(system.url, orders, run.number)
        finished = follow(system.url, orders, tasks)
        run.is_over()
        wrong = table(system.url, orders, finished)
        explain(system.url, finished[longest(orders)], orders[longest(orders)])
        for order, task in zip(orders, finished):
            if task["status"] == "error":
                report(system.url, order, task)
        print()
        if wrong:
            print(f"{wrong} of {len(orders)} orders did not come out as expected")
        else:
            print(f"All {len(orders)} orders came out as expected.")
        if arguments.stay:
            invite(system, finished)
            system.wait()
    return 1 if wrong else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--stay", action="store_true")
    return parser.parse_args()


class System:
    """`tasker-ctl dev` with a Rust and a Python worker; ended in order when the demo is over."""

    def __init__(self, data: Path, port: int) -> None:
        self.log = data / "dev.log"
        # A worker's command is split as a shell would split it, and folders may have spaces.
        python = shlex.join([sys.executable, str(ROOT / "workers/python/examples/order_handlers.py")])
        rust = shlex.quote(str(BINARIES / "tasker-example-rust"))
        command = [
            str(BINARIES / "tasker-ctl"),
            "dev",
            f"--port={port}",
            f"--data-dir={data}",
            f"--templates={ROOT / 'config/templates'}",
            f"--worker=rust={rust}",
            f"--worker=python={python}",
        ]
        environment = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "TASKER_ENV", "TASKER_LOG")}
        environment["PYTHONPATH"] = str(ROOT / "workers/python/src")
        # A session of its own: Ctrl-C reaches us alone, and we end it in order.
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.url = ""
        # However we end, also before everything is up, the system ends with us.
        atexit.register(self.end)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.interrupted)

    def __enter__(self) -> System:
        with open(self.log, "a", encoding="utf-8") as log:
            for line in self.process.stdout:
                if line.startswith("ready: "):
                    self.url = line.split()[1]
                    print(line.rstrip())
                    break
                log.write(line)
        if not self.url:
            self.process.wait()
            sys.exit(f"the system did not start; its log is {self.log}")
        threading.Thread(target=self.keep_log, daemon=True).start()
        return self

    def keep_log(self) -> None:
        with open(self.log, "a", encoding="utf-8") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()

    def wait(self) -> None:
        try:
            self.process.wait()
        except KeyboardInterrupt:
            print()

    def interrupted(self, number: int, _: object) -> None:
        # Not waited for here: the wait that is interrupted holds the lock of `wait`.
        self.process.send_signal(signal.SIGTERM)
        sys.exit(128 + number)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def __exit__(self, *_: object) -> None:
        self.end()


class Run:
    """A number for each run of the demo, so that its orders are new ones; a run that was cut short is gone on with."""

    def __init__(self, data: Path) -> None:
        self.file = data / "run"
        self.number = int(self.file.read_text()) if self.file.exists() else 1
        self.file.write_text(str(self.number))

    def is_over(self) -> None:
        self.file.write_text(str(self.number + 1))


def call(method: str, url: str, body: Any = None) -> Any:
    """One request; the body of the answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {url}: {error.code} {error.read().decode(errors='replace')}")


def submit(url: str, orders: list[dict], run: int) -> list[str]:
    """Sends every order once, however often the demo was interrupted; their task ids."""
    ids = []
    for order in orders:
        context = order["order"]
        request = {
            "namespace": "shop",
            "name": "order_fulfillment",
            "version": "1.0.0",
            "context": context,
            "initiator": "demo",
            "source_system": "scripts/demo",
            "reason": order["note"],
            "idempotency_key": f"demo-{run}-{context['order_id']}",
        }
        ids.append(call("POST", f"{url}/v1/tasks?on_duplicate=return", request)["task_uuid"])
    return ids


def follow(url: str, orders: list[dict], ids: list[str]) -> list[dict]:
    """Waits for all tasks, and says what finishes; the finished tasks, in the orders' order."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    lock = threading.Lock()
    count = 0

    def wait_for(number: int) -> dict:
        nonlocal count
        while True:
            task = call("GET", f"{url}/v1/tasks/{ids[number]}?wait=20")
            if task["status"] != "running":
                break
            if time.monotonic() > deadline:
                sys.exit(f"order {orders[number]['order']['order_id']} has not finished: {task}")
        with lock:
            count += 1
            progress(count, len(ids), f"{orders[number]['order']['order_id']} {task['status']}")
        return task

    with ThreadPoolExecutor(len(ids)) as pool:
        return list(pool.map(wait_for, range(len(ids))))


def progress(done: int, total: int, last: str) -> None:
    """One line that is written over on a terminal, a line an order elsewhere."""
    bar = "#" * done + "." * (total - done)
    if sys.stdout.isatty():
        print(f"\r  [{bar}] {done}/{total}  {last:<30}", end="\n" if done == total else "", flush=True)
    else:
        print(f"  {done:2}/{total} {last}", flush=True)


def attempts(task: dict) -> dict[str, int]:
    return {step["name"]: step["attempts"] for step in task["steps"]}


def faults(order: dict, task: dict, steps: list[dict]) -> list[str]:
    """What is not as expected."""
    expect = order["expect"]
    tries = attempts(task)
    found = []
    if task["status"] != expect["status"]:
        found.append(f"expected {expect['status']}")
    if sum(tries.values()) != expect["attempts"]:
        found.append(f"expected {expect['attempts']} attempts")
    for step, count in expect.get("retried", {}).items():
        if tries.get(step) != count:
            found.append(f"expected {count} attempts of {step}")
    if "failed_step" in expect:
        step = next(s for s in steps if s["name"] == expect["failed_step"])
        if step["current_state"] != "error" or expect["error_contains"] not in step["results"]["error"]["message"]:
            found.append(f"expected {step['name']} to fail by: {expect['error_contains']}")
    return found


def table(url: str, orders: list[dict], tasks: list[dict]) -> int:
    """Prints a line for each order; how many are not as expected."""
    print(f"\n  {'ORDER':<11} {'OUTCOME':<9} {'ATTEMPTS':>8} {'SECONDS':>8}  WHAT WAS SPECIAL")
    wrong = 0
    for order, task in zip(orders, tasks):
        found = faults(order, task, steps_of(url, task))
        wrong += bool(found)
        name = order["order"]["order_id"]
        seconds = moment(task["completed_at"]) - moment(task["created_at"])
        total = sum(attempts(task).values())
        verdict = f"   NOT AS EXPECTED: {', '.join(found)}" if found else ""
        print(f"  {name:<11} {task['status']:<9} {total:>8} {seconds:>8.2f}  {order['note']}{verdict}")
    return wrong


def longest(orders: list[dict]) -> int:
    """The order with the most attempts that succeeds: the one worth explaining."""
    good = [i for i, order in enumerate(orders) if order["expect"]["status"] == "complete"]
    return max(good, key=lambda i: orders[i]["expect"]["attempts"])


def steps_of(url: str, task: dict) -> list[dict]:
    return call("GET", f"{url}/v1/tasks/{task['task_uuid']}/workflow_steps")


def explain(url: str, task: dict, order: dict) -> None:
    """Tells the story of one order, step by step."""
    start = moment(task["created_at"])
    print(f"\n{order['order']['order_id']}, step by step ({order['note']}); task {task['task_uuid']}")
    for step in steps_of(url, task):
        tries = step["attempts"]
        began, ended = (moment(step[key]) - start for key in ("last_attempted_at", "completed_at"))
        times = (
            "at the first try"
            if tries == 1
            else f"at try {tries} of {step['max_attempts']}, handed over at {began:.2f} s"
        )
        print(f"  {ended:5.2f} s  {step['name']:<19} {step['current_state']} {times}")
        if step["last_failure_at"]:
            print(f"{'':31}its last failure was at {moment(step['last_failure_at']) - start:.2f} s")
        print(f"{'':31}{shortened(json.dumps(step['results']['result']))}")


def report(url: str, order: dict, task: dict) -> None:
    """Says why an order failed, and what became of its other steps."""
    print(f"\n{order['order']['order_id']} failed ({order['note']}); task {task['task_uuid']}")
    for step in steps_of(url, task):
        line = f"  {step['name']:<19} {step['current_state']}"
        error = (step["results"] or {}).get("error")
        print(line + (f": {error['message']}" if error else ""))


def invite(system: System, tasks: list[dict]) -> None:
    failed = next(task for task in tasks if task["status"] == "error")
    print(f"""
The system is still running at {system.url}; its log is {system.log}. Things to try, in another terminal:

  export TASKER_URL={system.url} PATH="{BINARIES}:$PATH"
  tasker-ctl task list
  tasker-ctl task get {failed["task_uuid"]}
  tasker-ctl step resolve {failed["task_uuid"]} authorize_payment --result '{{"paid": 1}}' --reason 'paid'
  tasker-ctl task wait {failed["task_uuid"]}
  tasker-ctl doctor
  kill -9 {system.process.pid}        # then start the demo again: it goes on

Ctrl-C ends it.""")


def moment(text: str) -> float:
    """Seconds of a time stamp in UTC."""
    seconds, _, fraction = text.rstrip("Z").partition(".")
    return time.mktime(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction or 0}")


def shortened(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"


if __name__ == "__main__":
    sys.exit(main())
