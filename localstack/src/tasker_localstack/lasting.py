"""The permanent environment: a LocalStack and a PostgreSQL in a folder. Adopts what runs and restarts what does not."""

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
    """Starts what is not running and deploys the topology. Returns the names and addresses."""
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        state = _read(folder)
        local = Emulator(folder, state.get("port", PORT))
        running = local.pid() is not None and local.answers()
        if running and port not in (None, local.port):
            raise SystemExit(f"LocalStack already runs at {local.endpoint}; run `scripts/localstack down` first")
        local.port = port or local.port
        _write(folder, {**state, "port": local.port})
        if not running:
            print("starting LocalStack", file=sys.stderr)
            # It may be running without answering.
            local.stop()
            try:
                local.start()
            except SystemExit:
                # Do not keep a port that is not available.
                _write(folder, state)
                raise
        if not postgres.runs(folder / "postgres"):
            print("starting PostgreSQL", file=sys.stderr)
        server = postgres.start(folder / "postgres")
        tls = server["tls"]
        packages.write_images(local.images, programs)
        note = packages.describe_images(local.images)
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
    """Stops everything. The data stays unless `and_remove` is set."""
    if not folder.exists():
        return
    with _alone(folder):
        Emulator(folder, PORT).stop()
        if (folder / "postgres").exists():
            postgres.stop(folder / "postgres", and_remove)
        if and_remove:
            shutil.rmtree(folder, ignore_errors=True)


def status(folder: Path) -> list[tuple[str, str]]:
    """What is running, and where."""
    state = _read(folder)
    if "port" not in state:
        return [("nothing", "is set up; `scripts/localstack up` sets it up")]
    local = Emulator(folder, state["port"])
    alive = local.pid() is not None
    database = postgres.runs(folder / "postgres")
    if not alive and not database:
        return [("everything", "is stopped; `scripts/localstack up` starts it")]
    fix = "; `scripts/localstack up` fixes this"
    answers = alive and local.answers()
    rows = [("LocalStack", local.endpoint if answers else f"{'does not answer' if alive else 'is not running'}{fix}")]
    rows.append(("PostgreSQL", state.get("database", "runs") if database else f"is not running{fix}"))
    if not answers:
        return rows
    rows.append(("API", state.get("api", f"is not deployed{fix}")))
    rows += [("function", f"{name:<28}  {folder}/logs/{name}.log") for name in state.get("functions", [])]
    sqs = Deployment(local.endpoint, PREFIX).client("sqs")
    for url in sorted(sqs.list_queues(QueueNamePrefix=f"{PREFIX}-").get("QueueUrls", [])):
        counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        waiting, in_flight = counts["ApproximateNumberOfMessages"], counts["ApproximateNumberOfMessagesNotVisible"]
        rows.append(("queue", f"{url.rsplit('/', 1)[-1]:<28}  waiting {waiting}, in flight {in_flight}"))
    return rows


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets one process at a time change a folder."""
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
