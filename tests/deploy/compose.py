"""Reads docker-compose.yml as compose would, given an environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from tests.deploy.charts import ROOT

FILE = ROOT / "docker-compose.yml"
#: What .env has, by the page's one-liner.
MADE = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "NOTIFIER_SECRET_KEY", "GRAFANA_PASSWORD", "FLOWER_PASSWORD")
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::([-?])([^}]*))?\}")


class Missing(Exception):
    """A variable that must be set is not; says its name and what to do."""


def read(env: Mapping[str, str]) -> dict[str, Any]:
    """The file with its variables filled in. Missing if one is needed and not there."""

    def fill(match: re.Match[str]) -> str:
        name, sign, word = match.groups()
        if name is None:
            return "$"
        if value := env.get(name):
            return value
        if sign == "?":
            raise Missing(f"{name}: {word}")
        assert sign == "-", f"{match[0]} has neither a default nor a word about its absence"
        return str(word)

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(value) for key, value in node.items()}
        if isinstance(node, list):
            return [filled(value) for value in node]
        return _VARIABLE.sub(fill, node) if isinstance(node, str) else node

    found: dict[str, Any] = filled(yaml.safe_load(FILE.read_text()))
    return found


def dotenv() -> dict[str, str]:
    """What the one-liner of docs/deploying.md would write."""
    return {name: f"{number:x}" * 48 for number, name in enumerate(MADE, 10)}


def ours(file: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The services that run our image."""
    return {name: it for name, it in file["services"].items() if it["image"].startswith("notifier:")}
