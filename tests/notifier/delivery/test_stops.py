"""A worker that is told to stop: it takes nothing more on, finishes, and records what it cannot finish."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from sqlalchemy import text

from notifier.domain.notification import OnUnknown
from notifier.store.database import Database
from tests.builders import MINUTE, born, history, row_of, sql
from tests.notifier.delivery.conftest import Bench, a_hint
from tests.running import eventually

AT_ONCE = timedelta(0)


async def test_what_was_begun_is_finished_within_the_grace(bench: Bench, database: Database) -> None:
    ids = await born(database, count=5)
    bench.email.gate.clear()
    deliverer = bench.open()
    await deliverer.admit(a_hint(*ids))
    await bench.email.reached(5)
    bench.email.gate.set()
    await deliverer.drain(grace=MINUTE)
    assert {(await row_of(database, id))["status"] for id in ids} == {"sent"}


async def test_calls_that_outlast_the_grace_are_recorded_as_unknown(bench: Bench, database: Database) -> None:
    """Nobody knows what becomes of them, and the row says so: it does not wait for its lease to end."""
    (again,) = await born(database, on_unknown=OnUnknown.RETRY)
    (held,) = await born(database, on_unknown=OnUnknown.HOLD)
    bench.email.gate.clear()
    deliverer = bench.open()
    await deliverer.admit(a_hint(again, held))
    await bench.email.reached(2)
    await deliverer.drain(grace=AT_ONCE)
    rows = [await row_of(database, id) for id in (again, held)]
    assert [(row["status"], row["reason"], row["due_at"] is not None) for row in rows] == [
        ("unknown", "worker_stopped", True),
        ("unknown", "worker_stopped", False),
    ]


async def test_what_was_answered_before_the_stop_is_recorded_as_it_was(bench: Bench, database: Database) -> None:
    ids = await born(database, count=4)
    bench.email.gate.clear()
    deliverer = bench.open()
    await deliverer.admit(a_hint(*ids))
    await bench.email.reached(4)
    bench.email.gate.set()  # every call is answered now, and none is recorded yet
    await deliverer.drain(grace=MINUTE)
    assert [await history(database, id) for id in ids] == [[("sending", "sent", "accepted")]] * 4


async def test_what_waited_for_a_slot_is_left_as_it_was(bench: Bench, database: Database) -> None:
    """It was not claimed, so another worker takes it at its next hint."""
    bench.email.concurrency = 2
    ids = await born(database, count=20)
    bench.email.gate.clear()
    deliverer = bench.open()
    for start in range(0, 20, 5):
        await deliverer.admit(a_hint(*ids[start : start + 5]))
    await bench.email.reached(2)
    await deliverer.drain(grace=AT_ONCE)
    rows = await sql(database, "SELECT status, count(*) AS n FROM deliveries GROUP BY 1 ORDER BY 1")
    assert {row["status"]: row["n"] for row in rows} == {"queued": 18, "unknown": 2}
    assert len(bench.email.called) == 2


async def test_a_worker_that_stops_takes_nothing_more_on(bench: Bench, database: Database) -> None:
    (id,) = await born(database)
    deliverer = bench.open()
    await deliverer.drain(grace=AT_ONCE)
    await deliverer.deliver(a_hint(id))
    assert (await row_of(database, id))["status"] == "queued"
    assert bench.email.called == []


async def test_stopping_twice_is_no_error(bench: Bench, database: Database) -> None:
    (id,) = await born(database)
    bench.email.gate.clear()
    deliverer = bench.open()
    await deliverer.admit(a_hint(id))
    await bench.email.reached()
    for _ in range(2):
        await deliverer.drain(grace=AT_ONCE)
    assert await history(database, id) == [("sending", "unknown", "worker_stopped")]


async def test_a_result_that_is_being_written_when_the_grace_ends_is_written(bench: Bench, database: Database) -> None:
    """The provider has it. Were the row to say nothing, its lease would end as `unknown`, and it be sent again."""
    (id,) = await born(database)
    bench.email.gate.clear()
    deliverer = bench.open()
    await deliverer.admit(a_hint(id))
    await bench.email.reached()
    async with database.transaction() as other:
        await other.execute(text("SELECT 1 FROM deliveries FOR UPDATE"))
        bench.email.gate.set()

        async def waits_for_the_row() -> bool:
            asked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            return bool(await sql(database, asked))

        await eventually(waits_for_the_row, what="the result to be on its way")
        stopping = asyncio.create_task(deliverer.drain(grace=AT_ONCE))
        done, _ = await asyncio.wait([stopping], timeout=0.2)
        assert not done, "whoever stops the worker closes its connections next"
    await stopping
    assert await history(database, id) == [("sending", "sent", "accepted")]
