"""A worker that died, or a life that is over: the sweeper finds the row, and says no more than can be known."""

from __future__ import annotations

import time
from io import StringIO

import pytest

from notifier.delivery import sweep
from notifier.delivery.sweep import Sweeper
from notifier.domain.delivery import Status
from notifier.domain.notification import OnUnknown
from notifier.queues import Publisher
from notifier.store import database as store
from notifier.store.database import Database
from tests.builders import born, expire, history, make_due, row_of, sql
from tests.notifier.delivery.conftest import AGO, Hinted
from tests.notifier.intake.broker import Broker


async def test_a_lease_that_ended_before_the_call_is_simply_tried_again(
    sweeper: Sweeper, database: Database, hinted: Hinted
) -> None:
    (id,) = await born(database, status=Status.SENDING, due_in=AGO)
    await sql(database, "UPDATE deliveries SET attempt = 1, claimed_at = now()")
    await sweeper.sweep()
    assert await history(database, id) == [("sending", "queued", "worker_lost_before_call")]
    assert hinted() == {"urgent.email": [id]}


async def test_what_a_dead_worker_had_claimed_is_hinted_one_by_one(
    sweeper: Sweeper, database: Database, publisher: Publisher, broker: Broker
) -> None:
    """One of them may have killed it, and would take the others of its hint along again."""
    lost = await born(database, status=Status.SENDING, due_in=AGO, count=5)
    others = await born(database, due_in=AGO, count=5)
    await sql(database, "UPDATE deliveries SET attempt = 1, claimed_at = now() WHERE status = 'sending'")
    await sweeper.sweep()
    publisher.close()
    assert sorted(hint.ids for hint in broker.published()) == sorted([*((id,) for id in lost), tuple(others)])


@pytest.mark.parametrize(("on_unknown", "is_due"), [(OnUnknown.RETRY, True), (OnUnknown.HOLD, False)])
async def test_a_lease_that_ended_in_the_call_leaves_it_unknown_and_the_policy_decides(
    on_unknown: OnUnknown, is_due: bool, sweeper: Sweeper, database: Database, hinted: Hinted
) -> None:
    (id,) = await born(database, status=Status.SENDING, due_in=AGO, on_unknown=on_unknown)
    await sql(database, "UPDATE deliveries SET attempt = 1, claimed_at = now(), called_at = now()")
    assert (await sweeper.sweep()).moved == {"unknown": 1}
    row = await row_of(database, id)
    assert (row["status"], row["reason"], row["unknowns"], row["due_at"] is not None) == (
        "unknown",
        "worker_lost",
        1,
        is_due,
    )
    if is_due:
        await make_due(database, id)
    await sweeper.sweep()
    assert hinted() == ({"urgent.email": [id]} if is_due else {})


async def test_leases_are_let_be_while_the_database_is_only_just_back(
    sweeper: Sweeper, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers that hold them may live, with results that they could not write."""
    await born(database, status=Status.SENDING, due_in=AGO)
    database.back_since = time.monotonic()
    assert (await sweeper.sweep()).moved == {}
    monkeypatch.setattr(sweep, "BACK_FOR_SECONDS", 0)
    assert (await sweeper.sweep()).moved == {"queued": 1}


async def test_leases_are_let_be_while_a_commit_takes_long(
    sweeper: Sweeper, database: Database, monkeypatch: pytest.MonkeyPatch, log: StringIO
) -> None:
    """Who holds them may wait for just that: their results are not written while nobody's are."""
    await born(database, status=Status.SENDING, due_in=AGO)
    monkeypatch.setattr(store, "LONG_COMMIT_SECONDS", 0)
    assert (await sweeper.sweep()).moved == {}
    assert "commits_held_up" in log.getvalue()
    monkeypatch.setattr(sweep, "BACK_FOR_SECONDS", 0)
    assert (await sweeper.sweep()).moved == {"queued": 1}


async def test_an_unknown_is_tried_again_only_once(sweeper: Sweeper, database: Database, hinted: Hinted) -> None:
    (id,) = await born(database, status=Status.SENDING, due_in=AGO)
    await sql(database, "UPDATE deliveries SET attempt = 2, unknowns = 1, called_at = now()")
    await sweeper.sweep()
    row = await row_of(database, id)
    assert (row["status"], row["due_at"], row["unknowns"]) == ("unknown", None, 2)
    assert hinted() == {}


async def test_workers_that_die_before_every_call_use_up_the_attempts(sweeper: Sweeper, database: Database) -> None:
    (id,) = await born(database, status=Status.SENDING, due_in=AGO, max_attempts=3)
    await sql(database, "UPDATE deliveries SET attempt = 3")
    await sweeper.sweep()
    assert await history(database, id) == [("sending", "failed", "attempts_used_up:worker_lost_before_call")]


@pytest.mark.parametrize("status", [Status.SCHEDULED, Status.QUEUED, Status.RETRYING, Status.SENDING])
async def test_what_has_expired_says_in_which_state_and_queue_it_had_waited(
    status: Status, sweeper: Sweeper, database: Database, hinted: Hinted
) -> None:
    (id,) = await born(database, status=status)
    await expire(database, id)
    await sweeper.sweep()
    assert await history(database, id) == [(status, "expired", f"expired_while_{status}")]
    (event,) = await sql(database, "SELECT detail FROM delivery_events")
    assert event["detail"]["waited_in"] == status
    assert event["detail"]["queue"] == "v1.urgent.email"
    assert hinted() == {}


async def test_what_one_device_has_is_not_said_to_have_expired(sweeper: Sweeper, database: Database) -> None:
    (id,) = await born(database, status=Status.RETRYING)
    await sql(database, "UPDATE deliveries SET settled = '{phone}'")
    await expire(database, id)
    await sweeper.sweep()
    assert await history(database, id) == [("retrying", "sent", "sent_to_some:expired_while_retrying")]
