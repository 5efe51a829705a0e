"""Fails where docs/performance.md states a size or a start of the programs that is no longer true.

    cargo build --release -p tasker-ctl -p tasker-worker -p tasker-bench
    scripts/with-postgres python3 scripts/figures.py target/release

A size may differ by a tenth, for another compiler. A start may take five times as long, on a slower or busy machine.
Standard library only.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/performance.md"
SIZE = re.compile(r"^\| size of (\S+) \| ([\d.]+) MB \|", re.MULTILINE)
START = re.compile(r"^\| start of tasker-ctl dev .+, (\w+) worker \| ([\d.]+) ms \|", re.MULTILINE)
SIZE_TOLERANCE = 0.1
SLOWEST = 5
STARTS = 7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the released programs are")
    folder = parser.parse_args().folder.resolve()
    page = PAGE.read_text(encoding="utf-8")
    sizes, starts = SIZE.findall(page), START.findall(page)
    if not sizes or not starts:
        sys.exit(f"{PAGE} states no size or no start; correct the patterns of this script")
    stale = []
    for program, stated in sizes:
        actual = (folder / program).stat().st_size / 1e6
        print(f"size of {program}: {actual:.1f} MB, stated {stated}")
        if abs(actual - float(stated)) > SIZE_TOLERANCE * float(stated):
            stale.append(f"size of {program}")
    for language, stated in starts:
        start(folder, language)  # Migrates the database.
        actual = statistics.median(start(folder, language) for _ in range(STARTS)) * 1000
        print(f"start with a {language} worker: {actual:.0f} ms, stated {stated}")
        if actual > SLOWEST * float(stated):
            stale.append(f"start with a {language} worker")
    if stale:
        print(f"docs/performance.md is stale: {', '.join(stale)}; run scripts/bench, or correct it", file=sys.stderr)
    return 1 if stale else 0


def start(folder: Path, language: str) -> float:
    """Seconds from the start of `tasker-ctl dev` until it serves."""
    workers = {"rust": folder / "bench-worker", "python": f"python3 {ROOT / 'tests/bench/worker.py'}"}
    database = f"--database-url={os.environ['TASKER_TEST_DATABASE_URL']}"
    command = [folder / "tasker-ctl", "dev", "--port=0", database, f"--worker={language}={workers[language]}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workers/python/src")}
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        too_long = threading.Timer(60, process.kill)
        too_long.start()
        try:
            if not any(line.startswith("ready: ") for line in process.stdout):
                raise SystemExit("tasker-ctl dev did not start; it says above why")
            return time.perf_counter() - began
        finally:
            too_long.cancel()
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())
