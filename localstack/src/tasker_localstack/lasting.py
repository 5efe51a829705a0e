"""The environment that stays: a LocalStack in a folder, and a PostgreSQL. What runs is adopted, the rest is mended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasker_localstack import packages, postgres, topology
from tasker_localstack.deploy import Database, Deployment
from tasker_localstack.emulator import Emulator

PREFIX = "tasker"
PORT = 4566


def up(folder: Path, programs: Path, port: int | None) -> dict[str, Any]:
    """Brings everything about that is not there. Answers where things are."""
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        state = _read(folder)
        local = Emulator(folder, state.get("port", PORT))
        running = local.pid() is not None and local.answers()
        if running and port not in (None, local.port):
            raise SystemExit(f"LocalStack runs at {local.endpoint} already; `scripts/localstack down` first")
        local.port = port or local.port
        _write(folder, {**state, "port": local.port})
        if not running:
            print("starting LocalStack", file=sys.stderr)
            # One that lives and does not answer is of no use.
            local.stop()
            try:
                local.start()
            except SystemExit:
                # A port that cannot be used is not the one to try next time.
                _write(folder, state)
                raise
        if not postgres.runs(folder / "postgres"):
            print("starting PostgreSQL", file=sys.stderr)
        server = postgres.start(folder / "postgres")
        tls = server["tls"]
        packages.write_images(local.images, programs)
        note = packages.said_of_images(local.images)
        print(note, file=sys.stderr)
        print("deploying", file=sys.stderr)
        wanted = topology.read([])
        packed = packages.package_all(wanted["functions"], programs, folder)
        address = f"postgres://{tls['host']}:{tls['port']}/postgres"
        database = Database(address, tls["authority"], tls["user"], tls["password"])
        where = Deployment(local.endpoint, PREFIX).deploy(wanted, packed, database, schedule=True)
        packages.remove_others(packed)
        where |= {"port": local.port, "database": server["url"], "note": note}
        _write(folder, where)
        return where


def down(folder: Path, and_remove: bool) -> None:
    """Ends everything; its data stays, unless it is removed too."""
    if not folder.exists():
        return
    with _alone(folder):
        Emulator(folder, PORT).stop()
        if (folder / "postgres").exists():
            postgres.stop(folder / "postgres", and_remove)
        if and_remove:
            shutil.rmtree(folder, ignore_errors=True)


def status(folder: Path) -> list[tuple[str, str]]:
    """What there is, and where."""
    state = _read(folder)
    if "port" not in state:
        return [("nothing", "is here; `scripts/localstack up` makes it")]
    local = Emulator(folder, state["port"])
    alive = local.pid() is not None
    database = postgres.runs(folder / "postgres")
    if not alive and not database:
        return [("everything", "is stopped; `scripts/localstack up` starts it again")]
    mend = "; `scripts/localstack up` mends it"
    answers = alive and local.answers()
    rows = [("LocalStack", local.endpoint if answers else f"{'does not answer' if alive else 'is not running'}{mend}")]
    rows.append(("PostgreSQL", state.get("database", "runs") if database else f"is not running{mend}"))
    if not answers:
        return rows
    rows.append(("API", state.get("api", f"is not deployed{mend}")))
    rows += [("function", f"{name:<28}  {folder}/logs/{name}.log") for name in state.get("functions", [])]
    sqs = Deployment(local.endpoint, PREFIX).client("sqs")
    for url in sorted(sqs.list_queues(QueueNamePrefix=f"{PREFIX}-").get("QueueUrls", [])):
        counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        waiting, in_flight = counts["ApproximateNumberOfMessages"], counts["ApproximateNumberOfMessagesNotVisible"]
        rows.append(("queue", f"{url.rsplit('/', 1)[-1]:<28}  waiting {waiting}, in flight {in_flight}"))
    return rows


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write(folder: Path, state: dict[str, Any]) -> None:
    beside = folder / "state.new"
    beside.write_text(json.dumps(state, indent=1), encoding="utf-8")
    os.replace(beside, folder / "state.json")
