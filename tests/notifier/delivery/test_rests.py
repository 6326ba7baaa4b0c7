"""What waits for a destination that rests: never back before the rest is over, one after another, and in time."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from notifier.delivery import budget as budget_module
from notifier.delivery import rests as module
from notifier.delivery.budget import Account, Budget, Flow
from notifier.delivery.rests import Rests
from notifier.domain.notification import Priority
from notifier.domain.outcome import Throttled
from tests.builders import HOUR, MINUTE, SECOND
from tests.notifier.delivery.fleet import Fleet, an_account
from tests.running import eventually

URGENT, BULK = Priority.URGENT, Priority.BULK
DAY = timedelta(days=1)


def a_table() -> Rests:
    """In which it is always the same moment."""
    return Rests(rng=Random(7), clock=lambda: 1000.0)


def test_who_has_said_nothing_does_not_rest() -> None:
    rests = a_table()
    rests.add("desktop:webpush", "a.example", MINUTE)
    assert rests.wait("desktop:webpush", "b.example", priority=URGENT, life=DAY) == timedelta(0)
    assert rests.wait("desktop:other", "a.example", priority=URGENT, life=DAY) == timedelta(0)


@given(
    length=st.timedeltas(SECOND, HOUR),
    lives=st.lists(st.timedeltas(timedelta(0), DAY), min_size=1, max_size=200),
    seed=st.integers(),
)
def test_a_message_waits_for_the_rest_and_what_outlives_the_rest_outlives_its_wait(
    length: timedelta, lives: list[timedelta], seed: int
) -> None:
    rests = Rests(rng=Random(seed), clock=lambda: 1000.0)
    rests.add("account", "a.example", length)
    for life in lives:
        wait = rests.wait("account", "a.example", priority=BULK, life=life)
        assert length <= wait < max(life, length + timedelta(microseconds=1))


def test_many_that_wait_come_back_one_after_another_and_urgent_ones_not_behind_bulk() -> None:
    rests = a_table()
    rests.add("account", "a.example", MINUTE)
    waits = [rests.wait("account", "a.example", priority=BULK, life=DAY) for _ in range(2000)]
    in_second = [sum(MINUTE + n * SECOND <= wait < MINUTE + (n + 1) * SECOND for wait in waits) for n in range(45)]
    assert max(in_second) <= 2 * 50
    assert max(waits) > MINUTE + 35 * SECOND
    assert rests.wait("account", "a.example", priority=URGENT, life=DAY) < MINUTE + 2 * SECOND


def test_a_rest_is_prolonged_and_never_cut_short() -> None:
    rests = a_table()
    for length in (MINUTE, SECOND, 2 * MINUTE, timedelta(0)):
        rests.add("account", "a.example", length)
    assert rests.wait("account", "a.example", priority=URGENT, life=DAY) >= 2 * MINUTE


def test_the_table_is_bounded_and_forgets_the_shortest_rests_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 100)
    rests = a_table()
    rests.add("account", "long.example", HOUR)
    for number in range(1000):
        rests.add("account", f"{number}.example", MINUTE)
        assert len(rests._rests) <= 100
    assert rests.wait("account", "long.example", priority=URGENT, life=DAY) >= HOUR
    assert rests.wait("account", "999.example", priority=URGENT, life=DAY) >= MINUTE


# -- in Redis, for the fleet --

PUSH_HOST = "push.example"


def rest_of(budget: Budget, account: Account, destination: str = PUSH_HOST) -> float:
    """Seconds that an urgent message with a day to live waits for it."""
    wait = budget.rests.wait(account.name, destination, priority=URGENT, life=timedelta(days=1))
    return wait.total_seconds()


async def test_a_destination_that_throttles_leaves_the_account_as_fast_as_it_was(fleet: Fleet) -> None:
    free, metered = an_account(), an_account(rate=100)
    budget = fleet.open(free, metered)
    for account in (free, metered):
        for _ in range(5):
            await budget.report(account.name, Throttled("rate", timedelta(minutes=1)), destination=PUSH_HOST)
    assert (await budget.take([free.name], 32, BULK)).count == 32
    assert await budget.look([free.name], URGENT) == Flow(None)
    assert await budget.look([metered.name], URGENT) == Flow(90.0)


async def test_a_destinations_rest_is_known_to_every_process_that_asks_for_budget(fleet: Fleet) -> None:
    account = an_account()
    one, other, late = fleet.open(account), fleet.open(account), fleet.open(account)
    await other.take([account.name], 1, URGENT)
    await one.report(account.name, Throttled("rate", timedelta(seconds=30)), destination=PUSH_HOST)
    await one.report(account.name, Throttled("rate", timedelta(hours=1)), destination="[2001:db8::1]:8443")
    for budget in (one, other):
        await budget.take([account.name], 1, URGENT)
        assert 28 < rest_of(budget, account) < 32
        assert 3590 < rest_of(budget, account, "[2001:db8::1]:8443") < 3602
        assert rest_of(budget, account, "well.example") == 0
    assert (await late.take([account.name], 1, URGENT)).count == 1
    assert rest_of(late, account) > 28


async def test_of_two_rests_of_a_destination_the_longer_one_counts(fleet: Fleet) -> None:
    account = an_account()
    one, other = fleet.open(account), fleet.open(account)
    await one.report(account.name, Throttled("rate", timedelta(seconds=30)), destination=PUSH_HOST)
    await other.report(account.name, Throttled("rate", timedelta(seconds=1)), destination=PUSH_HOST)
    for budget in (one, other):
        await budget.take([account.name], 1, URGENT)
        assert rest_of(budget, account) > 28


async def test_without_a_new_rest_nothing_more_is_asked_of_redis(fleet: Fleet) -> None:
    account = an_account()
    one, other = fleet.open(account), fleet.open(account)
    assert one.redis is not None
    await one.report(account.name, Throttled("rate", timedelta(minutes=1)), destination=PUSH_HOST)
    await other.take([account.name], 1, URGENT)
    before = await commands(one.redis)
    for _ in range(20):
        await other.take([account.name], 1, URGENT)
    assert await commands(one.redis) - before == 20


async def commands(redis: Redis) -> int:
    """How often Redis has run a script."""
    return int((await redis.info("commandstats"))["cmdstat_evalsha"]["calls"])


async def test_what_redis_keeps_of_rests_ends_with_them_and_is_bounded(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget_module, "MOST", 10)
    account = an_account()
    budget = fleet.open(account)
    assert budget.redis is not None
    key = f"notifier:{{budget}}:{account.name}:rests"
    for number in range(15):
        answer = Throttled("rate", timedelta(seconds=30 + number))
        await budget.report(account.name, answer, destination=f"{number}.example")
    assert await budget.redis.zcard(key) == 10
    assert await budget.redis.zscore(key, "14.example") is not None
    assert 30_000 < await budget.redis.pttl(key) <= 44_001
    brief = an_account()
    other = fleet.open(brief)
    await other.report(brief.name, Throttled("rate", timedelta(milliseconds=50)), destination=PUSH_HOST)

    async def is_gone() -> bool:
        assert budget.redis is not None
        return not await budget.redis.exists(f"notifier:{{budget}}:{brief.name}:rests")

    await eventually(is_gone, what="the key to end with its rest")
