"""Simulate what was measured, then what was not: the tables and charts of docs/scaling.md.

python -m tests.scaling [--write]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tests.scaling.capacity import CONCURRENCY, DEMANDS, UNDIVIDED, Busiest, Plan, busiest, plan, uses
from tests.scaling.costs import Measured
from tests.scaling.reproduce import BUDGET_RATE, Pair, budget, pairs
from tests.tables import insert

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "scaling.md"
#: What tests.bench.budget measured (docs/benchmarks.md): most in a second, and p50, p99 of urgent ones.
BUDGET_MEASURED = (14, 209, 304)
#: A plan's peak is tried this many times over.
TIMES = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)
#: Of DEMANDS, the one whose limits are looked for.
TRIED = 1


def rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)) + "\n"


def reproduced(found: Sequence[Pair], calls: tuple[float, int, float, float]) -> str:
    body = [
        [pair.what, f"{pair.measured:,.0f} {pair.unit}", f"{pair.simulated:,.0f} {pair.unit}", f"{pair.ratio:.2f}"]
        for pair in found
    ]
    _, most, p50, p99 = calls
    what = f"a provider of {BUDGET_RATE} a second, 5,000 mails waiting, one urgent a second"
    for name, unit, ours, theirs in zip(
        (f"{what}: most in a second", "the same: p50 of urgent", "the same: p99"),
        ("calls", "ms", "ms"),
        BUDGET_MEASURED,
        (float(most), p50 * 1e3, p99 * 1e3),
        strict=True,
    ):
        body.append([name, f"{ours} {unit}", f"{theirs:,.0f} {unit}", f"{theirs / ours:.2f}"])
    return rows(["what", "measured", "simulated", "ratio"], body)


def planned(plans: Sequence[Plan], tried: Sequence[Busiest]) -> str:
    def each(name: str, *values: str) -> list[str]:
        return [name, *values]

    both = list(zip(plans, tried, strict=True))
    body = [
        each("cells", *(f"{it.demand.cells}" for it in plans)),
        each("at the peak, a second, in one cell", *(f"{it.peak:,.0f}" for it in plans)),
        each("API pods, of one process", *(f"{it.api}" for it in plans)),
        each(f"urgent pods, of {CONCURRENCY} processes", *(f"{it.urgent}" for it in plans)),
        each(f"bulk pods, of {CONCURRENCY} processes", *(f"{it.bulk}" for it in plans)),
        each("connections to PostgreSQL, at most", *(f"{it.connections:,}" for it in plans)),
        each("its cores (and as many for a standby)", *(f"{it.database_cores}" for it in plans)),
        each("its transactions a second", *(f"{it.transactions:,.0f}" for it in plans)),
        each("its log, MB a second", *(f"{it.log_megabytes:.1f}" for it in plans)),
        each("writes to its disk a second, at most", *(f"{it.writes:,.0f}" for it in plans)),
        each("cores of Redis", *(f"{it.redis_cores:.2f}" for it in plans)),
        each("kept for, days", *(f"{it.demand.days}" for it in plans)),
        each("deliveries on its disk, million", *(f"{it.rows / 1e6:,.0f}" for it in plans)),
        each("disk, GB (as much again for log and rebuilds)", *(f"{it.gigabytes:,.0f}" for it in plans)),
        each("to be deleted, a second", *(f"{it.deleted:,.0f}" for it in plans)),
        *(each(f"a month, all cells: {name}", *(f"{it.month[name]:,.0f}" for it in plans)) for name in plans[0].month),
        each(
            "simulated peak: recorded of what was asked",
            *(f"{seen.recorded / seen.asked:.0%}" for _, seen in both),
        ),
        each("simulated peak: urgent p50, p99", *(f"{seen.p50_ms:.0f}, {seen.p99_ms:.0f} ms" for _, seen in both)),
        each(
            "simulated peak: use of API, workers, database",
            *(", ".join(f"{share:.0%}" for share in seen.use.values()) for _, seen in both),
        ),
    ]
    return rows(["", *(f"{it.demand.per_day / 1e6:,.0f} million a day" for it in plans)], body)


def limits(plans: Sequence[Plan]) -> str:
    used = [uses(plan) for plan in plans]
    body = [[name, *(_bold(use[name], max(use.values())) for use in used)] for name in used[0]]
    head = ["of one cell's", *(f"{it.demand.per_day / 1e6:,.0f} million, cells: {it.demand.cells}" for it in plans)]
    return rows(head, body)


def _bold(share: float, largest: float) -> str:
    return f"**{share:.0%}**" if share == largest else f"{share:.0%}"


def overload(tried: Sequence[Busiest]) -> str:
    body = [
        [f"{times:g}", f"{seen.asked:,.0f}", f"{seen.recorded:,.0f}", f"{seen.p50_ms:.0f}", f"{seen.p99_ms:.0f}"]
        + [f"{share:.0%}" for share in seen.use.values()]
        for times, seen in zip(TIMES, tried, strict=True)
    ]
    head = ["times the peak", "asked a second", "recorded a second", "urgent p50, ms", "p99, ms"]
    return rows([*head, "API", "workers", "database"], body)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.scaling", description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="put tables and charts into docs")
    write = parser.parse_args().write
    measured = Measured.read()
    plans = [plan(measured, demand) for demand in DEMANDS]
    found = pairs(measured)
    tables = {"reproduced": reproduced(found, budget(measured)), "limits": limits([*plans, plan(measured, UNDIVIDED)])}
    print(tables["reproduced"], flush=True)  # the rest takes a minute
    tables["planned"] = planned(plans, [busiest(measured, each) for each in plans])
    print(tables["planned"], tables["limits"], sep="\n", flush=True)
    tried = [busiest(measured, plans[TRIED], times=times) for times in TIMES]
    tables["overload"] = overload(tried)
    print(tables["overload"])
    if write:
        text = PAGE.read_text()
        for name, table in tables.items():
            text = insert(text, table, name=name)
        PAGE.write_text(text)
        from tests.scaling import charts  # pygal meddles with how modules are found

        images = {
            "scaling-reproduced": charts.of_pairs(found),
            "scaling-overload": charts.of_overload(dict(zip(TIMES, tried, strict=True)), plans[TRIED].demand.per_day),
            "scaling-limits": charts.of_limits(plans[: TRIED + 1]),
        }
        for name, image in images.items():
            (DOCS / "images" / f"{name}.svg").write_bytes(image)


if __name__ == "__main__":
    main()
