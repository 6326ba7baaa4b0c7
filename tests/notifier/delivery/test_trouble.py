"""When the database goes away, the lease runs out or a result cannot be written: nothing is said that is not so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from io import StringIO
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from notifier.delivery.deliver import Deliverer
from notifier.domain.outcome import Sent
from notifier.store.database import Database
from tests.builders import MINUTE, SECOND, born, history, row_of, sql
from tests.faults.proxy import Wire
from tests.notifier.delivery.carrier import never
from tests.notifier.delivery.conftest import Bench, a_hint
from tests.running import eventually


@pytest.fixture
def wire(store_url: str) -> Iterator[Wire]:
    """The worker's way to PostgreSQL."""
    port = urlsplit(store_url).port
    assert port is not None
    with Wire(port) as wire:
        yield wire


@pytest.fixture
async def wired(wire: Wire, store_url: str) -> AsyncIterator[Database]:
    parts = urlsplit(store_url)
    port = str(parts.port)
    database = Database(store_url.replace(f":{port}/", f":{wire.port}/"), pool_size=2, application="tests")
    yield database
    wire.heal()
    await database.close()


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


# -- the database is away --


async def test_a_database_that_is_away_at_the_claim_costs_a_hint_and_no_call(
    bench: Bench, database: Database, wire: Wire, wired: Database
) -> None:
    (id,) = await born(database)
    deliverer = bench.open(database=wired)
    wire.cut()
    await deliverer.deliver(a_hint(id))
    assert bench.email.called == []
    assert (await row_of(database, id))["status"] == "queued"
    wire.heal()
    await deliverer.deliver(a_hint(id))
    assert (await row_of(database, id))["status"] == "sent"


async def test_a_database_that_is_away_after_the_claim_does_not_make_it_wait_for_its_lease(
    bench: Bench, database: Database, wire: Wire, wired: Database
) -> None:
    """PostgreSQL was started anew, and the pool still has connections to the one that was."""
    (id,) = await born(database)
    deliverer = bench.open(database=wired)
    async with database.transaction() as before_the_call:
        await before_the_call.execute(text("LOCK TABLE suppressions"))
        await deliverer.admit(a_hint(id))

        async def is_claimed() -> bool:
            return bool((await row_of(database, id))["status"] == "sending")

        await eventually(is_claimed, what="it to be claimed")
        wire.cut()
    wire.heal()

    async def is_over() -> bool:
        return bool((await row_of(database, id))["status"] != "sending")

    await eventually(is_over, what="the call to be made")
    assert await history(database, id) == [("sending", "sent", "accepted")]
    assert bench.email.called == [id]


async def test_a_result_is_written_when_the_database_is_back(
    bench: Bench, database: Database, wire: Wire, wired: Database
) -> None:
    ids = await born(database, count=3)
    bench.email.gate.clear()
    deliverer = bench.open(database=wired)
    await deliverer.admit(a_hint(*ids))
    await bench.email.reached(3)
    wire.cut()
    bench.email.gate.set()

    async def have_been_answered() -> bool:
        return bench.email.at_once == 0

    await eventually(have_been_answered, what="every call to be answered")
    assert {(await row_of(database, id))["status"] for id in ids} == {"sending"}
    wire.heal()
    await deliverer.drain(grace=MINUTE)
    assert [await history(database, id) for id in ids] == [[("sending", "sent", "accepted")]] * 3
    assert sorted(bench.email.called) == ids, "and nobody was called again"


async def answered_while_it_is_away(
    bench: Bench, database: Database, wire: Wire, wired: Database
) -> tuple[int, Deliverer]:
    """A delivery that the provider has answered, with a lease of a second, and who holds that answer."""
    (id,) = await born(database)
    bench.email.gate.clear()
    deliverer = bench.open(database=wired, lease=1)
    await deliverer.admit(a_hint(id))
    await bench.email.reached()
    wire.cut()
    bench.email.gate.set()
    return id, deliverer


async def test_a_result_is_written_even_after_its_lease_if_nobody_has_said_otherwise(
    bench: Bench, database: Database, wire: Wire, wired: Database
) -> None:
    """PostgreSQL was away for longer than a lease: to send it again would be a second message by our own doing."""
    id, deliverer = await answered_while_it_is_away(bench, database, wire, wired)

    async def has_ended() -> bool:
        return bool((await sql(database, "SELECT due_at < now() AS ended FROM deliveries"))[0]["ended"])

    await eventually(has_ended, what="the lease to end")
    wire.heal()
    await deliverer.drain(grace=MINUTE)
    assert await history(database, id) == [("sending", "sent", "accepted")]


async def test_a_worker_that_stops_while_the_database_stays_away_leaves_it_to_the_lease(
    bench: Bench, database: Database, wire: Wire, wired: Database, log: StringIO
) -> None:
    id, deliverer = await answered_while_it_is_away(bench, database, wire, wired)
    async with asyncio.timeout(20):
        await deliverer.drain(grace=SECOND)
    row = await row_of(database, id)
    assert (row["status"], row["called_at"] is not None) == ("sending", True), "the sweeper will call it unknown"
    assert "result_not_recorded" in log.getvalue(), "whoever reads the log is told which"


# -- the lease --


async def test_a_call_that_ignores_its_timeout_ends_before_the_lease_does(bench: Bench, database: Database) -> None:
    """Nothing is under way any more when somebody else may claim the row."""
    (id,) = await born(database)
    bench.email.answer = never
    await bench.open(lease=3).deliver(a_hint(id))
    row = await row_of(database, id)
    assert (row["status"], row["reason"]) == ("unknown", "lease_running_out")
    (held,) = await sql(database, "SELECT at - claimed_at < interval '3 s' AS ok FROM delivery_events, deliveries")
    assert held["ok"]


async def test_a_call_that_would_begin_late_in_its_lease_is_not_made(bench: Bench, database: Database) -> None:
    """A database that takes its time between the claim and the call: nobody may have the row twice for that."""
    (id,) = await born(database)
    deliverer = bench.open(lease=1)
    async with database.transaction() as slow:
        await slow.execute(text("LOCK TABLE suppressions"))
        await deliverer.admit(a_hint(id))

        async def is_half_over() -> bool:
            held = "SELECT count(*) AS n FROM deliveries WHERE now() - claimed_at > interval '0.6 s'"
            return bool((await sql(database, held))[0]["n"])

        await eventually(is_half_over, what="half of the lease to go by")
    await deliverer.drain(grace=MINUTE)
    row = await row_of(database, id)
    assert (row["status"], row["reason"], row["attempt"]) == ("retrying", "worker_too_slow", 0)
    assert bench.email.called == []


async def test_a_worker_that_overslept_its_lease_writes_nothing(bench: Bench, database: Database) -> None:
    (id,) = await born(database)
    bench.email.gate.clear()
    deliverer = bench.open()
    await deliverer.admit(a_hint(id))
    await bench.email.reached()
    await sql(database, "UPDATE deliveries SET status = 'unknown', reason = 'worker_lost', fence = fence + 1")
    before = sample("notifier_stale_results_total", lane="urgent.email")
    bench.email.gate.set()
    await deliverer.drain(grace=MINUTE)
    row = await row_of(database, id)
    assert (row["status"], row["reason"], row["provider"]) == ("unknown", "worker_lost", None)
    assert await history(database, id) == []
    assert sample("notifier_stale_results_total", lane="urgent.email") == before + 1


# -- a result that cannot be written --


async def test_a_result_that_cannot_be_written_fails_no_other(bench: Bench, database: Database) -> None:
    """A provider of ours that breaks its contract: its own row is found by its lease, the others are as they are."""
    good = await born(database, count=5)
    (bad,) = await born(database)
    wrong = cast(Any, object())
    bench.email.answer = lambda message: Sent(wrong if message.delivery_id == bad else "id")
    before = sample("notifier_errors_total", where="record", type="TypeError")
    await bench.open().deliver(a_hint(*good, bad))
    assert {(await row_of(database, id))["status"] for id in good} == {"sent"}
    assert (await row_of(database, bad))["status"] == "sending"
    assert sample("notifier_errors_total", where="record", type="TypeError") == before + 1


async def test_results_that_come_together_are_written_together(bench: Bench, database: Database) -> None:
    bench.email.concurrency = 32
    ids = await born(database, count=32)
    bench.email.gate.clear()
    deliverer = bench.open()
    await deliverer.admit(a_hint(*ids))
    await bench.email.reached(32)
    bench.email.gate.set()
    await deliverer.drain(grace=MINUTE)
    statement = "SELECT count(DISTINCT xmin::text) AS transactions, count(*) AS n FROM deliveries WHERE status = 'sent'"
    (written,) = await sql(database, statement)
    assert written["n"] == 32
    assert written["transactions"] <= 3
