"""Containers of images that were unpacked, started by runc: what Lambda lets a function see, and nothing left behind.

It shares the network of this machine, for the Runtime API is at a loopback address.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tasker_localstack.images import Unpacked

# Writable in a function; Lambda's own has this size unless more is asked for.
TMP_MIB = 512
# As on Lambda.
OPEN_FILES = 1024
# Those of the machine, so that names mean the same inside.
NAMES = ("/etc/hosts", "/etc/resolv.conf")
# Ends what is left once the standard input is closed, which is when whoever holds the other end is gone. What was just
# being started then may be there a moment later. (Not by `runc list`: that makes the folder again.)
WATCH = """
while read -r _; do :; done
for _ in 1 2 3 4 5; do
    for id in $(ls "$1"); do runc --root "$1" delete --force "$id"; done
    sleep 0.3
done
"""
# Held as long as this process lives.
_WATCHED: list[subprocess.Popen[bytes]] = []


class Container:
    """A bundle of its own over a root file system that many share, and the container that `command` makes of it."""

    def __init__(self, folder: Path, name: str, image: Unpacked, environment: dict[str, str]) -> None:
        self._id = f"{name}-{secrets.token_hex(4)}"
        self._states = states_in(folder)
        self._bundle = folder / "bundles" / self._id
        self._bundle.mkdir(parents=True)
        text = json.dumps(bundle(image, environment), indent=1)
        (self._bundle / "config.json").write_text(text, encoding="utf-8")

    @property
    def command(self) -> list[str]:
        """Lasts as long as the container, and has its exit status; 128 and a signal when that ended it."""
        bundle, pid_file = str(self._bundle), str(self._bundle / "pid")
        return ["runc", "--root", str(self._states), "run", "--bundle", bundle, "--pid-file", pid_file, self._id]

    def pid(self) -> int | None:
        """The function's own process, as this machine numbers it."""
        try:
            return int((self._bundle / "pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def kill(self) -> bool:
        """Kills whatever is in it, so that `command` ends; false where there is nothing yet."""
        return _runc(self._states, "kill", self._id, "KILL") == 0

    def remove(self) -> None:
        """What `command` left, which has ended before, so that nothing is started any more."""
        if (self._states / self._id).exists():
            _delete(self._states, self._id)
        shutil.rmtree(self._bundle, ignore_errors=True)


def bundle(image: Unpacked, environment: dict[str, str]) -> dict[str, Any]:
    """runc's config.json for an image; of two values of a variable the function's own holds."""
    root, settings = image.root, image.settings
    words = [*(settings.get("Entrypoint") or []), *(settings.get("Cmd") or [])]
    if not words:
        raise LookupError(f"the image {root} has neither ENTRYPOINT nor CMD")
    of_image = dict(variable.split("=", 1) for variable in settings.get("Env") or [])
    user, _, group = (settings.get("User") or "0").partition(":")
    if not (user.isdigit() and (group or user).isdigit()):
        raise LookupError(f"the image {root} has the user {settings['User']}: give it as numbers")
    no_rights: dict[str, list[str]] = {kind: [] for kind in ("bounding", "effective", "permitted", "ambient")}
    small = ["nosuid", "nodev", "mode=1777", f"size={TMP_MIB}m"]
    read_only = ["bind", "ro", "nosuid", "nodev", "noexec"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": int(user), "gid": int(group or user)},
            "args": words,
            "env": [f"{name}={value}" for name, value in {**of_image, **environment}.items()],
            "cwd": settings.get("WorkingDir") or "/",
            "capabilities": no_rights,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": OPEN_FILES, "soft": OPEN_FILES}],
            "noNewPrivileges": True,
        },
        "root": {"path": str(root), "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "nodev", "noexec"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": small},
            *({"destination": n, "type": "bind", "source": n, "options": read_only} for n in NAMES if Path(n).exists()),
        ],
        "linux": {
            # Without one of its own for the network.
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


@functools.cache
def own(folder: Path) -> None:
    """Once in a process: removes the containers that are in a folder already, and all others when this process is gone,
    however it ended. They would live on: a container does not die with its runc."""
    remove_all(folder)
    states = states_in(folder)
    # Its group is its own: it outlives whoever ends ours.
    _WATCHED.append(
        subprocess.Popen(
            ["sh", "-c", WATCH, "watch", str(states)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    )


def remove_all(folder: Path) -> None:
    """Removes what earlier processes left in a folder."""
    for container in states_in(folder).parent.glob("*/*"):
        _delete(container.parent, container.name)
    shutil.rmtree(folder / "bundles", ignore_errors=True)


def states_in(folder: Path) -> Path:
    """Where runc keeps what it knows of the containers of this process: who watches another one leaves them alone."""
    return folder / "runc" / str(os.getpid())


def _delete(states: Path, id: str) -> None:
    _runc(states, "delete", "--force", id)


def _runc(states: Path, *words: str) -> int:
    no = subprocess.DEVNULL
    return subprocess.run(
        ["runc", "--root", str(states), *words], stdin=no, stdout=no, stderr=no, check=False
    ).returncode
