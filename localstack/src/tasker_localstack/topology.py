"""Reads the topology, applies overrides, and fills in the {words} of its environments."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).resolve().parents[3] / "infra" / "topology.yaml"


def read(overrides: list[str], file: Path = FILE) -> dict[str, Any]:
    """Each override is `path.to.value=new value`. Overrides of the common environment apply to every function."""
    topology = yaml.safe_load(file.read_text(encoding="utf-8"))
    # YAML shares the value of an anchor; here each user gets a copy.
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
    """Fills in {words}. An unknown word is a fault of the topology."""

    def word(match: re.Match[str]) -> str:
        if match[1] not in words:
            raise SystemExit(f"the topology contains {match[0]}, which is unknown")
        return words[match[1]]

    return re.sub(r"\{([a-z_]+)\}", word, template)
