"""Container images of this machine: what is started for an image's URI.

The file that TASKER_IMAGES names maps URIs to images that were unpacked (by scripts/images), or to commands that stand
for them. It is read at each start: deployments come and go.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Image:
    """A command that is started for a function."""

    command: list[str]
    directory: str
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Unpacked:
    """An image's root file system, and its settings as an image says them: Entrypoint, Cmd, Env, User, WorkingDir."""

    root: Path
    settings: dict[str, Any]


def unpacked(folder: Path) -> Unpacked:
    """What scripts/images made of an image."""
    image = json.loads((folder / "image.json").read_text(encoding="utf-8"))
    return Unpacked(folder / "rootfs", image["config"])


def image_of(uri: str) -> Image | Unpacked:
    """What stands for an image; an error names the file that should say it."""
    file = Path(os.environ.get("TASKER_IMAGES", ""))
    try:
        images = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LookupError(f"the image map {file} cannot be read: {error}") from error
    try:
        entry = images[uri]
        if "unpacked" in entry:
            return unpacked(Path(entry["unpacked"]))
        return Image(list(entry["command"]), entry.get("directory", "/"), dict(entry.get("environment", {})))
    except (KeyError, OSError, ValueError) as error:
        raise LookupError(f"the image map {file} has nothing to start for {uri}: {error!r}") from error
