"""The demo: starts the whole system, or uses a running one, and sends it the orders. scripts/demo and
scripts/localstack build everything and start it. Standard library only.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import orders

ROOT = Path(__file__).resolve().parent.parent
BINARIES = ROOT / "target/debug"
# The demo fails after this time, which is far longer than twenty orders take.
PATIENCE_SECONDS = 180
# On LocalStack, every step takes several messages and invocations, which share the machine with the emulator.
EMULATOR_PATIENCE_SECONDS = 900


def main() -> int:
    arguments = parse()
    data = Path(arguments.data_dir).resolve()
    data.mkdir(parents=True, exist_ok=True)
    if arguments.url:
        _, wrong = orders.run(orders.Api(arguments.url, EMULATOR_PATIENCE_SECONDS), data)
        return 1 if wrong else 0
    with System(data, arguments.port) as system:
        finished, wrong = orders.run(orders.Api(system.url, PATIENCE_SECONDS), data)
        if arguments.stay:
            invite(system, finished)
            system.wait()
    return 1 if wrong else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int, help="the port of the system that the demo starts")
    where.add_argument("--url", help="the URL of a running system, such as that of scripts/localstack")
    parser.add_argument("--stay", action="store_true")
    return parser.parse_args()


class System:
    """`tasker-ctl dev` with a Rust and a Python worker, stopped when the demo ends."""

    def __init__(self, data: Path, port: int) -> None:
        self.log = data / "dev.log"
        # A worker's command is split like a shell does, and folders may contain spaces.
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
        # A session of its own: Ctrl-C reaches only us, and we stop the system gracefully.
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.url = ""
        # The system ends with us in every case, also before everything is running.
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
            sys.exit(f"the system did not start; see its log {self.log}")
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
        # No wait here, because the interrupted wait holds its lock.
        self.process.send_signal(signal.SIGTERM)
        sys.exit(128 + number)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def __exit__(self, *_: object) -> None:
        self.end()


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
  kill -9 {system.process.pid}        # then start the demo again: it continues

Ctrl-C ends it.""")


if __name__ == "__main__":
    sys.exit(main())
