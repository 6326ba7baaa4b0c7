"""The sweeper: whatever is due gets its next step, whatever has become of its hint or its worker."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from notifier.delivery import sweep
from notifier.delivery.sweep import Sweeper
from notifier.domain.delivery import Status
from notifier.domain.notification import LANES, Priority
from notifier.queues import HINT_SIZE, Hint, Publisher, celery_app
from notifier.store.database import Database
from tests.builders import (
    BULK_EMAIL,
    HINT_LIFE,
    HOUR,
    SECOND,
    URGENT_EMAIL,
    born,
    expire,
    history,
    row_of,
    sql,
)
from tests.notifier.delivery.conftest import AGO, Bench, Hinted, a_sweeper
from tests.notifier.intake.broker import Broker


async def wait_of(database: Database, id: int) -> float:
    (row,) = await sql(database, "SELECT due_at - updated_at AS wait FROM deliveries WHERE id = :id", id=id)
    wait: timedelta = row["wait"]
    return wait.total_seconds()


# -- hints --


async def test_a_delivery_whose_hint_was_lost_is_hinted_again_and_due_again_when_that_has_lived(
    sweeper: Sweeper, database: Database, hinted: Hinted
) -> None:
    (urgent,) = await born(database, due_in=AGO)
    (bulk,) = await born(database, lane=BULK_EMAIL, due_in=AGO)
    assert (await sweeper.sweep()).moved == {"queued": 2}
    assert hinted() == {"urgent.email": [urgent], "bulk.email": [bulk]}
    assert [await wait_of(database, id) for id in (urgent, bulk)] == [5.0, 30.0]
    assert await history(database, urgent) == [], "a mere hint is no decision"
    assert (await sweeper.sweep()).moved == {}


async def test_every_lane_is_swept(sweeper: Sweeper, database: Database, hinted: Hinted) -> None:
    ids = {str(lane): await born(database, lane=lane, due_in=AGO) for lane in LANES}
    await sweeper.sweep()
    assert hinted() == ids


async def test_what_waits_for_its_moment_is_left_alone(sweeper: Sweeper, database: Database, hinted: Hinted) -> None:
    for status in (Status.SCHEDULED, Status.RETRYING, Status.SENDING, Status.UNKNOWN):
        await born(database, status=status, due_in=SECOND)
    await born(database, due_in=5 * SECOND)
    for status in (Status.SENT, Status.FAILED, Status.EXPIRED, Status.CANCELLED, Status.SUPPRESSED):
        await born(database, status=status, due_in=None)
    assert (await sweeper.sweep()).moved == {}
    assert hinted() == {}


@pytest.mark.parametrize(
    ("status", "reason"),
    [(Status.SCHEDULED, "hinted"), (Status.RETRYING, "hinted"), (Status.UNKNOWN, "retry_of_unknown")],
)
async def test_what_has_waited_for_its_moment_is_queued_and_hinted(
    status: Status, reason: str, sweeper: Sweeper, database: Database, hinted: Hinted
) -> None:
    (id,) = await born(database, status=status, due_in=AGO)
    await sweeper.sweep()
    assert (await row_of(database, id))["status"] == "queued"
    assert await history(database, id) == [(status, "queued", reason)]
    assert hinted() == {"urgent.email": [id]}


async def test_in_an_empty_queue_a_hint_was_lost_and_its_delivery_need_not_wait_it_out(
    sweeper: Sweeper, database: Database, hinted: Hinted
) -> None:
    (lost,) = await born(database, due_in=3 * SECOND)
    await born(database, due_in=5 * SECOND)  # hinted just now: a worker may have it in its hands
    await sweeper.sweep()
    assert hinted() == {"urgent.email": [lost]}


async def test_while_the_queue_has_hints_nothing_is_hinted_before_its_time(
    sweeper: Sweeper, database: Database, publisher: Publisher, broker: Broker
) -> None:
    publisher.publish([Hint(URGENT_EMAIL, (1,), 4e9, "test")])
    publisher.close()
    await born(database, due_in=SECOND)
    assert (await sweeper.sweep()).moved == {}
    assert len(broker.published()) == 1


async def test_a_full_queue_gets_no_more_and_the_dead_are_found_all_the_same(
    sweeper: Sweeper, database: Database, publisher: Publisher, broker: Broker
) -> None:
    """Beyond that, waiting in the table costs nothing, and waiting in the broker memory."""
    publisher.publish([Hint(URGENT_EMAIL, (1,), 4e9, "test")] * 200)
    publisher.close(timeout=20)
    (alive,) = await born(database, due_in=AGO)
    (dead,) = await born(database, due_in=AGO)
    await expire(database, dead)
    (deserted,) = await born(database, status=Status.SENDING, due_in=AGO)
    assert (await sweeper.sweep()).moved == {"expired": 1, "queued": 1}
    assert (await row_of(database, alive))["due_at"] < (await row_of(database, deserted))["due_at"]
    publisher.close()
    assert alive not in [id for hint in broker.published() for id in hint.ids]


async def test_no_more_is_hinted_than_the_queue_has_room_for(
    sweeper: Sweeper, database: Database, publisher: Publisher, broker: Broker
) -> None:
    publisher.publish([Hint(URGENT_EMAIL, (1,), 4e9, "test")] * 198)
    publisher.close(timeout=20)
    await born(database, count=3 * HINT_SIZE, due_in=AGO)
    assert (await sweeper.sweep()).moved == {"queued": 2 * HINT_SIZE}
    publisher.close()
    assert len(broker.published()) == 200


async def test_without_a_broker_the_dead_are_found_and_the_rest_stays_due(database: Database) -> None:
    with celery_app("redis://127.0.0.1:1/0") as app:
        app.conf.broker_transport_options |= {"max_retries": 0}
        publisher = Publisher(app, life=HINT_LIFE)
        (alive,) = await born(database, due_in=AGO)
        (dead,) = await born(database, due_in=AGO)
        await expire(database, dead)
        assert (await a_sweeper(database, publisher).sweep()).moved == {"expired": 1}
        publisher.close()
    (row,) = await sql(database, "SELECT due_at < now() AS due FROM deliveries WHERE id = :id", id=alive)
    assert row["due"]


async def test_many_are_hinted_in_as_few_hints_as_may_be(
    sweeper: Sweeper, database: Database, publisher: Publisher, broker: Broker
) -> None:
    ids = await born(database, count=2450, due_in=AGO)
    assert (await sweeper.sweep()).moved == {"queued": 2450}
    publisher.close(timeout=20)
    published = broker.published()
    assert sorted(id for hint in published for id in hint.ids) == ids
    assert len(published) == 25


#: A table on a disk that is slow: each statement that changes rows takes 60 ms.
SLOW = (
    "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM pg_sleep(0.06); RETURN NULL; END $$",
    "CREATE TRIGGER slow BEFORE UPDATE ON deliveries FOR EACH STATEMENT EXECUTE FUNCTION be_slow()",
)


async def test_a_sweep_that_takes_long_hints_each_delivery_once(
    sweeper: Sweeper, database: Database, hinted: Hinted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own first hints are older than a hint in somebody's hands by the time that it comes to the last rows."""
    monkeypatch.setattr(sweep, "BATCH", 10)
    ids = await born(database, count=300, due_in=AGO)
    for statement in SLOW:
        await sql(database, statement)
    try:
        assert (await sweeper.sweep()).moved == {"queued": 300}
    finally:
        await sql(database, "DROP FUNCTION be_slow CASCADE")
    assert sorted(hinted()["urgent.email"]) == ids


# -- together --


async def test_two_sweepers_at_once_give_each_delivery_its_next_step_once(
    sweeper: Sweeper, database: Database, publisher: Publisher, hinted: Hinted
) -> None:
    ids = await born(database, count=400, status=Status.SCHEDULED, due_in=AGO)
    swept = await asyncio.gather(*(one.sweep() for one in (sweeper, a_sweeper(database, publisher))))
    assert sum(one.moved.get("queued", 0) for one in swept) == 400
    assert sorted(hinted()["urgent.email"]) == ids
    (row,) = await sql(database, "SELECT count(*) AS n FROM delivery_events")
    assert row["n"] == 400


async def test_what_is_swept_can_be_delivered(
    sweeper: Sweeper, bench: Bench, database: Database, publisher: Publisher, broker: Broker
) -> None:
    """All that a crash leaves behind, swept and delivered until nothing is left to be done: each is sent once."""
    states: list[dict[str, Any]] = [{"status": s} for s in (Status.QUEUED, Status.SCHEDULED, Status.RETRYING)]
    for lane in (URGENT_EMAIL, BULK_EMAIL):
        for state in (*states, {"status": Status.SENDING}):
            await born(database, count=5, lane=lane, due_in=AGO, life=HOUR, **state)
    assert (await sweeper.sweep()).moved == {"queued": 40}
    publisher.close()
    deliverer = bench.open()
    for hint in broker.published() * 2:
        await deliverer.deliver(hint)
    rows = await sql(database, "SELECT status, count(*) AS n FROM deliveries GROUP BY 1")
    assert [(row["status"], row["n"]) for row in rows] == [("sent", 40)]
    assert len(bench.email.called) == len(set(bench.email.called)) == 40
    assert {message.priority for message in bench.email.messages} == set(Priority)


# -- what it counts --


def recovered(lane: str = "urgent.email") -> float:
    return REGISTRY.get_sample_value("notifier_hints_recovered_total", {"lane": lane}) or 0.0


async def test_a_hint_that_was_lost_is_counted_as_recovered(
    sweeper: Sweeper, database: Database, hinted: Hinted
) -> None:
    before = recovered()
    ids = await born(database, count=3, due_in=HINT_LIFE[Priority.URGENT])
    await sql(
        database, "UPDATE deliveries SET due_at = due_at - interval '6 s', updated_at = updated_at - interval '6 s'"
    )
    await sweeper.sweep()
    assert hinted() == {"urgent.email": ids}
    assert recovered() == before + 3


async def test_what_was_put_off_or_has_never_been_hinted_is_not_counted_as_recovered(
    sweeper: Sweeper, database: Database
) -> None:
    before = recovered()
    await born(database, due_in=timedelta(seconds=-0.5))  # put off for want of budget
    await born(database, status=Status.SCHEDULED, due_in=AGO)
    await born(database, status=Status.RETRYING, due_in=AGO)
    assert (await sweeper.sweep()).moved == {"queued": 3}
    assert recovered() == before


async def test_a_hint_that_is_late_in_a_long_queue_is_not_counted_as_lost(
    sweeper: Sweeper, database: Database, broker: Broker
) -> None:
    before = recovered()
    await born(database, due_in=HINT_LIFE[Priority.URGENT])
    await sql(
        database, "UPDATE deliveries SET due_at = due_at - interval '6 s', updated_at = updated_at - interval '6 s'"
    )
    broker.client.lpush(URGENT_EMAIL.queue, "a hint")
    assert (await sweeper.sweep()).moved == {"queued": 1}
    assert recovered() == before


async def test_what_ends_in_the_sweeper_is_an_outcome_as_any_other(sweeper: Sweeper, database: Database) -> None:
    labels = {"lane": "urgent.email", "provider": "none", "category": "other"}
    labels |= {"status": "expired", "reason": "expired_while_queued"}
    before = REGISTRY.get_sample_value("notifier_outcomes_total", labels) or 0.0
    await expire(database, *await born(database, count=2))
    await sweeper.sweep()
    assert REGISTRY.get_sample_value("notifier_outcomes_total", labels) == before + 2
