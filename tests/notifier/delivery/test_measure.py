"""The gauges of beat: what can be read is shown, what cannot is not, and an outage ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from notifier.delivery.budget import THRESHOLD, Account, Budget
from notifier.delivery.measure import Measurer
from notifier.domain.outcome import Transient
from notifier.observe import exposition, metrics
from notifier.queues import Publisher
from notifier.store.database import Database
from tests.builders import LEASE, born, new_sessions
from tests.notifier.intake.broker import Broker

NOWHERE = "redis://127.0.0.1:1/0"
Shown = Callable[[], dict[str, float]]


@pytest.fixture
def shown() -> Iterator[Shown]:
    """The samples of what is known now, by name and the values of their labels."""

    def show() -> dict[str, float]:
        families = text_string_to_metric_families(exposition.page().decode())
        return {
            " ".join((sample.name.removeprefix("notifier_"), *sorted(sample.labels.values()))): sample.value
            for family in families
            for sample in family.samples
        }

    yield show
    for gauge in metrics.KNOWN:
        gauge.tell({})


@pytest.fixture
async def redis(broker: Broker) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(broker.url)
    yield client
    await client.aclose()


def a_measurer(database: Database, publisher: Publisher, redis: Redis, **rates: float) -> Measurer:
    names = ("email:ses", "push:fcm")
    budget = Budget(redis=redis, accounts={name: Account(name, rates.get(name.split(":")[1])) for name in names})
    return Measurer(
        database=database,
        publisher=publisher,
        budget=budget,
        redis=redis,
        lease=LEASE,
        every=timedelta(seconds=5),
        disk=Path.cwd(),
    )


async def test_everything_is_shown_with_the_moment_at_which_it_was_read(
    database: Database, publisher: Publisher, redis: Redis, broker: Broker, shown: Shown
) -> None:
    await born(database, count=3)
    broker.client.lpush("v1.urgent.email", "a hint", "another")
    assert await a_measurer(database, publisher, redis, ses=100).measure()
    now = shown()
    assert (now["lane_depth database urgent.email"], now["lane_depth broker urgent.email"]) == (3, 2)
    assert now["lane_depth bulk.push database"] == now["lane_in_flight bulk.push"] == 0
    assert now["account_rate email:ses"] == pytest.approx(90)
    assert "account_rate push:fcm" not in now, "it may be asked as often as we like"
    assert now["breaker_open email:ses"] == now["campaigns running"] == now["campaign_progress planned"] == 0
    assert now["database_bytes"] > 0
    assert 0 < now["disk_free_ratio"] < 1
    assert now["measured_timestamp_seconds"] > 1_700_000_000


async def test_a_breaker_is_shown_open_until_it_is_closed_and_counted_once(
    database: Database, publisher: Publisher, redis: Redis, shown: Shown
) -> None:
    measurer = a_measurer(database, publisher, redis)
    budget = Budget(redis=redis, accounts={"email:ses": Account("email:ses")})
    before = shown().get("breaker_opened_total email:ses", 0)
    for _ in range(THRESHOLD + 3):
        await budget.report("email:ses", Transient("connect_failed"))
    await measurer.measure()
    assert shown()["breaker_open email:ses"] == 1
    assert shown()["breaker_opened_total email:ses"] == before + 1
    await budget._run("succeeded", ["email:ses"])
    await measurer.measure()
    assert shown()["breaker_open email:ses"] == 0


async def test_a_broker_with_a_limit_shows_how_full_it_is(
    database: Database, publisher: Publisher, redis: Redis, shown: Shown
) -> None:
    measurer = a_measurer(database, publisher, redis)
    await measurer.measure()
    assert "redis_memory_ratio" not in shown()
    try:
        await redis.config_set("maxmemory", 1 << 30)
        await measurer.measure()
        assert 0 < shown()["redis_memory_ratio"] < 1
    finally:
        await redis.config_set("maxmemory", 0)


async def test_without_a_broker_the_rest_is_shown_and_the_moment_stays(
    database: Database, publisher: Publisher, redis: Redis, shown: Shown
) -> None:
    await born(database, count=3)
    assert await a_measurer(database, publisher, redis).measure()
    moment = shown()["measured_timestamp_seconds"]
    away: Redis = Redis.from_url(NOWHERE)
    assert not await a_measurer(database, publisher, away).measure()
    assert "breaker_open email:ses" not in shown(), "what was true before may be true no more"
    assert shown()["lane_depth database urgent.email"] == 3
    assert shown()["measured_timestamp_seconds"] == moment
    assert await a_measurer(database, publisher, redis).measure()
    assert shown()["measured_timestamp_seconds"] > moment
    await away.aclose()


async def test_without_a_database_the_rest_is_shown_and_the_moment_stays(
    database: Database, publisher: Publisher, redis: Redis, shown: Shown
) -> None:
    assert await a_measurer(database, publisher, redis).measure()
    moment = shown()["measured_timestamp_seconds"]
    away = Database("postgresql://ada@127.0.0.1:1/nowhere")
    assert not await a_measurer(away, publisher, redis).measure()
    now = shown()
    assert "lane_depth database urgent.email" not in now
    assert not {name for name in now if name.startswith(("campaigns", "lane_in_flight", "database_bytes"))}
    assert now["lane_depth broker urgent.email"] == now["breaker_open email:ses"] == 0
    assert now["measured_timestamp_seconds"] == moment
    await away.close()


async def test_connections_are_counted_while_they_are_open_and_in_use(database: Database, shown: Shown) -> None:
    before = shown()
    async with database.transaction():
        assert shown()["database_pool in_use"] == before.get("database_pool in_use", 0) + 1
    assert shown()["database_pool in_use"] == before.get("database_pool in_use", 0)
    await database.close()
    assert shown()["database_pool size"] <= before["database_pool size"]


async def test_what_a_server_without_writes_knows_is_not_shown_and_the_next_look_is_at_the_primary(
    database: Database, store_url: str, publisher: Publisher, redis: Redis, shown: Shown
) -> None:
    """A process that only reads would go on for ever to measure what had been the primary before a switchover."""
    await born(database, count=3)
    own = Database(store_url)
    measurer = a_measurer(own, publisher, redis)
    await new_sessions(store_url, read_only=True)
    try:
        assert not await measurer.measure()
        assert "lane_depth database urgent.email" not in shown()
    finally:
        await new_sessions(store_url, read_only=False)
    assert await measurer.measure()
    assert shown()["lane_depth database urgent.email"] == 3
    await own.close()
