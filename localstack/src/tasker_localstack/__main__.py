"""The commands behind scripts/localstack and scripts/with-localstack. JSON on stdout, messages on stderr."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tasker_localstack import deploy, emulator, lasting, packages, topology


def main() -> int:
    arguments = parse()
    return arguments.run(arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tasker_localstack", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run", help="run a command with a temporary LocalStack")
    command.add_argument("command", nargs=argparse.REMAINDER)
    command.set_defaults(run=run)
    command = commands.add_parser("deploy", help="deploy the topology under a prefix")
    command.add_argument("--endpoint", required=True)
    command.add_argument("--prefix", required=True)
    command.add_argument("--programs", type=Path, required=True, help="the folder of the built functions and workers")
    command.add_argument("--database", required=True, help="postgres://HOST:PORT/NAME, without user and password")
    command.add_argument("--authority", required=True, help="the file of the certificate authority of the database")
    command.add_argument("--user", default="tasker", help="of the database, with TASKER_DATABASE_PASSWORD")
    command.add_argument("--images", type=Path, required=True, help="the image map, in the folder of the instance")
    command.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="a value of the topology")
    command.add_argument("--no-schedule", action="store_true")
    command.add_argument("--zips", action="store_true", help="upload the functions as zips, as on AWS; takes longer")
    command.set_defaults(run=deploy_command)
    command = commands.add_parser("remove", help="remove a deployment")
    command.add_argument("--endpoint", required=True)
    command.add_argument("--prefix", required=True)
    command.set_defaults(run=remove)
    command = commands.add_parser("up", help="start LocalStack and PostgreSQL in a folder, and deploy the topology")
    command.add_argument("--folder", type=Path, required=True)
    command.add_argument("--programs", type=Path, required=True)
    command.add_argument("--port", type=int, help="the port of LocalStack (default: 4566, or the last one)")
    command.set_defaults(run=up)
    command = commands.add_parser("down", help="stop what `up` started")
    command.add_argument("--folder", type=Path, required=True)
    command.add_argument("--remove", action="store_true", help="also remove its data")
    command.set_defaults(run=down)
    command = commands.add_parser("status", help="show what is running")
    command.add_argument("--folder", type=Path, required=True)
    command.set_defaults(run=status)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> int:
    """Runs a command, and always removes everything that was started for it."""
    words = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not words:
        raise SystemExit("give a command to run")
    # A signal raises SystemExit, so that the cleanup runs.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="tasker-localstack-") as folder:
        local = emulator.Emulator(Path(folder), emulator.free_port())
        try:
            local.start()
            packages.write_images(local.images, programs_of_tests())
            print(packages.describe_images(local.images), file=sys.stderr)
            environment = {
                **os.environ,
                "TASKER_LOCALSTACK": local.endpoint,
                "TASKER_LOCALSTACK_DIR": folder,
                "TASKER_LOCALSTACK_PYTHON": sys.executable,
                "TASKER_PROGRAMS": str(programs_of_tests()),
            }
            return subprocess.run(words, env=environment, check=False).returncode
        finally:
            local.stop()


def programs_of_tests() -> Path:
    return (packages.ROOT / "target/programs").resolve()


def deploy_command(arguments: argparse.Namespace) -> int:
    password = os.environ.get("TASKER_DATABASE_PASSWORD")
    if not password:
        raise SystemExit("TASKER_DATABASE_PASSWORD is not set: give the password of the database's user")
    database = deploy.Database(arguments.database, arguments.authority, arguments.user, password)
    wanted = topology.read(arguments.set)
    folder = arguments.images.resolve().parent
    programs = packages.package_all(wanted["functions"], arguments.programs.resolve(), folder)
    deployment = deploy.Deployment(arguments.endpoint, arguments.prefix, zips=arguments.zips)
    where = deployment.deploy(wanted, programs, database, schedule=not arguments.no_schedule)
    print(json.dumps({**where, "note": packages.describe_images(arguments.images)}))
    return 0


def remove(arguments: argparse.Namespace) -> int:
    deploy.Deployment(arguments.endpoint, arguments.prefix).remove()
    return 0


def up(arguments: argparse.Namespace) -> int:
    print(json.dumps(lasting.up(arguments.folder.resolve(), arguments.programs.resolve(), arguments.port)))
    return 0


def down(arguments: argparse.Namespace) -> int:
    lasting.down(arguments.folder.resolve(), and_remove=arguments.remove)
    return 0


def status(arguments: argparse.Namespace) -> int:
    for what, where in lasting.status(arguments.folder.resolve()):
        print(f"{what:<11} {where}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
