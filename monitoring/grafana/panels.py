"""The grammar of our dashboards: what a panel, a row and a dashboard are in Grafana's JSON.

Grafana 11 and 12 read it (schema 39; newer ones migrate it as they load). Nothing here knows a metric: what is asked
stands in `build.py`. A panel's title is the question that it answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"

#: Where the same thing stands in several panels, it has the same colour in all of them.
COLOURS = {
    "sent": "green",
    "delivered": "dark-green",
    "retrying": "yellow",
    "unknown": "purple",
    "failed": "red",
    "expired": "orange",
    "bounced": "dark-red",
    "complained": "dark-purple",
    "suppressed": "#8e8e8e",
    "cancelled": "#5a5a5a",
}

Steps = Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Ask:
    """One query, and what its lines are called."""

    expr: str
    legend: str = ""
    #: Only how it stands now: for tables.
    is_instant: bool = False


@dataclass(frozen=True)
class Panel:
    """One question. `steps` are thresholds: from this value on, this colour; the first holds from nothing."""

    title: str
    description: str
    asks: Sequence[Ask]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 12
    height: int = 8
    steps: Steps = ()
    is_stacked: bool = False
    minimum: float | None = 0
    maximum: float | None = None
    decimals: int | None = None
    alerts: Sequence[str] = ()
    names: dict[str, str] = field(default_factory=dict)
    #: Of a table: columns that mean nothing to a reader.
    hidden: Sequence[str] = ()

    def json(self, id: int, x: int, y: int) -> dict[str, Any]:
        """As Grafana wants it, at its place."""
        return {
            "id": id,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": SOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "links": [runbook(name) for name in self.alerts],
            "targets": [
                {
                    "datasource": SOURCE,
                    "refId": chr(ord("A") + position),
                    "expr": ask.expr,
                    "legendFormat": ask.legend or "__auto",
                    "instant": ask.is_instant,
                    "range": not ask.is_instant,
                    **({"format": self.kind} if self.kind in ("table", "heatmap") else {}),
                }
                for position, ask in enumerate(self.asks)
            ],
            "fieldConfig": {"defaults": self._defaults(), "overrides": self._overrides()},
            "options": self._options(),
            **({"transformations": self._columns()} if self.kind == "table" else {}),
        }

    def _defaults(self) -> dict[str, Any]:
        steps = [(None, GREEN), *self.steps] if self.steps and self.steps[0][0] is not None else list(self.steps)
        defaults: dict[str, Any] = {
            "unit": self.unit,
            "noValue": "none",
            "thresholds": {
                "mode": "absolute",
                "steps": [{"value": value, "color": colour} for value, colour in steps or [(None, GREEN)]],
            },
            "color": {"mode": "thresholds" if self.kind in ("stat", "gauge") else "palette-classic"},
        }
        for key, value in (("min", self.minimum), ("max", self.maximum), ("decimals", self.decimals)):
            if value is not None:
                defaults[key] = value
        if self.kind == "timeseries":
            defaults["custom"] = {
                "lineWidth": 1 if self.is_stacked else 2,
                "fillOpacity": 40 if self.is_stacked else 8,
                "showPoints": "never",
                "spanNulls": False,
                "stacking": {"mode": "normal" if self.is_stacked else "none", "group": "A"},
                "thresholdsStyle": {"mode": "dashed" if self.steps else "off"},
                "axisSoftMin": 0,
            }
        return defaults

    def _overrides(self) -> list[dict[str, Any]]:
        coloured = [
            {
                "matcher": {"id": "byName", "options": name},
                "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
            }
            for name, colour in COLOURS.items()
            if self.kind == "timeseries"
            and any("{{status}}" in ask.legend or "{{what}}" in ask.legend for ask in self.asks)
        ]
        links = [
            {
                "matcher": {"id": "byName", "options": "alertname"},
                "properties": [
                    {
                        "id": "links",
                        "value": [{"title": "What to do", "url": "${runbooks}/${__value.raw}.md", "targetBlank": True}],
                    }
                ],
            }
        ]
        return coloured + (links if self.kind == "table" and any("ALERTS" in ask.expr for ask in self.asks) else [])

    def _options(self) -> dict[str, Any]:
        if self.kind == "timeseries":
            return {
                "legend": {
                    "displayMode": "table",
                    "placement": "bottom",
                    "calcs": ["lastNotNull", "max"],
                    "sortBy": "Max",
                    "sortDesc": True,
                },
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        if self.kind in ("stat", "gauge"):
            reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
            shown = {"colorMode": "background", "graphMode": "area", "textMode": "auto", "justifyMode": "center"}
            return {
                "reduceOptions": reduce,
                "orientation": "auto",
                **(shown if self.kind == "stat" else {"showThresholdMarkers": True}),
            }
        if self.kind == "heatmap":
            return {
                "calculate": False,
                "yAxis": {"unit": self.unit},
                "color": {"mode": "scheme", "scheme": "Turbo", "steps": 64},
                "cellGap": 1,
            }
        return {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": "how many", "desc": True}]}

    def _columns(self) -> list[dict[str, Any]]:
        hidden = dict.fromkeys(("Time", "__name__", *self.hidden), True)
        return [
            {"id": "organize", "options": {"excludeByName": hidden, "renameByName": {"Value": "how many"} | self.names}}
        ]


@dataclass(frozen=True)
class Row:
    """Panels under one heading, laid from left to right."""

    title: str
    panels: Sequence[Panel]


def variable(name: str, label: str, metric: str, key: str) -> dict[str, Any]:
    """A choice among the values that a label has; all of them, if nobody chooses."""
    query = f"label_values({metric}, {key})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "A"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def dashboard(
    name: str,
    *,
    title: str,
    description: str,
    rows: Sequence[Row],
    variables: Sequence[dict[str, Any]] = (),
    runbooks: str,
    span: str = "now-3h",
) -> dict[str, Any]:
    """A whole dashboard, with the alerts drawn into every graph and links to its sisters."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y},
            }
        )
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                y, x, height = y + height, 0, 0
            panels.append(panel.json(len(panels) + 1, x, y))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    source = {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "current": {},
        "hide": 0,
    }
    books = {
        "name": "runbooks",
        "label": "Runbooks at",
        "type": "constant",
        "query": runbooks,
        "current": {"text": runbooks, "value": runbooks},
        "hide": 2,
    }
    return {
        "uid": f"notifier-{name}",
        "title": title,
        "description": description,
        "tags": ["notifier"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": span, "to": "now"},
        "timezone": "browser",
        "templating": {"list": [source, *variables, books]},
        "annotations": {
            "list": [
                {
                    "name": "Critical alerts",
                    "datasource": SOURCE,
                    "enable": True,
                    "iconColor": RED,
                    "expr": 'ALERTS{alertname=~"Notifier.+",alertstate="firing",severity="critical"}',
                    "titleFormat": "{{alertname}}",
                    "textFormat": "{{lane}} {{account}} {{pool}}",
                    "step": "30s",
                }
            ]
        },
        "links": [
            {
                "title": "Notifier",
                "type": "dashboards",
                "tags": ["notifier"],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "panels": panels,
    }


def runbook(alert: str) -> dict[str, Any]:
    """A link to the page that says what to do."""
    return {"title": f"What to do: {alert}", "url": f"${{runbooks}}/{alert}.md", "targetBlank": True}
