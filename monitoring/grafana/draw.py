"""Draws the dashboards without Grafana: `python monitoring/grafana/draw.py --prometheus http://127.0.0.1:9090 --out DIR`.

A stand-in, for a review where there is no Grafana: it asks a Prometheus what the panels ask, and writes one HTML page a
dashboard. It shows whether each query answers, and how the page reads; not how Grafana draws it. Standard library only.
"""

from __future__ import annotations

import argparse
import html
import json
import math
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CELL_WIDTH, CELL_HEIGHT = 62, 34
PALETTE = ["#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#b877d9", "#8ab8ff", "#e02f44", "#37872d", "#fade2a", "#c4162a"]
NAMED = {
    "green": "#73bf69", "dark-green": "#37872d", "yellow": "#f2cc0c", "orange": "#ff9830", "red": "#f2495c",
    "dark-red": "#c4162a", "purple": "#b877d9", "dark-purple": "#8f3bb8", "blue": "#5794f2",
}  # fmt: skip
STYLE = """body{background:#111217;color:#ccccdc;font:13px sans-serif;margin:12px}main{position:relative}
section{position:absolute;background:#181b1f;border:1px solid #2c3235;border-radius:3px;overflow:hidden}
h2{font-size:13px;margin:5px 8px;font-weight:600}h3{margin:8px 2px;font-size:15px;color:#fff}
table{border-collapse:collapse;font-size:11px;margin:0 8px}td,th{padding:1px 9px 1px 0;text-align:left}
.big{display:flex;height:70%;gap:3px;margin:0 6px}.big div{flex:1;display:flex;flex-direction:column;align-items:center;justify-content:center;
color:#111;font-size:20px;font-weight:600}.big small{font-size:11px}.none{color:#777;text-align:center;margin-top:40px}
.legend{font-size:10px;margin:0 8px;height:30px;overflow:hidden}.legend i{display:inline-block;width:9px;height:3px;margin:0 4px 3px 8px}"""


def main() -> int:
    """Draw all four, or the named ones. Exit 1 if a query was refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--minutes", type=float, default=30)
    asked = parser.parse_args()
    refused = []
    for path in sorted((HERE / "dashboards").glob("*.json")):
        ask = Asked(asked.prometheus, asked.minutes * 60)
        (asked.out / f"{path.stem}.html").write_text(page(json.loads(path.read_text()), ask))
        refused += ask.refused
        sys.stderr.write(f"{path.stem}: {ask.answered} queries answered, {ask.empty} of them with nothing\n")
    for problem in refused:
        sys.stderr.write(f"refused: {problem}\n")
    return 1 if refused else 0


class Asked:
    """Asks Prometheus, and keeps count of what came back."""

    def __init__(self, url: str, seconds: float) -> None:
        self.url, self.seconds, self.stop = url, seconds, time.time()
        self.step = max(5, int(seconds / 200))
        self.answered = self.empty = 0
        self.refused: list[str] = []

    def __call__(self, target: dict[str, Any]) -> list[tuple[str, dict[str, str], list[tuple[float, float]]]]:
        """Lines: a name, the labels, and (time, value)s; one value if only how it stands now is asked."""
        expr = target["expr"].replace("$__rate_interval", "1m").replace("$__range", f"{int(self.seconds)}s")
        for name in ("lane", "provider", "account"):
            expr = expr.replace(f"${name}", ".+")
        asked = {
            "query": expr,
            "time": self.stop,
            "start": self.stop - self.seconds,
            "end": self.stop,
            "step": self.step,
        }
        path = "query" if target["instant"] else "query_range"
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(asked)}") as answer:  # noqa: S310  # the address is the caller's
                result = json.load(answer)["data"]["result"]
        except OSError as error:
            self.refused.append(f"{expr}: {error}")
            return []
        self.answered += 1
        self.empty += not result
        return [
            (
                _name(target["legendFormat"], each["metric"]),
                each["metric"],
                _values(each.get("values") or [each["value"]]),
            )
            for each in result
        ]


def page(dashboard: dict[str, Any], ask: Asked) -> str:
    """One dashboard."""
    drawn, bottom = [], 0
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        at = (
            f"left:{place['x'] * CELL_WIDTH}px;top:{place['y'] * CELL_HEIGHT}px;"
            f"width:{place['w'] * CELL_WIDTH - 8}px;height:{place['h'] * CELL_HEIGHT - 8}px"
        )
        bottom = max(bottom, (place["y"] + place["h"]) * CELL_HEIGHT)
        title = html.escape(panel["title"])
        if panel["type"] == "row":
            drawn.append(f'<h3 style="position:absolute;{at}">▾ {title}</h3>')
            continue
        lines = [line for target in panel["targets"] for line in ask(target)]
        draw = {"table": _table, "stat": _big, "gauge": _big}.get(panel["type"], _graph)
        inner = draw(panel, lines) if lines else '<p class="none">none</p>'
        drawn.append(
            f'<section style="{at}" title="{html.escape(panel["description"])}"><h2>{title}</h2>{inner}</section>'
        )
    title = html.escape(dashboard["title"])
    return f'<!doctype html><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style><h3>{title}</h3><main style="height:{bottom}px">{"".join(drawn)}</main>'


def _graph(panel: dict[str, Any], lines: Any) -> str:
    place, defaults = panel["gridPos"], panel["fieldConfig"]["defaults"]
    wide, high = place["w"] * CELL_WIDTH - 60, place["h"] * CELL_HEIGHT - 90
    fixed = {
        each["matcher"]["options"]: each["properties"][0]["value"].get("fixedColor")
        for each in panel["fieldConfig"]["overrides"]
    }
    is_stacked = defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal"
    times = sorted({at for _, _, values in lines for at, _ in values})
    below: dict[float, float] = dict.fromkeys(times, 0.0)
    shapes = []
    for name, _, values in lines:
        if is_stacked:
            known = dict(values)
            floor = dict(below)
            below = {at: below[at] + known.get(at, 0.0) for at in times}
            shapes.append((name, [(at, below[at]) for at in times], [(at, floor[at]) for at in times], values[-1][1]))
        else:
            shapes.append((name, values, [], values[-1][1]))
    top = max((value for _, values, *_ in shapes for _, value in values), default=0) * 1.1 or 1
    first, span = times[0], (times[-1] - times[0]) or 1

    def points(values: Any) -> str:
        return " ".join(f"{(at - first) / span * wide:.1f},{high - value / top * high:.1f}" for at, value in values)

    drawn, legend = [], []
    for place_of, (name, values, floor, now) in enumerate(shapes):
        colour = NAMED.get(fixed.get(name, ""), fixed.get(name) or PALETTE[place_of % len(PALETTE)])
        shape = (
            f'<polygon points="{points([*values, *reversed(floor)])}" fill="{colour}88"'
            if floor
            else f'<polyline points="{points(values)}" fill="none"'
        )
        drawn.append(f'{shape} stroke="{colour}" stroke-width="1.5"/>')
        legend.append(f'<i style="background:{colour}"></i>{html.escape(name)} {_unit(now, defaults["unit"])}')
    for step in defaults["thresholds"]["steps"]:
        if (
            step["value"]
            and step["value"] < top
            and defaults.get("custom", {}).get("thresholdsStyle", {}).get("mode") == "dashed"
        ):
            y = high - step["value"] / top * high
            drawn.append(
                f'<line x1="0" x2="{wide}" y1="{y:.0f}" y2="{y:.0f}" stroke="{NAMED[step["color"]]}" stroke-dasharray="6"/>'
            )
    axis = "".join(
        f'<text x="-5" y="{high - share * high + 4}" text-anchor="end" fill="#999" font-size="10">{_unit(top * share, defaults["unit"])}</text>'
        for share in (0, 0.5, 1)
    )
    return f'<svg width="{wide + 52}" height="{high + 14}"><g transform="translate(48,8)">{axis}{"".join(drawn)}</g></svg><div class="legend">{"".join(legend)}</div>'


def _big(panel: dict[str, Any], lines: Any) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    cells = []
    for name, _, values in lines:
        now = values[-1][1]
        colour = [
            step["color"] for step in defaults["thresholds"]["steps"] if step["value"] is None or now >= step["value"]
        ][-1]
        cells.append(
            f'<div style="background:{NAMED[colour]}">{_unit(now, defaults["unit"])}<small>{html.escape(name)}</small></div>'
        )
    return f'<div class="big">{"".join(cells)}</div>'


def _table(panel: dict[str, Any], lines: Any) -> str:
    hidden = panel["transformations"][0]["options"]["excludeByName"]
    columns = [each for each in dict.fromkeys(key for _, labels, _ in lines for key in labels) if each not in hidden]
    rows = sorted(lines, key=lambda line: -line[2][-1][1])
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns) + (
        "" if "Value" in hidden else "<th>how many</th>"
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(labels.get(column, ''))}</td>" for column in columns)
        + ("" if "Value" in hidden else f"<td>{values[-1][1]:.0f}</td>")
        + "</tr>"
        for _, labels, values in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _name(form: str, labels: dict[str, str]) -> str:
    if form == "__auto":
        return " ".join(value for key, value in labels.items() if key != "__name__")
    for key, value in labels.items():
        form = form.replace(f"{{{{{key}}}}}", value)
    return form


def _values(pairs: Any) -> list[tuple[float, float]]:
    kept = [(float(at), float(value)) for at, value in pairs]
    return [(at, value) for at, value in kept if math.isfinite(value)] or [(kept[-1][0], 0.0)]


def _unit(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "bytes":
        return f"{value / 1e6:.3g} MB"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
