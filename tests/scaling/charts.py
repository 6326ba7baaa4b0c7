"""The charts of docs/scaling.md, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pygal

from tests.scaling.capacity import Busiest, Plan, uses
from tests.scaling.reproduce import Pair


def _chart(kind: Any, **options: Any) -> Any:
    style = pygal.style.CleanStyle(font_family="sans-serif", background="white", plot_background="white")
    return kind(style=style, js=[], width=800, height=400, legend_at_bottom=True, **options)


def of_pairs(found: Sequence[Pair]) -> bytes:
    chart = _chart(
        pygal.HorizontalBar, title="Simulated, as a part of what was measured", range=(0, 1.5), show_legend=False
    )
    told = list(reversed(found))  # the first on top
    chart.x_labels = [pair.what for pair in told]
    chart.add("ratio", [round(pair.ratio, 2) for pair in told])
    return bytes(chart.render())


def of_overload(tried: Mapping[float, Busiest], per_day: int) -> bytes:
    chart = _chart(
        pygal.XY,
        title=f"Urgent ones, planned for {per_day / 1e6:,.0f} million a day and asked for more",
        x_title="times the peak that was planned for",
        y_title="ms, POST to provider",
        logarithmic=True,
        y_labels=(10, 30, 100, 300, 1_000, 3_000, 10_000),
    )
    chart.add("p50", [(times, round(seen.p50_ms, 1)) for times, seen in tried.items()])
    chart.add("p99", [(times, round(seen.p99_ms, 1)) for times, seen in tried.items()])
    return bytes(chart.render())


def of_limits(plans: Sequence[Plan]) -> bytes:
    chart = _chart(pygal.HorizontalBar, title="Of each limit, what one cell uses at its peak (%)", range=(0, 100))
    told = list(reversed(uses(plans[0])))
    chart.x_labels = [name.split(" (")[0] for name in told]
    for each in plans:
        chart.add(f"{each.peak:,.0f} a second", [round(uses(each)[name] * 100, 1) for name in told])
    return bytes(chart.render())
