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
    chart = _chart(pygal.HorizontalBar, title="Simulated, as a part of what was measured", range=(0, 1.5))
    for pair in found:
        chart.add(pair.what, round(pair.ratio, 2))
    return bytes(chart.render())


def of_overload(tried: Mapping[float, Busiest], per_day: int) -> bytes:
    chart = _chart(
        pygal.XY,
        title=f"Urgent ones while everything is asked for more than planned ({per_day / 1e6:,.0f} million a day)",
        x_title="times the peak that was planned for",
        y_title="ms, POST to provider",
        logarithmic=True,
    )
    chart.add("p50", [(times, round(seen.p50_ms, 1)) for times, seen in tried.items()])
    chart.add("p99", [(times, round(seen.p99_ms, 1)) for times, seen in tried.items()])
    return bytes(chart.render())


def of_limits(plans: Sequence[Plan]) -> bytes:
    chart = _chart(pygal.HorizontalBar, title="Of each limit, what one cell uses at its peak (%)", logarithmic=True)
    chart.x_labels = [name.split(" (")[0] for name in uses(plans[0])]
    for each in plans:
        chart.add(
            f"{each.demand.per_day / 1e6:,.0f} million a day in {each.demand.cells}",
            [round(share * 100, 2) for share in uses(each).values()],
        )
    return bytes(chart.render())
