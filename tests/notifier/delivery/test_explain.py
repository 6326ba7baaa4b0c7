"""Why a delivery waits, where that takes a provider without budget, or a worker that is still at it."""

from __future__ import annotations

from datetime import timedelta

from redis.asyncio import Redis

from notifier.delivery.explain import Told, explain
from notifier.delivery.send import account_of
from notifier.domain.outcome import Throttled
from notifier.queues import Publisher
from notifier.store import database as clock
from notifier.store import deliveries
from notifier.store.database import Database
from tests.builders import LEASE, LIVE, URGENT_EMAIL, born, expire, row_of
from tests.notifier.delivery.conftest import Bench, a_hint, a_sweeper
from tests.notifier.delivery.test_flow import a_budget, redis

__all__ = ["redis"]  # a fixture


async def told(database: Database) -> Told:
    async with database.transaction() as tx:
        since = await clock.now(tx) - timedelta(hours=1)
    return await explain(database, LIVE, 42, template=None, since=since, campaign_ids=[], with_notifications=True)


async def put_off(bench: Bench, database: Database, redis: Redis) -> int:
    """A delivery that has found no budget."""
    (id,) = await born(database, recipient_id=42, address=None)
    budget = a_budget(bench, redis)
    await budget.report(account_of(bench.email), Throttled("daily", timedelta(minutes=15)))
    await bench.open(budget=budget).deliver(a_hint(id))
    return id


async def test_what_waits_for_budget_says_so(bench: Bench, database: Database, redis: Redis) -> None:
    await put_off(bench, database, redis)
    finding = (await told(database)).findings[0]
    assert finding.code == "waits_for_budget"
    assert "waits for its provider's budget" in finding.says


async def test_what_has_expired_for_want_of_budget_says_so(
    bench: Bench, database: Database, redis: Redis, publisher: Publisher
) -> None:
    id = await put_off(bench, database, redis)
    await expire(database, id)
    await a_sweeper(database, publisher).sweep()
    finding = (await told(database)).findings[0]
    assert (finding.code, finding.detail["waited_for"]) == ("expired", "no_budget")
    assert "at last for its provider's budget" in finding.says


async def test_what_a_worker_is_at_says_since_when(database: Database) -> None:
    (id,) = await born(database, recipient_id=42, address=None)
    async with database.transaction() as tx:
        await deliveries.claim(tx, [id], lane=URGENT_EMAIL, lease=LEASE)
    found = await told(database)
    assert found.findings[0].code == "sending"
    row = await row_of(database, id)
    (claimed,) = found.deliveries[0]["timeline"]
    assert (claimed["event"], claimed["at"]) == ("claimed", row["claimed_at"].isoformat())
