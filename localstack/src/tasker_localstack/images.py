"""The image map: what to start for the URI of an image.

The file in TASKER_IMAGES maps URIs to unpacked images (made by scripts/images) or to commands in their place. It is
read at each start of a function, because deployments change it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Image:
    """A command to start for a function."""

    command: list[str]
    directory: str
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Unpacked:
    """An image's root file system, and its settings: Entrypoint, Cmd, Env, User, WorkingDir."""

    root: Path
    settings: dict[str, Any]


def unpacked(folder: Path) -> Unpacked:
    """Reads an image that scripts/images has unpacked."""
    image = json.loads((folder / "image.json").read_text(encoding="utf-8"))
    return Unpacked(folder / "rootfs", image["config"])


def image_of(uri: str) -> Image | Unpacked:
    """What to start for an image. Errors name the image map."""
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
        raise LookupError(f"the image map {file} has no valid entry for {uri}: {error!r}") from error
