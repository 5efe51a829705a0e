"""The topology, with the values that a deployment sets differently, and the words of its environments filled in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).resolve().parents[3] / "infra" / "topology.yaml"


def read(overrides: list[str], file: Path = FILE) -> dict[str, Any]:
    """The topology; each override is `path.to.value=new value`. The common environment's hold for every function."""
    topology = yaml.safe_load(file.read_text(encoding="utf-8"))
    # YAML shares what an anchor names; here each has its own.
    for function in topology["functions"].values():
        function["environment"] = dict(function["environment"])
    topology["queues"] = {name: dict(queue) for name, queue in topology["queues"].items()}
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator:
            raise SystemExit(f"--set {override}: expected path.to.value=new value")
        keys = path.split(".")
        _set(topology, keys, yaml.safe_load(text) if "environment" not in path else text)
        if keys[0] == "orchestrator_environment" and len(keys) == 2:
            for function in topology["functions"].values():
                function["environment"][keys[1]] = text
    return topology


def _set(topology: dict[str, Any], keys: list[str], value: Any) -> None:
    place = topology
    for key in keys[:-1]:
        if not isinstance(place.get(key), dict):
            raise SystemExit(f"--set {'.'.join(keys)}: the topology has no {key} there")
        place = place[key]
    new_variable = len(keys) > 1 and keys[-2].endswith("environment")
    if not isinstance(place, dict) or (keys[-1] not in place and not new_variable):
        raise SystemExit(f"--set {'.'.join(keys)}: the topology has no {keys[-1]} there")
    place[keys[-1]] = value


def fill(template: str, words: dict[str, str]) -> str:
    """Fills in {words}; one that is not known is a fault of the topology."""

    def word(match: re.Match[str]) -> str:
        if match[1] not in words:
            raise SystemExit(f"the topology says {match[0]}, which is not known here")
        return words[match[1]]

    return re.sub(r"\{([a-z_]+)\}", word, template)
