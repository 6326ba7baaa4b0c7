"""Rows whose moment has come: found by lane, locked, and given their next step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from notifier.domain.delivery import FOLLOWS, Status, Step
from notifier.domain.notification import OnUnknown
from notifier.store import timelines, waits
from notifier.store.database import Database
from notifier.store.waits import Due
from tests.builders import BULK_EMAIL, HOUR, SECOND, URGENT_EMAIL, born, expire, history, make_due, row_of, sql

AGO = timedelta(seconds=-1)


async def due(database: Database, **how: Any) -> list[int]:
    async with database.transaction() as tx:
        return [row.id for row in await waits.due(tx, URGENT_EMAIL, **{"limit": 100} | how)]


async def test_what_is_due_is_found_earliest_first_and_no_more_than_asked_for(database: Database) -> None:
    late = await born(database, due_in=timedelta(seconds=-1))
    early = await born(database, due_in=timedelta(seconds=-9))
    await born(database, due_in=SECOND * 5)
    await born(database, status=Status.SENT, due_in=None)
    assert await due(database) == early + late
    assert await due(database, limit=1) == early


async def test_another_lane_is_left_alone(database: Database) -> None:
    await born(database, lane=BULK_EMAIL, due_in=AGO)
    assert await due(database) == []


async def test_ended_leases_can_be_left_out(database: Database) -> None:
    await born(database, status=Status.SENDING, due_in=AGO)
    queued = await born(database, due_in=AGO)
    assert await due(database, with_leases=False) == queued


async def test_a_due_row_tells_how_far_it_has_come(database: Database) -> None:
    (id,) = await born(database, status=Status.SENDING, due_in=AGO, max_attempts=5, on_unknown=OnUnknown.HOLD)
    statement = (
        "UPDATE deliveries SET attempt = 2, unknowns = 1, called_at = now(), claimed_at = now(), settled = '{a}'"
    )
    await sql(database, statement)
    async with database.transaction() as tx:
        (row,) = await waits.due(tx, URGENT_EMAIL, limit=1)
    standing = row.standing
    assert (row.id, standing.status, standing.on_unknown) == (id, Status.SENDING, OnUnknown.HOLD)
    assert (standing.attempt, standing.max_attempts, standing.unknowns) == (2, 5, 1)
    assert standing.is_called
    assert standing.is_sent_to_some
    assert row.claimed_at is not None


async def test_two_sweepers_at_once_share_no_row(database: Database) -> None:
    ids = await born(database, count=50, due_in=AGO)
    async with database.transaction() as one, database.transaction() as other:
        first = await waits.due(one, URGENT_EMAIL, limit=30)
        async with asyncio.timeout(5):
            second = await waits.due(other, URGENT_EMAIL, limit=30)
    assert len(first) == 30
    assert sorted(row.id for row in first + second) == ids


async def test_without_room_for_hints_only_the_dead_and_the_deserted_are_found(database: Database) -> None:
    dead = await born(database)
    await expire(database, *dead)
    deserted = await born(database, status=Status.SENDING, due_in=AGO)
    for status in (Status.QUEUED, Status.SCHEDULED, Status.RETRYING, Status.UNKNOWN):
        await born(database, status=status, due_in=AGO)
    assert sorted(await due(database, with_hints=False)) == sorted(dead + deserted)
    assert len(await due(database)) == 6


async def test_only_what_is_queued_is_found_early(database: Database) -> None:
    queued = await born(database, due_in=3 * SECOND)
    await born(database, due_in=5 * SECOND)
    for status in (Status.SCHEDULED, Status.RETRYING, Status.SENDING, Status.UNKNOWN):
        await born(database, status=status, due_in=3 * SECOND)
    assert await due(database, early=4 * SECOND) == queued


# -- the next step --


async def step(database: Database, decide: Callable[[Due], Step], **details: Any) -> None:
    async with database.transaction() as tx:
        rows = await waits.due(tx, URGENT_EMAIL, limit=100)
        await waits.step(tx, [(row, decide(row)) for row in rows], details={row.id: details for row in rows})


async def test_a_repeated_hint_writes_no_history_and_keeps_the_reason(database: Database) -> None:
    (id,) = await born(database, due_in=AGO)
    await sql(database, "UPDATE deliveries SET reason = 'worker_lost_before_call'")
    at = (await row_of(database, id))["expires_at"]
    await step(database, lambda _: Step(Status.QUEUED, "hinted", at))
    row = await row_of(database, id)
    assert (row["status"], row["due_at"], row["reason"]) == ("queued", at, "worker_lost_before_call")
    assert await history(database, id) == []


async def test_a_step_to_another_state_is_written_with_its_event(database: Database) -> None:
    (id,) = await born(database, due_in=AGO)
    await step(database, lambda _: Step(Status.EXPIRED, "expired_while_queued"), waited_in="queued")
    row = await row_of(database, id)
    assert (row["status"], row["reason"], row["due_at"]) == ("expired", "expired_while_queued", None)
    async with database.transaction() as tx:
        (event,) = (await timelines.events(tx, [id]))[id]
    assert (event["status_from"], event["status_to"], event["detail"]) == ("queued", "expired", {"waited_in": "queued"})


async def test_a_lease_that_ended_in_the_call_counts_an_unknown(database: Database) -> None:
    (id,) = await born(database, status=Status.SENDING, due_in=AGO)
    await step(database, lambda _: Step(Status.UNKNOWN, "worker_lost"))
    assert (await row_of(database, id))["unknowns"] == 1
    await make_due(database, id)
    await step(database, lambda _: Step(Status.UNKNOWN, "left_as_it_is"))
    row = await row_of(database, id)
    assert (row["unknowns"], row["reason"], row["due_at"]) == (1, "worker_lost", None)


async def test_many_rows_take_each_its_own_step(database: Database) -> None:
    ids = await born(database, count=30, due_in=AGO)
    await step(
        database, lambda row: Step(Status.EXPIRED, f"r{row.id}") if row.id % 2 else Step(Status.QUEUED, "hinted", None)
    )
    for id in ids:
        row = await row_of(database, id)
        assert (row["status"], row["reason"]) == (("expired", f"r{id}") if id % 2 else ("queued", None))


@pytest.mark.parametrize("status", sorted(set(Status) - FOLLOWS[Status.SCHEDULED] - {Status.SCHEDULED}))
async def test_a_step_that_is_not_in_the_table_is_refused(database: Database, status: Status) -> None:
    await born(database, status=Status.SCHEDULED, due_in=AGO, life=HOUR)
    with pytest.raises(AssertionError, match="may not follow scheduled"):
        await step(database, lambda _: Step(status, "no"))
