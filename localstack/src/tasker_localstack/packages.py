"""The code of functions: a folder with a program, or an entry of the image map."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
# For code in this bucket LocalStack uses the folder that the key names. Uploading, storing and unpacking zips takes it
# longer than the rest of a deployment.
BUCKET = "hot-reload"
# The Python for the handlers of the sample workers: the machine's own by default, as users have it.
PYTHON = os.environ.get("TASKER_WORKER_PYTHON") or "python3"


def package_all(functions: Iterable[str], programs: Path, folder: Path) -> dict[str, Path]:
    """Packages functions in the folder of their LocalStack, which exists as long as they do."""
    return {name: package(programs / name, folder / "packages") for name in functions}


def package(program: Path, folder: Path) -> Path:
    """A folder below `folder` that contains only a program, as `bootstrap`. The same program gives the same folder."""
    if not program.exists():
        raise SystemExit(f"{program} is missing: build the functions first (scripts/localstack up does)")
    stamp = program.stat()
    mark = hashlib.sha256(f"{program.resolve()} {stamp.st_mtime_ns} {stamp.st_size}".encode()).hexdigest()[:16]
    place = folder / f"{program.name}-{mark}"
    if place.exists():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        content = Path(beside) / "content"
        content.mkdir()
        # Stripped of debug information, as on AWS. A script stays unchanged.
        shutil.copy(program, content / "bootstrap")
        if shutil.which("strip"):
            subprocess.run(["strip", "-s", str(content / "bootstrap")], check=False, stderr=subprocess.DEVNULL)
        try:
            content.rename(place)
        except OSError:
            # Another deployment may have been faster.
            if not place.exists():
                raise
    return place


def zipped(package: Path) -> bytes:
    """A package as a zip, as on AWS. The same program gives the same bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        entry = zipfile.ZipInfo("bootstrap", (2000, 1, 1, 0, 0, 0))
        entry.external_attr = 0o100755 << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, (package / "bootstrap").read_bytes())
    return file.getvalue()


def remove_others(kept: dict[str, Path]) -> None:
    """Removes packages that no function uses any more."""
    for folder in {place.parent for place in kept.values()}:
        for place in folder.iterdir():
            if place not in kept.values():
                shutil.rmtree(place, ignore_errors=True)


def write_images(file: Path, programs: Path) -> None:
    """Writes the image map of the workers: the images that scripts/images unpacked if they contain these programs, or
    else commands with these programs and the same entry points."""
    images = unpacked_images(programs) or commands_for_images(programs)
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(images, indent=1), encoding="utf-8")
    os.replace(beside, file)


def describe_images(file: Path) -> str:
    """One line that says whether the workers of an image map run from images or from the checkout."""
    images = json.loads(file.read_text(encoding="utf-8"))
    if any("unpacked" in image for image in images.values()):
        return "workers: runc containers of their images"
    return "workers: the files of this checkout, because no image is built (scripts/images builds them)"


def unpacked_images(programs: Path) -> dict[str, dict[str, str]]:
    """The images of the workers, if both exist, contain these programs and this checkout, and can be started."""
    if os.geteuid() != 0 or not shutil.which("runc"):
        return {}
    images = {}
    for name in ("tasker-worker-rust", "tasker-worker-python"):
        folder = ROOT / "target/images" / name
        try:
            made_of = json.loads((folder / "image.json").read_text(encoding="utf-8"))["made_of"]
            if any(_sum(ROOT / file.format(programs=programs)) != sum for file, sum in made_of.items()):
                return {}
        except (OSError, ValueError):
            return {}
        images[f"{name}:local"] = {"unpacked": str(folder)}
    return images


def _sum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def commands_for_images(programs: Path) -> dict[str, dict[str, Any]]:
    """Commands with the same programs and entry points, without images."""
    worker = str(programs / "tasker-worker")
    environment = {"PYTHONPATH": str(ROOT / "workers/python/src")}
    handlers = str(ROOT / "workers/python/examples/order_handlers.py")
    return {
        "tasker-worker-rust:local": {"command": [worker, "--", str(programs / "tasker-example-rust")]},
        "tasker-worker-python:local": {"command": [worker, "--", PYTHON, handlers], "environment": environment},
    }
