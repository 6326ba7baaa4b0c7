"""Reads what is under monitoring/ and docs/: every query and where it stands, every alert, every panel."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "monitoring" / "prometheus"
DASHBOARDS = ROOT / "monitoring" / "grafana" / "dashboards"
RUNBOOKS = ROOT / "docs" / "runbooks"
MONITORING = ROOT / "docs" / "monitoring.md"

#: What Grafana fills in before Prometheus sees a query.
VARIABLES = {
    "$__rate_interval": "5m",
    "$__range": "3h",
    "$lane": ".+",
    "$provider": ".+",
    "$account": ".+",
}


@dataclass(frozen=True)
class Query:
    """One query, and where it stands."""

    where: str
    expr: str


def rules() -> list[dict[str, Any]]:
    """Every rule, recording and alerting."""
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def rule_tests() -> dict[str, list[dict[str, Any]]]:
    """promtool's tests by file."""
    return {path.name: yaml.safe_load(path.read_text())["tests"] for path in sorted(PROMETHEUS.glob("tests/*.yml"))}


def dashboards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every panel that asks something, with its dashboard."""
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                yield name, panel


def queries() -> list[Query]:
    """Every query of rules, dashboards and the table of docs/monitoring.md."""
    found = [Query(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]
    for name, panel in panels():
        found += [Query(f"{name}: {panel['title']}", _filled(target["expr"])) for target in panel["targets"]]
    for name, dashboard in dashboards().items():
        found += [Query(f"{name}: annotation", _filled(each["expr"])) for each in dashboard["annotations"]["list"]]
    for question, query, *_ in table():
        found += [
            Query(f"docs: {question}", expr) for expr in re.findall(r"`([^`]+)`", query) if "notifier camp" not in expr
        ]
    return found


def table() -> list[list[str]]:
    """The rows of question → query → panel → alert."""
    rows = [line for line in MONITORING.read_text().splitlines() if line.startswith("| ")]
    start = next(place for place, row in enumerate(rows) if row.startswith("| question"))
    cells = []
    for row in rows[start + 1 :]:
        if row.startswith("| alert"):
            break
        cells.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]])
    return cells


def pages() -> list[Path]:
    """What people read: the runbooks and the page on monitoring."""
    return [MONITORING, *sorted(RUNBOOKS.glob("*.md"))]


def _filled(expr: str) -> str:
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr
