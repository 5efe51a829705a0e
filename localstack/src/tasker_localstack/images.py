"""Container images of this machine: which command stands for an image's URI.

The file that TASKER_IMAGES names maps URIs to commands. It is read at each start: deployments come and go.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Image:
    """What is started for a function."""

    command: list[str]
    directory: str
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


def image_of(uri: str) -> Image:
    """The command for an image; an error names the file that should have it."""
    file = Path(os.environ.get("TASKER_IMAGES", ""))
    try:
        images = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LookupError(f"the image map {file} cannot be read: {error}") from error
    try:
        entry = images[uri]
        return Image(list(entry["command"]), entry.get("directory", "/"), dict(entry.get("environment", {})))
    except KeyError as error:
        raise LookupError(f"the image map {file} has no command for {uri}") from error
