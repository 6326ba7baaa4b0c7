"""What finds no budget is put off unclaimed; what the provider could not help is no attempt; the sweeper keeps time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from notifier.delivery import budget as module
from notifier.delivery.budget import THRESHOLD, Account, Budget, Flow, Grant
from notifier.delivery.deliver import EXCUSED
from notifier.delivery.send import account_of
from notifier.delivery.sweep import MORE
from notifier.domain.notification import Lane, Priority
from notifier.domain.outcome import Sent, Throttled, Transient
from notifier.embedded.stack import Stack
from notifier.queues import Publisher
from notifier.store.database import Database
from tests.builders import BULK_EMAIL, URGENT_PUSH, a_device, an_address, born, history, make_due, row_of, sql
from tests.notifier.delivery.carrier import Carrier
from tests.notifier.delivery.conftest import Bench, Hinted, a_hint, a_sweeper
from tests.notifier.intake.broker import Broker

DOWN = Transient("connect_failed")


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(stack.start_servers().redis_url)
    await client.flushall()
    yield client
    await client.aclose()


def a_budget(bench: Bench, redis: Redis, *more: Carrier, **rates: float) -> Budget:
    names = [account_of(carrier) for carrier in (bench.email, bench.push, bench.desktop, *more)]
    return Budget(redis=redis, accounts={name: Account(name, rates.get(name.split(":")[1])) for name in names})


# -- no budget --


async def test_without_budget_nothing_is_claimed_and_all_of_it_is_due_again_soon(
    bench: Bench, database: Database, redis: Redis
) -> None:
    ids = await born(database, count=3)
    budget = a_budget(bench, redis)
    await budget.report(account_of(bench.email), Throttled("daily", timedelta(minutes=15)))
    await bench.open(budget=budget).deliver(a_hint(*ids))
    for id in ids:
        row = await row_of(database, id)
        assert (row["status"], row["attempt"], row["fence"]) == ("queued", 0, 0)
        assert row["due_at"] - row["created_at"] > timedelta(minutes=14)
        assert await history(database, id) == []
    assert bench.email.called == []


async def test_it_is_never_put_off_beyond_its_life(bench: Bench, database: Database, redis: Redis) -> None:
    (id,) = await born(database, life=timedelta(minutes=1))
    budget = a_budget(bench, redis)
    await budget.report(account_of(bench.email), Throttled("daily", timedelta(minutes=15)))
    await bench.open(budget=budget).deliver(a_hint(id))
    row = await row_of(database, id)
    assert row["due_at"] == row["expires_at"]


async def test_with_budget_for_some_these_are_sent_in_time_and_the_rest_is_put_off(
    bench: Bench, database: Database, redis: Redis
) -> None:
    ids = await born(database, count=30, lane=BULK_EMAIL)
    await bench.open(budget=a_budget(bench, redis, mail=10)).deliver(a_hint(*ids, lane=BULK_EMAIL))
    rows = await sql(database, "SELECT status, fence FROM deliveries")
    sent = sum(row["status"] == "sent" for row in rows)
    assert 2 <= sent <= 14  # a second's patience at 7.2 a second, and what the machine's slowness adds
    assert sum(row["fence"] for row in rows) == sent == len(bench.email.called)
    assert {row["status"] for row in rows} == {"sent", "queued"}


async def test_a_lane_without_budget_does_not_hold_up_its_worker(
    bench: Bench, database: Database, redis: Redis
) -> None:
    first, second = await born(database, lane=BULK_EMAIL), await born(database, count=50, lane=BULK_EMAIL)
    deliverer = bench.open(budget=a_budget(bench, redis, mail=2))
    await deliverer.deliver(a_hint(*first, *second[:5], lane=BULK_EMAIL))  # now it is known to be short
    await deliverer.admit(a_hint(*second[5:20], lane=BULK_EMAIL))
    began = time.monotonic()
    for start in range(20, 50, 10):
        await deliverer.admit(a_hint(*second[start : start + 10], lane=BULK_EMAIL))
    assert time.monotonic() - began < 2.5  # and not a second's patience for each of the three
    await deliverer.drain(grace=timedelta(seconds=10))


async def test_no_call_is_made_before_its_slot(
    bench: Bench, database: Database, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await born(database, count=8)
    moments: list[float] = []
    granted: list[float] = []

    def note(_: object) -> Sent:
        moments.append(time.monotonic())
        return Sent("id")

    async def take(self: Budget, names: Sequence[str], count: int, priority: Priority) -> Grant:
        grant = await really_take(self, names, count, priority)
        granted.extend(grant.slot(place).start for place in range(grant.count))
        return grant

    really_take = Budget.take
    monkeypatch.setattr(Budget, "take", take)
    bench.email.answer = note
    await bench.open(budget=a_budget(bench, redis, mail=20)).deliver(a_hint(*ids))
    assert len(moments) == len(granted) == 8
    assert all(moment >= slot for moment, slot in zip(sorted(moments), sorted(granted), strict=True))
    assert len(set(granted)) == 8


async def test_every_phone_of_a_recipient_counts(bench: Bench, database: Database, redis: Redis) -> None:
    phones = [{"token": a_device(name).token, "platform": "android"} for name in ("one", "two", "three", "four")]
    first, second = await born(database, count=2, lane=URGENT_PUSH, address=an_address(devices=phones))
    budget = a_budget(bench, redis, phones=1)
    await bench.open(budget=budget).deliver(a_hint(first, lane=URGENT_PUSH))
    grant = await budget.take([account_of(bench.push)], 1, URGENT_PUSH.priority)
    assert grant.count == 0
    assert len(bench.push.messages) == 4
    assert second


# -- the provider's fault --


async def test_while_the_breaker_is_open_a_failure_is_no_attempt(
    bench: Bench, database: Database, redis: Redis
) -> None:
    ids = await born(database, count=THRESHOLD + 3)
    bench.email.always(DOWN)
    bench.email.concurrency = 32
    await bench.open(budget=a_budget(bench, redis)).deliver(a_hint(*ids))
    rows = [await row_of(database, id) for id in ids]
    assert {row["status"] for row in rows} == {"retrying"}
    assert sorted(row["attempt"] for row in rows) == [0] * 4 + [1] * (THRESHOLD - 1)


async def test_a_message_that_its_provider_chokes_on_comes_to_an_end_whatever_the_breaker_does(
    bench: Bench, database: Database, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COOL", timedelta(milliseconds=1))
    monkeypatch.setattr(module, "LONGEST_COOL", timedelta(milliseconds=1))
    (id,) = await born(database, max_attempts=3, life=timedelta(days=1))
    bench.email.always(DOWN)
    budget = a_budget(bench, redis)
    for _ in range(THRESHOLD):
        await budget.report(account_of(bench.email), DOWN)
    deliverer = bench.open(budget=budget, first_wait=0.001)
    for _ in range(EXCUSED + 3):
        await sql(database, "UPDATE deliveries SET status = 'queued' WHERE status = 'retrying'")
        await deliverer.deliver(a_hint(id))
    row = await row_of(database, id)
    assert (row["status"], row["attempt"], len(bench.email.called)) == ("failed", 3, EXCUSED + 3)


async def test_what_is_hinted_while_it_is_open_is_not_called_at_all(
    bench: Bench, database: Database, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COOL", timedelta(seconds=60))
    budget = a_budget(bench, redis)
    for _ in range(THRESHOLD):
        await budget.report(account_of(bench.email), DOWN)
    (id,) = await born(database)
    await bench.open(budget=budget).deliver(a_hint(id))
    assert bench.email.called == []
    assert ((await row_of(database, id))["status"], (await row_of(database, id))["attempt"]) == ("queued", 0)


async def test_meanwhile_the_next_provider_carries_it(
    bench: Bench, database: Database, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COOL", timedelta(seconds=60))
    second = Carrier(name="second")
    budget = a_budget(bench, redis, second)
    for _ in range(THRESHOLD):
        await budget.report(account_of(bench.email), DOWN)
    ids = await born(database, count=5)
    await bench.open(budget=budget, email=(bench.email, second)).deliver(a_hint(*ids))
    assert (bench.email.called, sorted(second.called)) == ([], ids)
    assert {(await row_of(database, id))["provider"] for id in ids} == {"second"}


async def test_a_second_provider_that_rests_is_not_asked_either(bench: Bench, database: Database, redis: Redis) -> None:
    second = Carrier(name="second")
    budget = a_budget(bench, redis, second)
    await budget.report(account_of(second), Throttled("daily", timedelta(minutes=15)))
    bench.email.always(DOWN)
    (id,) = await born(database)
    await bench.open(budget=budget, email=(bench.email, second)).deliver(a_hint(id))
    assert second.called == []
    assert (await row_of(database, id))["reason"] == "connect_failed"


# -- the sweeper --


@pytest.mark.parametrize("rate", [10.0, 200.0])
async def test_the_sweeper_hints_what_the_provider_will_carry_until_it_comes_again(
    rate: float, database: Database, publisher: Publisher, broker: Broker
) -> None:
    async def flow(_: Lane) -> Flow:
        return Flow(rate)

    ids = await born(database, count=1000, lane=BULK_EMAIL)
    await make_due(database, *ids)
    sweeper = a_sweeper(database, publisher, flow)
    began = time.monotonic()
    for _ in range(3):  # the first makes up for two seconds at most, the others for what has passed since
        await sweeper.sweep()
    passed = time.monotonic() - began
    publisher.close()
    sizes = [len(hint.ids) for hint in broker.published()]
    assert 2 * rate <= sum(sizes) <= (2 + passed) * rate * MORE + 3
    assert len(sizes) >= 4  # so that several workers share them


async def test_while_all_providers_rest_nothing_is_hinted_but_what_is_too_late_expires(
    database: Database, publisher: Publisher, hinted: Hinted
) -> None:
    async def flow(_: Lane) -> Flow:
        return Flow(0.0, 60)

    (fresh,) = await born(database)
    (late,) = await born(database, life=timedelta(milliseconds=1))
    await make_due(database, fresh, late)
    await a_sweeper(database, publisher, flow).sweep()
    assert hinted() == {}
    assert (await row_of(database, late))["status"] == "expired"
    assert (await row_of(database, fresh))["status"] == "queued"
