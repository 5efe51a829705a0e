"""Sends the orders of config/demo/orders.json to an API, and compares the results with the expectations.
Standard library only.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Temporary errors: overload, or a function that did not answer the gateway in time.
TEMPORARY = (429, 502, 503, 504)


def run(api: Api, data: Path) -> tuple[list[dict], int]:
    """Sends every order and waits. Returns the finished tasks, and how many are not as expected."""
    orders = json.loads((ROOT / "config/demo/orders.json").read_text(encoding="utf-8"))
    number = Run(data)
    print(f"\nSending {len(orders)} orders to {api.url} (run {number.number})")
    tasks = submit(api, orders, number.number)
    finished = follow(api, orders, tasks)
    number.is_over()
    wrong = table(api, orders, finished)
    explain(api, finished[longest(orders)], orders[longest(orders)])
    for order, task in zip(orders, finished):
        if task["status"] == "error":
            report(api, order, task)
    print()
    if wrong:
        print(f"{wrong} of {len(orders)} orders did not end as expected")
    else:
        print(f"All {len(orders)} orders ended as expected.")
    return finished, wrong


class Api:
    """The API at a URL. Retries temporary errors until the deadline."""

    def __init__(self, url: str, patience_seconds: float) -> None:
        self.url = url
        self.deadline = time.monotonic() + patience_seconds

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Sends a request, possibly several times. Returns the body of the response."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code not in TEMPORARY or self.is_past_deadline():
                    sys.exit(f"{method} {request.full_url}: {error.code} {error.read().decode(errors='replace')}")
            time.sleep(0.5)

    def is_past_deadline(self) -> bool:
        return time.monotonic() > self.deadline


class Run:
    """A number for each run of the demo, so that its orders are new. An interrupted run keeps its number."""

    def __init__(self, data: Path) -> None:
        self.file = data / "run"
        self.number = int(self.file.read_text()) if self.file.exists() else 1
        self.file.write_text(str(self.number))

    def is_over(self) -> None:
        self.file.write_text(str(self.number + 1))


def submit(api: Api, orders: list[dict], run: int) -> list[str]:
    """Sends every order once, however often the demo is interrupted. Returns the task ids."""
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
        ids.append(api.call("POST", "/v1/tasks?on_duplicate=return", request)["task_uuid"])
    return ids


def follow(api: Api, orders: list[dict], ids: list[str]) -> list[dict]:
    """Waits for all tasks and prints progress. Returns the finished tasks, in the order of the orders."""
    lock = threading.Lock()
    count = 0

    def wait_for(number: int) -> dict:
        nonlocal count
        while True:
            task = api.call("GET", f"/v1/tasks/{ids[number]}?wait=20")
            if task["status"] != "running":
                break
            if api.is_past_deadline():
                sys.exit(f"order {orders[number]['order']['order_id']} has not finished: {task}")
        with lock:
            count += 1
            progress(count, len(ids), f"{orders[number]['order']['order_id']} {task['status']}")
        return task

    with ThreadPoolExecutor(len(ids)) as pool:
        return list(pool.map(wait_for, range(len(ids))))


def progress(done: int, total: int, last: str) -> None:
    """Prints one line that is updated on a terminal, or else one line per order."""
    bar = "#" * done + "." * (total - done)
    if sys.stdout.isatty():
        print(f"\r  [{bar}] {done}/{total}  {last:<30}", end="\n" if done == total else "", flush=True)
    else:
        print(f"  {done:2}/{total} {last}", flush=True)


def attempts(task: dict) -> dict[str, int]:
    return {step["name"]: step["attempts"] for step in task["steps"]}


def faults(order: dict, task: dict, steps: list[dict]) -> list[str]:
    """The differences from the expectations of an order."""
    expect = order["expect"]
    counts = attempts(task)
    found = []
    if task["status"] != expect["status"]:
        found.append(f"expected {expect['status']}")
    if sum(counts.values()) != expect["attempts"]:
        found.append(f"expected {expect['attempts']} attempts")
    for step, count in expect.get("retried", {}).items():
        if counts.get(step) != count:
            found.append(f"expected {count} attempts of {step}")
    if "failed_step" in expect:
        step = next(s for s in steps if s["name"] == expect["failed_step"])
        if step["current_state"] != "error" or expect["error_contains"] not in step["results"]["error"]["message"]:
            found.append(f"expected {step['name']} to fail by: {expect['error_contains']}")
    return found


def table(api: Api, orders: list[dict], tasks: list[dict]) -> int:
    """Prints a line for each order. Returns how many are not as expected."""
    print(f"\n  {'ORDER':<11} {'OUTCOME':<9} {'ATTEMPTS':>8} {'SECONDS':>8}  WHAT HAPPENS")
    wrong = 0
    for order, task in zip(orders, tasks):
        found = faults(order, task, steps_of(api, task))
        wrong += bool(found)
        name = order["order"]["order_id"]
        seconds = moment(task["completed_at"]) - moment(task["created_at"])
        total = sum(attempts(task).values())
        verdict = f"   NOT AS EXPECTED: {', '.join(found)}" if found else ""
        print(f"  {name:<11} {task['status']:<9} {total:>8} {seconds:>8.2f}  {order['note']}{verdict}")
    return wrong


def longest(orders: list[dict]) -> int:
    """The successful order with the most attempts, which is worth explaining."""
    good = [i for i, order in enumerate(orders) if order["expect"]["status"] == "complete"]
    return max(good, key=lambda i: orders[i]["expect"]["attempts"])


def steps_of(api: Api, task: dict) -> list[dict]:
    return api.call("GET", f"/v1/tasks/{task['task_uuid']}/workflow_steps")


def explain(api: Api, task: dict, order: dict) -> None:
    """Prints one order step by step."""
    start = moment(task["created_at"])
    print(f"\n{order['order']['order_id']}, step by step ({order['note']}); task {task['task_uuid']}")
    for step in steps_of(api, task):
        count = step["attempts"]
        began, ended = (moment(step[key]) - start for key in ("last_attempted_at", "completed_at"))
        times = (
            "in the first attempt"
            if count == 1
            else f"in attempt {count} of {step['max_attempts']}, dispatched at {began:.2f} s"
        )
        print(f"  {ended:5.2f} s  {step['name']:<19} {step['current_state']} {times}")
        if step["last_failure_at"]:
            print(f"{'':31}its last failure was at {moment(step['last_failure_at']) - start:.2f} s")
        print(f"{'':31}{shortened(json.dumps(step['results']['result']))}")


def report(api: Api, order: dict, task: dict) -> None:
    """Prints why an order failed, and the states of its other steps."""
    print(f"\n{order['order']['order_id']} failed ({order['note']}); task {task['task_uuid']}")
    for step in steps_of(api, task):
        line = f"  {step['name']:<19} {step['current_state']}"
        error = (step["results"] or {}).get("error")
        print(line + (f": {error['message']}" if error else ""))


def moment(text: str) -> float:
    """The seconds of a timestamp in UTC."""
    seconds, _, fraction = text.rstrip("Z").partition(".")
    return time.mktime(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction or 0}")


def shortened(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"
