"""Containers of unpacked images, started by runc: they see what a function on Lambda sees, and leave nothing behind.

They share the network of this machine, because the Runtime API listens on a loopback address.
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

# The size of the writable /tmp, as Lambda's default.
TMP_MIB = 512
# As on Lambda.
OPEN_FILES = 1024
# Bound from the machine, so that names resolve as outside.
NAMES = ("/etc/hosts", "/etc/resolv.conf")
# Deletes the remaining containers when standard input closes, which means that the owner has ended. It repeats, because
# a container that was just being started may appear later. (Not with `runc list`, which would create the folder again.)
WATCH = """
while read -r _; do :; done
for _ in 1 2 3 4 5; do
    for id in $(ls "$1"); do runc --root "$1" delete --force "$id"; done
    sleep 0.3
done
"""
# Keeps the watchers' standard input open while this process lives.
_WATCHED: list[subprocess.Popen[bytes]] = []


class Container:
    """A bundle over a root file system that several containers share. `command` runs it as a container."""

    def __init__(self, folder: Path, name: str, image: Unpacked, environment: dict[str, str]) -> None:
        self._id = f"{name}-{secrets.token_hex(4)}"
        self._states = states_in(folder)
        self._bundle = folder / "bundles" / self._id
        self._bundle.mkdir(parents=True)
        text = json.dumps(bundle(image, environment), indent=1)
        (self._bundle / "config.json").write_text(text, encoding="utf-8")

    @property
    def command(self) -> list[str]:
        """Runs as long as the container, with its exit status: 128 plus the signal if one ended it."""
        bundle, pid_file = str(self._bundle), str(self._bundle / "pid")
        return ["runc", "--root", str(self._states), "run", "--bundle", bundle, "--pid-file", pid_file, self._id]

    def pid(self) -> int | None:
        """The pid of the function's process outside of the container."""
        try:
            return int((self._bundle / "pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def kill(self) -> bool:
        """Kills the container's processes, so that `command` ends. False if the container has not started."""
        return _runc(self._states, "kill", self._id, "KILL") == 0

    def remove(self) -> None:
        """Removes what `command` left. It must have ended."""
        if (self._states / self._id).exists():
            _delete(self._states, self._id)
        shutil.rmtree(self._bundle, ignore_errors=True)


def bundle(image: Unpacked, environment: dict[str, str]) -> dict[str, Any]:
    """runc's config.json for an image. The function's variables take precedence over the image's."""
    root, settings = image.root, image.settings
    words = [*(settings.get("Entrypoint") or []), *(settings.get("Cmd") or [])]
    if not words:
        raise LookupError(f"the image {root} has neither ENTRYPOINT nor CMD")
    of_image = dict(variable.split("=", 1) for variable in settings.get("Env") or [])
    user, _, group = (settings.get("User") or "0").partition(":")
    if not (user.isdigit() and (group or user).isdigit()):
        raise LookupError(f"the image {root} has the user {settings['User']}: use numeric ids")
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
            # No network namespace: see the module's comment.
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


@functools.cache
def own(folder: Path) -> None:
    """Removes the containers left in a folder, and starts a watcher that removes those of this process when it ends. A
    container does not end with its runc, so it would keep running. Runs once per process."""
    remove_all(folder)
    states = states_in(folder)
    # In a session of its own, so that killing our process group does not end it.
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
    """Removes the containers that earlier processes left in a folder."""
    for container in states_in(folder).parent.glob("*/*"):
        _delete(container.parent, container.name)
    shutil.rmtree(folder / "bundles", ignore_errors=True)


def states_in(folder: Path) -> Path:
    """runc's state folder for the containers of this process. Watchers of other processes do not touch it."""
    return folder / "runc" / str(os.getpid())


def _delete(states: Path, id: str) -> None:
    _runc(states, "delete", "--force", id)


def _runc(states: Path, *words: str) -> int:
    no = subprocess.DEVNULL
    return subprocess.run(
        ["runc", "--root", str(states), *words], stdin=no, stdout=no, stderr=no, check=False
    ).returncode
