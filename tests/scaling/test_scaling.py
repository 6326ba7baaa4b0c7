"""The simulation knows the machine whose figures it has, and the page says what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bench.figures import BATCH, BY_REQUEST, CAMPAIGN
from tests.scaling.__main__ import PAGE, limits
from tests.scaling.capacity import DEMANDS, LIMITS, UNDIVIDED, Demand, busiest, plan, uses
from tests.scaling.costs import Measured
from tests.scaling.parts import Budget
from tests.scaling.reproduce import Pair, pairs
from tests.scaling.simulation import Size, World


@pytest.fixture(scope="module")
def measured() -> Measured:
    return Measured.read()


@pytest.fixture(scope="module")
def reproduced(measured: Measured) -> dict[str, Pair]:
    return {pair.what: pair for pair in pairs(measured)}


@pytest.mark.parametrize("work", [BY_REQUEST, BATCH, CAMPAIGN])
def test_it_comes_to_the_rates_that_were_measured(work: str, reproduced: dict[str, Pair]) -> None:
    assert 0.7 < reproduced[work].ratio < 1.43, reproduced[work]  # it knows no pauses


def test_costs_of_groups_and_deliveries_add_up_to_what_was_measured(measured: Measured) -> None:
    """What the workers of a batch of mails used, simulated with the costs that were taken apart."""
    costs = measured.costs()
    world = World(costs, Size(cores=measured.cores, with_load=True))
    seen = world.run(world.post_batch("email", 1000))
    assert seen.busy["workers"] / 1000 * 1e3 == pytest.approx(measured.works[BATCH].workers_ms, rel=0.25)
    assert seen.busy["postgres"] / 1000 * 1e3 == pytest.approx(measured.works[BATCH].cpu_ms["postgres"], rel=0.35)


def test_every_delivery_comes_to_its_end_once(measured: Measured) -> None:
    world = World(measured.costs(), Size(provider_seconds=0.05))
    seen = world.run(
        world.post_batch("email", 700),
        world.campaign(1500, "push", chunk=400),
        world.arrivals(20, 2, "push", is_bulk=False),
    )
    assert len(seen.recorded) == len(seen.called) == seen.accepted > 2200


def test_bulk_that_waits_does_not_hold_up_urgent_ones(measured: Measured) -> None:
    """With one bulk process that has an hour's work, and one urgent process that has none."""
    world = World(measured.costs(), Size(urgent=1, bulk=1, provider_seconds=0.1))
    seen = world.run(
        world.campaign(100_000, "push"), world.arrivals(10, 10, "email", is_bulk=False, evenly=True), until=12
    )
    assert len(seen.urgent) >= 99
    assert max(seen.urgent) < 0.5


@pytest.mark.parametrize("is_bulk", [False, True])
def test_no_more_slots_are_given_out_than_the_account_allows(is_bulk: bool) -> None:
    budget, slots, now = Budget(14), list[float](), 0.0
    while now < 20:
        found, wait = budget.take(32, now, is_bulk=is_bulk)
        slots += found
        now += max(wait, 0.01)
    most = max(sum(1 for slot in slots if first <= slot < first + 1) for first in slots)
    assert most <= 14
    assert len([slot for slot in slots if slot < 20]) == pytest.approx(20 * 14 * 0.9 * (0.8 if is_bulk else 1), rel=0.1)


def test_ten_times_as_many_need_more_of_everything_and_nobody_needs_less_than_two(measured: Measured) -> None:
    small, large = (plan(measured, Demand(per_day, 30)) for per_day in (10**6, 10**9))
    for name in ("api", "urgent", "bulk", "database_cores", "connections", "log_megabytes", "gigabytes"):
        assert getattr(small, name) < getattr(large, name), name
    assert (small.api, small.urgent, small.bulk, small.database_cores) == (2, 2, 2, 2)


def test_ten_cells_are_ten_of_a_tenth(measured: Measured) -> None:
    whole, tenth = plan(measured, Demand(10**9, 7, cells=10)), plan(measured, Demand(10**8, 7))
    assert replace(whole, demand=tenth.demand, month={}) == replace(tenth, month={})
    assert whole.month["pods"] == 10 * tenth.month["pods"]


def test_a_plan_holds_at_its_peak_and_at_three_times_of_it_bulk_waits(measured: Measured) -> None:
    it = plan(measured, DEMANDS[1])
    held, broken = busiest(measured, it, seconds=6), busiest(measured, it, times=3, seconds=6)
    assert held.recorded > 0.95 * held.asked
    assert held.p99_ms < 1000
    assert broken.recorded < 0.9 * broken.asked
    assert broken.p99_ms < 1000


def test_the_page_has_the_limits_of_these_figures(measured: Measured) -> None:
    """Figures measured anew mean `make scaling WRITE=1`."""
    plans = [plan(measured, demand) for demand in (*DEMANDS, UNDIVIDED)]
    assert uses(plans[0]).keys() == LIMITS.keys()
    assert limits(plans) in PAGE.read_text()
