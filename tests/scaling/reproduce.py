"""What was measured on one machine, done again in the simulation: does it come to the same?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

from tests.bench.__main__ import CONNECTIONS, DELIVERIES, REQUESTS
from tests.bench.figures import ALONE, AMONG, AMONG_CAMPAIGN, BATCH, BY_REQUEST, CAMPAIGN, URGENT
from tests.scaling.costs import Measured
from tests.scaling.parts import Seen, Steps
from tests.scaling.simulation import Size, World

#: Of the campaign in tests.bench.figures.
RECIPIENTS = 20_000
#: tests.bench.budget: what was measured there (docs/benchmarks.md).
BUDGET_RATE, BUDGET_SECONDS, BUDGET_BULK = 14, 120, 5000


@dataclass(frozen=True)
class Pair:
    """One figure, as measured and as simulated."""

    what: str
    unit: str
    measured: float
    simulated: float

    @property
    def ratio(self) -> float:
        return self.simulated / self.measured


def per_second(seen: Seen) -> float:
    """Deliveries recorded a second, from the first call on."""
    return len(seen.recorded) / (max(seen.recorded) - min(seen.called))


def percentiles(waits: Sequence[float]) -> tuple[float, float]:
    """p50 and p99."""
    cuts = quantiles(waits, n=100, method="inclusive")
    return cuts[49], cuts[98]


def machine(measured: Measured, **changed: float | bool | None) -> Size:
    """The machine of the figures: everything on a few cores, with who asks and the providers' stand-in."""
    idle = sum(spent for name, spent in measured.idle_ms.items() if name != "load") / 1e3
    settings = {"cores": measured.cores, "idle": idle, "with_load": True} | changed
    return Size(**settings)  # type: ignore[arg-type]  # names and values as in Size


def pairs(measured: Measured) -> list[Pair]:
    """Everything that tests.bench.figures measured of rates and waits."""
    costs = measured.costs()

    def world() -> World:
        return World(costs, machine(measured))

    def batches(world: World) -> Steps:
        for _ in range(DELIVERIES // 1000):
            yield from world.post_batch("email", 1000)

    found: list[Pair] = []

    def rate(work: str, seen: Seen) -> None:
        found.append(Pair(work, "a second", measured.works[work].per_second, per_second(seen)))

    def waits(work: str, seen: Seen) -> None:
        told = measured.works[work].latency_ms
        assert told is not None
        for name, ours, theirs in zip(("p50", "p99"), told, percentiles(seen.urgent), strict=True):
            found.append(Pair(f"{work}: {name}", "ms", ours, theirs * 1e3))

    each = world()
    rate(BY_REQUEST, each.run(each.callers(REQUESTS, CONNECTIONS, "email", is_bulk=True)))
    together = world()
    rate(BATCH, together.run(batches(together)))
    campaign = world()
    rate(CAMPAIGN, campaign.run(campaign.campaign(RECIPIENTS, "push")))
    alone = world()
    waits(ALONE, alone.run(alone.arrivals(10, URGENT / 10, "email", is_bulk=False, evenly=True)))
    among = world()
    urgent = among.arrivals(10, AMONG / 10, "email", is_bulk=False, evenly=True)
    waits(AMONG_CAMPAIGN, among.run(among.campaign(RECIPIENTS, "push"), urgent))
    return found


def budget(measured: Measured) -> tuple[float, int, float, float]:
    """tests.bench.budget: calls a second, most in any one second, and p50 and p99 of urgent ones."""
    world = World(measured.costs(), machine(measured, provider_rate=BUDGET_RATE))

    def bulk() -> Steps:
        for _ in range(BUDGET_BULK // 1000):
            yield from world.post_batch("email", 1000)

    urgent = world.arrivals(1, BUDGET_SECONDS, "email", is_bulk=False, evenly=True)
    seen = world.run(bulk(), urgent, until=BUDGET_SECONDS)
    calls = sorted(seen.called)
    most = max(sum(1 for at in calls[first:] if at < moment + 1) for first, moment in enumerate(calls))
    return len(calls) / (calls[-1] - calls[0]), most, *percentiles(seen.urgent)
