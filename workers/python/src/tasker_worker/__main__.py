"""``python3 -m tasker_worker MODULE_OR_FILE…``: imports the handlers and runs them."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

from .runner import run


def main(arguments: list[str]) -> None:
    """Imports modules and files, and runs their handlers."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.exit("usage: python3 -m tasker_worker MODULE_OR_FILE…")
    for argument in arguments:
        load(argument)
    run()


def load(name: str) -> None:
    """Imports a module by its name, or a file by its path."""
    if not name.endswith(".py"):
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        importlib.import_module(name)
        return
    path = os.path.abspath(name)
    if not os.path.isfile(path):
        sys.exit(f"error: there is no file {path}")
    # As when the file is run directly, it can import files beside it.
    sys.path.insert(0, os.path.dirname(path))
    module_name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None, "a .py file always has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    main(sys.argv[1:])
