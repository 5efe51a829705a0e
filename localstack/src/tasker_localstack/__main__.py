"""The commands behind scripts/localstack and scripts/with-localstack. Prints JSON for programs on stdout, sentences on stderr."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasker_localstack import deploy, emulator, topology
from tasker_localstack.postgres import Postgres, free_port

# What handlers of the sample workers are run by: any Python will do, and the machine's own is what users have.
PYTHON = os.environ.get("TASKER_WORKER_PYTHON", "python3")


def main() -> int:
    arguments = parse()
    return arguments.run(arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tasker_localstack", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run", help="run a command with a throw-away LocalStack and PostgreSQL")
    command.add_argument("command", nargs=argparse.REMAINDER)
    command.set_defaults(run=run)
    command = commands.add_parser("deploy", help="deploy the topology under a prefix")
    command.add_argument("--endpoint", required=True)
    command.add_argument("--prefix", required=True)
    command.add_argument("--programs", type=Path, required=True, help="where the built functions and workers are")
    command.add_argument("--database", required=True, help="postgres://HOST:PORT/NAME, without a login")
    command.add_argument("--authority", required=True, help="the certificate that the database's own is signed by")
    command.add_argument("--user", default="tasker", help="of the database; its password is in TASKER_DATABASE_PASSWORD")
    command.add_argument("--images", type=Path, required=True, help="the image map of the LocalStack")
    command.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="a value of the topology")
    command.add_argument("--no-schedule", action="store_true")
    command.set_defaults(run=deploy_command)
    command = commands.add_parser("remove", help="take a deployment away")
    command.add_argument("--endpoint", required=True)
    command.add_argument("--prefix", required=True)
    command.set_defaults(run=remove)
    command = commands.add_parser("up", help="start LocalStack and PostgreSQL in a folder, and deploy")
    command.add_argument("--folder", type=Path, required=True)
    command.add_argument("--programs", type=Path, required=True)
    command.add_argument("--port", type=int, default=4566)
    command.set_defaults(run=up)
    command = commands.add_parser("down", help="end what `up` started")
    command.add_argument("--folder", type=Path, required=True)
    command.add_argument("--remove", action="store_true", help="and remove its data")
    command.set_defaults(run=down)
    command = commands.add_parser("status", help="what runs")
    command.add_argument("--folder", type=Path, required=True)
    command.set_defaults(run=status)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> int:
    """Runs a command; everything that was started for it is gone afterwards, whatever comes."""
    words = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not words:
        raise SystemExit("give a command to run")
    # A signal ends the command, and what comes after it is done as ever.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with throw_away_postgres() as postgres, tempfile.TemporaryDirectory(prefix="tasker-localstack-") as folder:
        local = emulator.Emulator(Path(folder), free_port())
        pid = local.start()
        try:
            deploy.write_images(local.images, programs_of_tests(), PYTHON)
            environment = {
                **os.environ,
                "TASKER_LOCALSTACK": local.endpoint,
                "TASKER_LOCALSTACK_DIR": folder,
                "TASKER_LOCALSTACK_PYTHON": sys.executable,
                "TASKER_TEST_DATABASE_URL": postgres.socket_url("postgres"),
                "TASKER_TEST_DATABASE_TLS": f"127.0.0.1:{postgres.port}",
                "TASKER_TEST_DATABASE_CA": str(postgres.authority),
                "TASKER_PROGRAMS": str(programs_of_tests()),
            }
            return subprocess.run(words, env=environment, check=False).returncode
        finally:
            emulator.stop(pid)


def programs_of_tests() -> Path:
    return (deploy.ROOT / "target/programs").resolve()


@contextlib.contextmanager
def throw_away_postgres() -> Iterator[Postgres]:
    postgres = Postgres.create(durable=False)
    try:
        yield postgres
    finally:
        postgres.remove()


def deploy_command(arguments: argparse.Namespace) -> int:
    password = os.environ.get("TASKER_DATABASE_PASSWORD")
    if not password:
        raise SystemExit("TASKER_DATABASE_PASSWORD is not set: give the password of the database's user")
    database = deploy.Database(arguments.database, arguments.authority, arguments.user, password)
    where = deploy.Deployment(arguments.endpoint, arguments.prefix).deploy(
        topology.read(arguments.set), arguments.programs.resolve(), database, arguments.images, not arguments.no_schedule
    )
    print(json.dumps(where))
    return 0


def remove(arguments: argparse.Namespace) -> int:
    deploy.Deployment(arguments.endpoint, arguments.prefix).remove()
    return 0


def up(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    state = read_state(folder)
    postgres = Postgres(Path(state["postgres"])) if state else None
    if postgres is None or not postgres.data.exists():
        print("starting PostgreSQL", file=sys.stderr)
        postgres = Postgres.create(durable=True)
    elif not postgres.running():
        postgres.start()
    write_state(folder, {"postgres": str(postgres.folder), "port": arguments.port, "pid": state.get("pid", 0)})
    local = emulator.Emulator(folder, state.get("port", arguments.port))
    pid = state.get("pid", 0)
    if not (pid and is_ours(pid) and local.answers()):
        print("starting LocalStack", file=sys.stderr)
        local = emulator.Emulator(folder, arguments.port)
        pid = local.start()
        write_state(folder, {"postgres": str(postgres.folder), "port": local.port, "pid": pid})
    deploy.write_images(local.images, arguments.programs.resolve(), PYTHON)
    postgres.create_database("tasker")
    print("deploying", file=sys.stderr)
    database = deploy.Database(postgres.address("tasker"), str(postgres.authority), "tasker", postgres.password)
    where = deploy.Deployment(local.endpoint, "tasker").deploy(
        topology.read([]), arguments.programs.resolve(), database, local.images, schedule=True
    )
    where |= {"pid": pid, "port": local.port, "postgres": str(postgres.folder), "database": postgres.socket_url("tasker")}
    write_state(folder, where)
    print(json.dumps(where))
    return 0


def down(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder.resolve()
    state = read_state(folder)
    if not state:
        print("nothing runs", file=sys.stderr)
        return 0
    if state.get("pid") and is_ours(state["pid"]):
        emulator.stop(state["pid"])
    postgres = Postgres(Path(state["postgres"]))
    if arguments.remove:
        postgres.remove()
        (folder / "state.json").unlink()
    elif postgres.data.exists():
        postgres.stop()
    return 0


def status(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder.resolve()
    state = read_state(folder)
    if not state:
        print("nothing runs; scripts/localstack up starts it")
        return 0
    local = emulator.Emulator(folder, state["port"])
    alive = bool(state.get("pid")) and is_ours(state["pid"]) and local.answers()
    postgres = Postgres(Path(state["postgres"]))
    rows = [("LocalStack", local.endpoint if alive else "does not answer; scripts/localstack up starts it again")]
    rows.append(("PostgreSQL", postgres.socket_url("tasker") if postgres.running() else "is stopped"))
    if alive:
        rows.append(("API", state.get("api", "is not deployed")))
        rows += [("function", f"{name}  {folder}/logs/{name}.log") for name in state.get("functions", [])]
        sqs = deploy.Deployment(local.endpoint, "tasker").client("sqs")
        for url in sqs.list_queues(QueueNamePrefix="tasker-").get("QueueUrls", []):
            names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
            counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
            rows.append(("queue", f"{url.rsplit('/', 1)[-1]:<28}  waiting {counts[names[0]]}, in flight {counts[names[1]]}"))
    for what, where in rows:
        print(f"{what:<11} {where}")
    return 0


def is_ours(pid: int) -> bool:
    """Whether a process is the LocalStack that we started: a number may have gone to another one."""
    try:
        return b"localstack.runtime.main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def read_state(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_state(folder: Path, state: dict[str, Any]) -> None:
    beside = folder / "state.new"
    beside.write_text(json.dumps(state, indent=1), encoding="utf-8")
    os.replace(beside, folder / "state.json")


if __name__ == "__main__":
    sys.exit(main())
