"""PostgreSQL has no connection left, is slow, or says nothing at all; and its disk is full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.faults import invariants
from tests.faults.house import FaultyHouse
from tests.faults.proxy import Wire
from tests.running import Answer

#: By then a 503 must have come: a caller may wait for his key to be looked up, for those before him, and for himself.
PATIENCE = 40.0
POOL = 5


@pytest.mark.full
async def test_f15_without_a_free_connection_a_503_is_soon_there_and_nothing_leaks(house: FaultyHouse) -> None:
    """F15. Who has connections goes on with them; who needs one says 503 in bounded time, and 202 afterwards."""
    warm = await _posts(house, 50)
    await house.quiescence()
    async with _all_connections(house):
        with_pool = await _posts(house, 20)
    house.kill("api", "urgent")
    house.start("api", "urgent")  # they connect when they are asked for something
    async with _all_connections(house):
        without = await _posts(house, 20)
        ready = await house.get("/readyz")

    accepted = [answer for answer in with_pool if answer.status == 202]
    refused = [answer for answer in (*with_pool, *without) if answer.status != 202]
    assert len(accepted) >= 10
    assert {answer.status for answer in without} == {503}
    assert {answer.status for answer in refused} == {503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert ready.status == 503
    await house.accepting()
    # Fifty times as many at once as there are connections in the pool: none of those may be missing.
    after = await _posts(house, 250)
    assert {answer.status for answer in after} == {202}
    ids = [answer.body["id"] for answer in (*warm, *accepted, *after)]
    fates = await invariants.hold(house, answered=ids)
    assert invariants.by_status(fates) == {"sent": len(ids)}
    held = await _connections(house)
    assert held["notifier-api"] <= POOL
    assert held["notifier-worker"] <= POOL * 5  # two urgent, two bulk, one control
    idle = await house.sql("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'")
    assert idle[0][0] == 0


@pytest.mark.full
async def test_f15_a_slow_postgresql_makes_answers_slow_and_no_worse(house: FaultyHouse, wire: Wire) -> None:
    """F15. Every answer of the server takes 0.2 s: those that come together still commit together."""
    wire.delay(0.2)
    # One by one they would take half a minute: a transaction has half a dozen statements.
    told = await asyncio.wait_for(_posts(house, 40), 15)
    wire.heal()
    assert {answer.status for answer in told} == {202}
    fates = await invariants.hold(house, answered=[answer.body["id"] for answer in told])
    assert invariants.by_status(fates) == {"sent": 40}


@pytest.mark.full
async def test_f15_a_postgresql_that_says_nothing_means_503_and_not_a_caller_who_waits_for_ever(
    house: FaultyHouse, wire: Wire
) -> None:
    """F15. Half-open, as when its machine has lost its power. What was not answered 202 may be asked again."""
    keys = [f"order-{number}" for number in range(10)]
    wire.half_open()
    told = await asyncio.gather(*(_timely(house, key) for key in keys))
    wire.heal()
    assert {answer.status for answer in told} == {503}
    await house.accepting()

    again = await asyncio.gather(*(_timely(house, key) for key in keys))
    assert {answer.status for answer in again} == {202}
    after = await _posts(house, 100)
    assert {answer.status for answer in after} == {202}
    fates = await invariants.hold(house, answered=[answer.body["id"] for answer in (*again, *after)])
    assert invariants.by_status(fates) == {"sent": 110}


@pytest.mark.full
async def test_f15_commits_that_hang_for_longer_than_a_lease_double_nothing(house: FaultyHouse) -> None:
    """F15. A disk or a synchronous replica stalls: what is read is true, and what was done cannot be written down.

    Who has waited for a claim that long calls nobody on it, and who was called is not called again.
    """
    await house.faults({"action": "delay", "seconds": 0.3})
    ids = await house.post_mails(600)
    await house.calls_made(100)
    house.kill("beat", "control")
    async with _no_commits(house):
        over = "SELECT min(due_at) < now() - interval '1 s' FROM deliveries WHERE status = 'sending'"
        await house.until_sql(over, what="leases to end")
        (row,) = await house.sql("SELECT now() AS now")
        house.start("control", "beat")
        held_up = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_start > $1"
        await house.until_sql(held_up, row["now"], what="the sweeper to wait for a commit")
    fates = await invariants.hold(house, answered=ids)
    assert invariants.by_status(fates) == {"sent": 600}
    assert {fate.received for fate in fates.values()} == {1}


@asynccontextmanager
async def _no_commits(house: FaultyHouse) -> AsyncIterator[None]:
    """Every commit waits for a replica that is not there."""
    try:
        await _wait_for_replica(house, "'nobody'")
        yield
    finally:
        await _wait_for_replica(house, "''")


async def _wait_for_replica(house: FaultyHouse, name: str) -> None:
    await house.sql(f"ALTER SYSTEM SET synchronous_standby_names = {name}")
    await house.sql("SELECT pg_reload_conf()")


@pytest.fixture
async def wire(house: FaultyHouse) -> AsyncIterator[Wire]:
    """The API's way to PostgreSQL, with connections that are open already."""
    place = urlsplit(house.database_url)
    assert place.port is not None
    with Wire(place.port) as wire:
        netloc = f"{place.username}:{place.password}@127.0.0.1:{wire.port}"
        house.kill("api")
        house.start("api", env={"NOTIFIER_DATABASE_URL": place._replace(netloc=netloc).geturl()})
        assert {answer.status for answer in await _posts(house, 20)} == {202}
        await house.quiescence()
        await house.reset()
        yield wire
        house.kill("api")


async def _timely(house: FaultyHouse, key: str | None = None) -> Answer:
    """The answer to a notification, which must come before patience ends."""
    return await asyncio.wait_for(house.send(idempotency_key=key), PATIENCE)


async def _posts(house: FaultyHouse, count: int) -> list[Answer]:
    return await asyncio.gather(*(_timely(house) for _ in range(count)))


@asynccontextmanager
async def _all_connections(house: FaultyHouse) -> AsyncIterator[None]:
    """Take every connection that the server has left to give."""
    async with AsyncExitStack() as hogs:
        while True:
            try:
                hog = await asyncpg.connect(house.database_url)
            except asyncpg.TooManyConnectionsError:
                break
            hogs.push_async_callback(hog.close)
        yield


async def _connections(house: FaultyHouse) -> dict[str, int]:
    rows = await house.sql("SELECT application_name, count(*) FROM pg_stat_activity GROUP BY 1")
    return {row[0]: row[1] for row in rows}
