"""Measures the functions: their sizes, and the time to their first poll when started as Lambda starts them.

Fails if a size is above its limit; times are only printed. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

FUNCTIONS = ["task-intake", "step-readiness", "completion-callback", "operator-api", "db-migrate"]
STARTS = 15
MOST_BINARY_MIB = 12.0
MOST_ZIP_MIB = 6.0
MOST_RESIDENT_MIB = 30.0
ENVIRONMENT = {
    "AWS_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    # Nothing listens there: calls before the first event must not delay it.
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_LAMBDA_FUNCTION_NAME": "measured",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "TASKER_ENV": "production",
    "TASKER_DATABASE_URL": "postgres://127.0.0.1:9/tasker?sslmode=verify-full",
    "TASKER_DATABASE_SECRET": "tasker/database",
    "TASKER_SIGNING_SECRET": "tasker/signing",
    "TASKER_QUEUES": "http://127.0.0.1:9/000000000000/tasker-",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder of the built functions")
    folder = parser.parse_args().folder
    columns = ["binary MiB", "zip MiB", f"start ms, median of {STARTS}", "resident MiB"]
    print(f"{'function':<20}  " + "  ".join(columns))
    failed = []
    for name in FUNCTIONS:
        binary, zipped = sizes(folder / name)
        starts = [start(folder / name) for _ in range(STARTS)]
        resident = max(mebibytes for _, mebibytes in starts)
        ms = statistics.median(milliseconds for milliseconds, _ in starts)
        figures = [binary, zipped, ms, resident]
        print(f"{name:<20}  " + "  ".join(f"{v:>{len(column)}.1f}" for v, column in zip(figures, columns)))
        if binary > MOST_BINARY_MIB or zipped > MOST_ZIP_MIB or resident > MOST_RESIDENT_MIB:
            failed.append(name)
    if failed:
        most = f"at most {MOST_BINARY_MIB} MiB, {MOST_ZIP_MIB} MiB as a zip, {MOST_RESIDENT_MIB} MiB resident"
        print(f"too large: {', '.join(failed)}; {most}", file=sys.stderr)
    return 1 if failed else 0


def sizes(program: Path) -> tuple[float, float]:
    """The size of a program and of its zip package, in MiB."""
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as package:
            package.write(program, "bootstrap")
        return program.stat().st_size / 2**20, file.tell() / 2**20


def start(program: Path) -> tuple[float, float]:
    """The milliseconds from the start of the process to its first poll, and its memory then in MiB."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        environment = {
            **ENVIRONMENT,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.getsockname()[1]}",
            "PATH": os.environ["PATH"],
        }
        began = time.perf_counter()
        with subprocess.Popen([program], env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                connection, _ = server.accept()
                with connection:
                    if not connection.recv(4096).startswith(b"GET /2018-06-01/runtime/invocation/next"):
                        raise SystemExit(f"{program.name} requested something other than its first event")
                    took = (time.perf_counter() - began) * 1000
                    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            finally:
                process.kill()
    kib = next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]
    return took, int(kib) / 1024


if __name__ == "__main__":
    sys.exit(main())
