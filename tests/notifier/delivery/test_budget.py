"""Budgets in a real Redis: rate, share, rest, breaker; what two processes may do together; what one does alone."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from notifier.delivery import budget as module
from notifier.delivery.budget import HEADROOM, THRESHOLD, Account, Budget
from notifier.domain.notification import Priority
from notifier.domain.outcome import AddressGone, Outcome, Permanent, Sent, Throttled, Transient, Unknown
from tests.notifier.delivery.fleet import Fleet, an_account
from tests.running import eventually

URGENT, BULK = Priority.URGENT, Priority.BULK
OUTAGE = Transient("connect_failed")


async def slots(budget: Budget, account: Account, priority: Priority, *, seconds: float) -> list[float]:
    """The moments of all the calls that one process is granted within `seconds`."""
    found: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        grant = await budget.take([account.name], 32, priority)
        found += [grant.slot(place).start for place in range(grant.count)]
        await asyncio.sleep(max(grant.wait, 0.001))
    return [moment for moment in found if moment < until]


def most_in_a_second(moments: list[float]) -> int:
    moments = sorted(moments)
    return max(sum(1 for other in moments if first <= other < first + 1) for first in moments)


# -- the rate --


async def test_an_account_without_a_rate_carries_whatever_it_is_asked(fleet: Fleet) -> None:
    account = an_account()
    grant = await fleet.open(account).take([account.name], 32, BULK)
    assert (grant.count, grant.wait) == (32, 0)
    assert grant.slot(31).start == 0


async def test_four_processes_together_keep_to_the_rate_in_every_second(fleet: Fleet) -> None:
    account = an_account(rate=40)
    workers = [fleet.open(account) for _ in range(4)]
    granted = await asyncio.gather(*(slots(worker, account, URGENT, seconds=2.5) for worker in workers))
    moments = [moment for some in granted for moment in some]
    assert most_in_a_second(moments) <= 40
    assert len(moments) >= 40 * HEADROOM * 2.5 * 0.8  # and use it


async def test_bulk_has_its_share_alone_and_urgent_the_whole_rate(fleet: Fleet) -> None:
    account = an_account(rate=100)
    bulk = await slots(fleet.open(account, share=0.5), account, BULK, seconds=2)
    other = an_account(rate=100)
    urgent = await slots(fleet.open(other, share=0.5), other, URGENT, seconds=2)
    assert len(urgent) / len(bulk) == pytest.approx(2, rel=0.25)


async def test_urgent_finds_budget_at_once_while_bulk_takes_all_it_can(fleet: Fleet) -> None:
    account = an_account(rate=20)
    budget = fleet.open(account)
    busy = asyncio.create_task(slots(budget, account, BULK, seconds=2))
    await asyncio.sleep(1)
    waits = []
    for _ in range(4):
        grant = await budget.take([account.name], 1, URGENT)
        waits.append(grant.wait if not grant.count else grant.start - time.monotonic())
        await asyncio.sleep(0.2)
    assert max(waits) <= module.HORIZON[BULK].total_seconds() + 2 / (20 * HEADROOM)
    await busy


async def test_a_look_takes_nothing(fleet: Fleet) -> None:
    account = an_account(rate=10)
    budget = fleet.open(account)
    for _ in range(50):
        flow = await budget.look([account.name], BULK)
        assert flow.rate == pytest.approx(10 * HEADROOM * 0.8, rel=0.01)
    assert (await budget.take([account.name], 1, BULK)).count == 1
    free = an_account()
    assert (await fleet.open(free).look([free.name], BULK)).rate is None


async def test_calls_made_beyond_a_slot_are_made_up_for(fleet: Fleet) -> None:
    account = an_account(rate=10)
    budget = fleet.open(account)
    await budget.spend(account.name, 4 * 9)
    grant = await budget.take([account.name], 1, URGENT)
    assert grant.count == 0
    assert grant.wait == pytest.approx(3, abs=0.2)


async def test_the_provider_itself_is_asked_for_its_rate_once_for_all(fleet: Fleet) -> None:
    asked = []

    async def ask() -> float:
        asked.append(1)
        return 14.0

    account = Account(f"test:{uuid4()}", rate=100, ask=ask)
    workers = [fleet.open(account) for _ in range(3)]
    for worker in workers:
        await worker.take([account.name], 1, URGENT)

    async def is_known() -> bool:
        return (await workers[2].look([account.name], URGENT)).rate == pytest.approx(14 * HEADROOM, rel=0.01)

    await eventually(is_known, what="the provider's own rate, which is the lower one")
    assert len(asked) == 1


async def test_until_the_provider_has_told_its_rate_it_is_asked_gently(fleet: Fleet) -> None:
    told = asyncio.Event()

    async def ask() -> float:
        await told.wait()
        return 500.0

    account = Account(f"test:{uuid4()}", ask=ask)
    budget = fleet.open(account)
    assert (await budget.take([account.name], 32, URGENT)).count <= module.UNTOLD + 1
    told.set()

    async def is_known() -> bool:
        return (await budget.look([account.name], URGENT)).rate == pytest.approx(500 * HEADROOM, rel=0.01)

    await eventually(is_known, what="the provider's own rate, which is higher")


# -- being told to slow down --


async def test_a_throttled_account_rests_as_long_as_it_asks_for_everybody(fleet: Fleet) -> None:
    account = an_account()
    one, other = fleet.open(account), fleet.open(account)
    await one.report(account.name, Throttled("rate", timedelta(seconds=7)))
    grant = await other.take([account.name], 1, URGENT)
    assert grant.count == 0
    assert grant.wait == pytest.approx(7, abs=0.5)
    assert (await other.look([account.name], BULK)).wait == pytest.approx(7, abs=0.5)


async def test_a_quota_that_may_be_one_devices_rests_only_as_long_as_it_says(fleet: Fleet) -> None:
    account = an_account()
    budget = fleet.open(account)
    await budget.report(account.name, Throttled("quota", timedelta(minutes=1), rest=timedelta(milliseconds=20)))
    await asyncio.sleep(0.05)
    assert (await budget.take([account.name], 1, URGENT)).count == 1


async def test_a_429_halves_the_rate_once_for_a_burst_of_them_and_it_is_won_back(fleet: Fleet) -> None:
    account = an_account(rate=100)
    budget = fleet.open(account)
    at_once = Throttled("rate", rest=timedelta(0))
    for _ in range(5):
        await budget.report(account.name, at_once)
    lowered = (await budget.look([account.name], URGENT)).rate
    assert lowered == pytest.approx(50 * HEADROOM, rel=0.1)
    await asyncio.sleep(1)
    raised = (await budget.look([account.name], URGENT)).rate
    assert lowered is not None
    assert raised is not None
    assert lowered < raised <= 100 * HEADROOM


async def test_without_a_known_rate_the_one_that_was_too_much_is_halved(fleet: Fleet) -> None:
    account = an_account()
    budget = fleet.open(account)
    for _ in range(10):
        assert (await budget.take([account.name], 30, BULK)).count == 30
    await budget.report(account.name, Throttled("rate", rest=timedelta(0)))
    rate = (await budget.look([account.name], URGENT)).rate
    assert rate is not None
    assert 50 <= rate <= 160  # half of the 300, or of that part of them which fell into one of two seconds


# -- the breaker --


async def broken(budget: Budget, account: Account, *, failures: int = THRESHOLD) -> timedelta | None:
    rests = [await budget.report(account.name, OUTAGE) for _ in range(failures)]
    return rests[-1]


async def test_the_breaker_opens_for_all_after_failures_in_a_row(fleet: Fleet) -> None:
    account = an_account()
    one, other = fleet.open(account), fleet.open(account)
    assert await broken(one, account, failures=THRESHOLD - 1) is None
    assert (await other.take([account.name], 1, URGENT)).count == 1
    assert await broken(other, account, failures=1) == module.COOL
    grant = await one.take([account.name], 5, URGENT)
    assert grant.count == 0
    assert 0 < grant.wait <= module.COOL.total_seconds()


@pytest.mark.parametrize("answer", [Sent(), Permanent("no"), AddressGone("gone")])
async def test_any_definite_answer_shows_that_it_is_up(answer: Outcome, fleet: Fleet) -> None:
    account = an_account()
    budget = fleet.open(account)
    await broken(budget, account, failures=THRESHOLD - 1)
    await budget.report(account.name, answer)
    assert await broken(budget, account, failures=THRESHOLD - 1) is None


async def test_what_is_about_one_mailbox_says_nothing_of_the_provider(fleet: Fleet) -> None:
    account = an_account()
    budget = fleet.open(account)
    for _ in range(2 * THRESHOLD):
        assert await budget.report(account.name, Transient("deferred", is_outage=False)) is None
    assert (await budget.take([account.name], 1, URGENT)).count == 1


async def test_a_hanging_provider_is_down_too(fleet: Fleet) -> None:
    account = an_account()
    budget = fleet.open(account)
    for _ in range(THRESHOLD):
        rest = await budget.report(account.name, Unknown("answer_timeout"))
    assert rest == module.COOL


async def test_half_open_one_probe_is_let_through_by_all_and_its_success_closes_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COOL", timedelta(milliseconds=50))
    account = an_account()
    one, other = fleet.open(account), fleet.open(account)
    await broken(one, account)
    await asyncio.sleep(0.06)
    grants = await asyncio.gather(*(budget.take([account.name], 5, URGENT) for budget in (one, other) * 3))
    assert sum(grant.count for grant in grants) == 1
    prober = one if any(grant.count for grant in grants[::2]) else other
    await prober.report(account.name, Sent())
    assert (await one.take([account.name], 5, BULK)).count == 5


async def test_a_probe_that_fails_keeps_it_open_twice_as_long_up_to_a_bound(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COOL", timedelta(milliseconds=30))
    monkeypatch.setattr(module, "LONGEST_COOL", timedelta(milliseconds=100))
    account = an_account()
    budget = fleet.open(account)
    rests = [await broken(budget, account)]
    for _ in range(3):
        await asyncio.sleep(0.11)
        assert (await budget.take([account.name], 9, URGENT)).count == 1
        rests.append(await budget.report(account.name, OUTAGE))
    assert rests == [timedelta(milliseconds=cool) for cool in (30, 60, 100, 100)]


async def test_a_probe_whose_worker_died_is_followed_by_another(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COOL", timedelta(milliseconds=20))
    account = an_account()
    budget = fleet.open(account, probe=0.1)
    await broken(budget, account)
    await asyncio.sleep(0.03)
    assert (await budget.take([account.name], 1, URGENT)).count == 1
    assert (await budget.take([account.name], 1, URGENT)).count == 0
    await asyncio.sleep(0.11)
    assert (await budget.take([account.name], 1, URGENT)).count == 1


async def test_the_next_account_is_used_while_the_first_rests_or_is_broken_but_not_when_it_is_only_busy(
    fleet: Fleet,
) -> None:
    first, second = an_account(rate=1), an_account()
    budget = fleet.open(first, second)
    names = [first.name, second.name]
    assert (await budget.take(names, 1, URGENT)).index == 0
    grant = await budget.take(names, 1, URGENT)
    assert (grant.index, grant.count) == (0, 0)
    await budget.report(first.name, Throttled("daily", timedelta(minutes=15)))
    grant = await budget.take(names, 3, URGENT)
    assert (grant.index, grant.count) == (1, 3)


# -- Redis away --


async def test_without_redis_urgent_ones_keep_the_rate_by_themselves_and_bulk_waits(free_tcp_port: int) -> None:
    account = an_account(rate=20)
    gone = Redis(port=free_tcp_port, socket_connect_timeout=0.2)
    budget = Budget(redis=gone, accounts={account.name: account})
    bulk = await budget.take([account.name], 10, BULK)
    assert bulk.count == 0
    assert bulk.wait > 0
    urgent = await slots(budget, account, URGENT, seconds=2)
    assert most_in_a_second(urgent) <= 20
    assert len(urgent) >= 20
    assert (await budget.look([account.name], BULK)).rate == 0
    await budget.close()


async def test_without_redis_an_account_without_a_rate_goes_on_for_all(free_tcp_port: int) -> None:
    account = an_account()
    budget = Budget(redis=Redis(port=free_tcp_port, socket_connect_timeout=0.2), accounts={account.name: account})
    assert (await budget.take([account.name], 10, BULK)).count == 10
    assert await budget.report(account.name, OUTAGE) is None
    await budget.close()


async def test_an_emptied_redis_is_only_a_budget_begun_anew(fleet: Fleet) -> None:
    account = an_account(rate=5)
    budget = fleet.open(account)
    await budget.take([account.name], 5, URGENT)
    assert budget.redis is not None
    await budget.redis.flushall()
    await budget.redis.script_flush()
    assert (await budget.take([account.name], 1, URGENT)).count == 1
