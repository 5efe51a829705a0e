"""The PostgreSQL of the permanent environment, with TLS and a password, run by `tasker-ctl postgres`."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

from tasker_localstack.packages import ROOT

TASKER_CTL = ROOT / "target/debug/tasker-ctl"


def start(folder: Path) -> dict[str, Any]:
    """Starts it if it is not running. Returns how to connect to it: `url` through its socket, and `tls`."""
    return json.loads(_tasker_ctl("start", "--tls", "--data-dir", str(folder)))


def stop(folder: Path, and_remove: bool) -> None:
    _tasker_ctl("stop", "--data-dir", str(folder), *(["--remove"] if and_remove else []))


def runs(folder: Path) -> bool:
    try:
        port = int((folder / "port").read_text(encoding="ascii"))
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except (OSError, ValueError):
        return False


def _tasker_ctl(*arguments: str) -> str:
    if not TASKER_CTL.exists():
        raise SystemExit(f"{TASKER_CTL} is missing: run cargo build -p tasker-ctl")
    done = subprocess.run([TASKER_CTL, "postgres", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        # It has printed the reason.
        raise SystemExit(done.returncode)
    return done.stdout
