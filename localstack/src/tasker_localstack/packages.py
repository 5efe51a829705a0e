"""What stands for a function's code: a folder with its program, or the command that is started for an image."""

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
# Of code that is said to be in this bucket LocalStack takes the folder that the key names, as it is. To upload, store
# and unpack zips takes it longer than all the rest of a deployment.
BUCKET = "hot-reload"
# What handlers of the sample workers are run by: any Python will do, and the machine's own is what users have.
PYTHON = os.environ.get("TASKER_WORKER_PYTHON", "python3")


def package_all(functions: Iterable[str], programs: Path, folder: Path) -> dict[str, Path]:
    """The packages of functions, in the folder of a LocalStack, which lives as long as they do."""
    return {name: package(programs / name, folder / "packages") for name in functions}


def package(program: Path, folder: Path) -> Path:
    """A folder below `folder` that holds a program alone, as `bootstrap`. The same program gives the same one."""
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
        # Without what a debugger needs, as it is deployed elsewhere. What is no binary is taken as it is.
        shutil.copy(program, content / "bootstrap")
        if shutil.which("strip"):
            subprocess.run(["strip", "-s", str(content / "bootstrap")], check=False, stderr=subprocess.DEVNULL)
        try:
            content.rename(place)
        except OSError:
            # Another deployment was faster.
            if not place.exists():
                raise
    return place


def zipped(package: Path) -> bytes:
    """A package as it is uploaded elsewhere: a zip with its program. The same program gives the same bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        entry = zipfile.ZipInfo("bootstrap", (2000, 1, 1, 0, 0, 0))
        entry.external_attr = 0o100755 << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, (package / "bootstrap").read_bytes())
    return file.getvalue()


def remove_others(kept: dict[str, Path]) -> None:
    """Takes away what no function is started from any more."""
    for folder in {place.parent for place in kept.values()}:
        for place in folder.iterdir():
            if place not in kept.values():
                shutil.rmtree(place, ignore_errors=True)


def write_images(file: Path, programs: Path) -> None:
    """What stands here for the images of the workers: what scripts/images unpacked, if it was made of these programs;
    else these programs, started by the same entry point."""
    images = unpacked_images(programs) or commands_for_images(programs)
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(images, indent=1), encoding="utf-8")
    os.replace(beside, file)


def said_of_images(file: Path) -> str:
    """One line on what the workers of an image map are, so that nobody takes it for more."""
    images = json.loads(file.read_text(encoding="utf-8"))
    if any("unpacked" in image for image in images.values()):
        return "workers: the root file systems of their images, by their own entry points, in containers of runc"
    return (
        "workers: the files of this checkout, started by their entry points; no image was built (scripts/images does)"
    )


def unpacked_images(programs: Path) -> dict[str, dict[str, str]]:
    """The images of the workers, where both are there, made of these programs and this checkout, and can be started."""
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
    """The same programs, started by the same entry points, without an image."""
    worker = str(programs / "tasker-worker")
    environment = {"PYTHONPATH": str(ROOT / "workers/python/src")}
    handlers = str(ROOT / "workers/python/examples/order_handlers.py")
    return {
        "tasker-worker-rust:local": {"command": [worker, "--", str(programs / "tasker-example-rust")]},
        "tasker-worker-python:local": {"command": [worker, "--", PYTHON, handlers], "environment": environment},
    }
