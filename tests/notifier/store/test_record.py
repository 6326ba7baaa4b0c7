"""Results are written by who holds the fence, and by nobody else; cancelling takes what no provider has."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from notifier.domain.delivery import FOLLOWS, Status, Step
from notifier.domain.tenant import Tenant
from notifier.store import deliveries, timelines, waits
from notifier.store.database import Database
from notifier.store.deliveries import Claim, Record
from tests.builders import HOUR, LEASE, LIVE, OTHER, URGENT_EMAIL, a_notification, born, history, row_of, sql


async def claimed(database: Database, *, count: int = 1, **fields: Any) -> list[Claim]:
    ids = await born(database, count=count, **fields)
    async with database.transaction() as tx:
        return await deliveries.claim(tx, ids, lane=URGENT_EMAIL, lease=LEASE)


async def record(database: Database, *records: Record) -> set[int]:
    async with database.transaction() as tx:
        return await deliveries.record(tx, records)


def a_record(claim: Claim, status: Status = Status.SENT, reason: str = "accepted", **fields: Any) -> Record:
    step = Step(status, reason, fields.pop("due_at", None), counts=fields.pop("counts", True))
    return Record(claim.id, fields.pop("fence", claim.fence), step, **fields)


async def test_a_result_is_written_with_one_event(database: Database) -> None:
    (claim,) = await claimed(database)
    detail = {"calls": [{"provider": "ses"}]}
    assert await record(database, a_record(claim, provider="ses", provider_message_id="m-1", detail=detail)) == {
        claim.id
    }
    row = await row_of(database, claim.id)
    assert (row["status"], row["reason"], row["due_at"]) == ("sent", "accepted", None)
    assert (row["provider"], row["provider_message_id"]) == ("ses", "m-1")
    async with database.transaction() as tx:
        (event,) = (await timelines.events(tx, [claim.id]))[claim.id]
    assert (event["status_from"], event["status_to"], event["attempt"]) == ("sending", "sent", 1)
    assert event["detail"] == detail


async def test_a_stale_fence_changes_no_row_and_writes_no_event(database: Database) -> None:
    (old,) = await claimed(database)
    await sql(database, "UPDATE deliveries SET status = 'queued'")
    async with database.transaction() as tx:
        (new,) = await deliveries.claim(tx, [old.id], lane=URGENT_EMAIL, lease=LEASE)
    before = await row_of(database, old.id)
    assert await record(database, a_record(old)) == set()
    assert await row_of(database, old.id) == before
    assert await history(database, old.id) == []
    assert await record(database, a_record(new)) == {new.id}


async def test_a_result_written_twice_counts_once(database: Database) -> None:
    (claim,) = await claimed(database)
    results = await asyncio.gather(*(record(database, a_record(claim)) for _ in range(4)))
    assert sorted(len(written) for written in results) == [0, 0, 0, 1]
    assert len(await history(database, claim.id)) == 1


async def test_a_result_named_twice_in_one_group_is_written_once(database: Database) -> None:
    (claim,) = await claimed(database)
    assert await record(database, a_record(claim), a_record(claim)) == {claim.id}
    assert len(await history(database, claim.id)) == 1


async def test_a_lease_that_was_ended_by_somebody_takes_no_result_any_more(database: Database) -> None:
    (claim,) = await claimed(database)
    await sql(database, "UPDATE deliveries SET status = 'unknown', due_at = NULL")
    assert await record(database, a_record(claim)) == set()
    assert (await row_of(database, claim.id))["status"] == "unknown"


async def test_an_attempt_that_does_not_count_is_given_back_but_its_event_tells_of_it(database: Database) -> None:
    (claim,) = await claimed(database)
    at = datetime.fromisoformat("2030-01-01T00:00:00+00:00")
    await record(database, a_record(claim, Status.RETRYING, "slow_down", due_at=at, counts=False))
    row = await row_of(database, claim.id)
    assert (row["status"], row["attempt"], row["fence"], row["due_at"]) == ("retrying", 0, 1, at)
    async with database.transaction() as tx:
        (event,) = (await timelines.events(tx, [claim.id]))[claim.id]
    assert event["attempt"] == 1


async def test_an_unknown_is_counted(database: Database) -> None:
    (claim,) = await claimed(database)
    await record(database, a_record(claim, Status.UNKNOWN, "reset"))
    assert (await row_of(database, claim.id))["unknowns"] == 1


async def test_devices_that_have_it_are_remembered_and_an_attempt_without_news_forgets_none(database: Database) -> None:
    (claim,) = await claimed(database)
    await record(database, a_record(claim, Status.RETRYING, "refused", settled=frozenset({"b", "a"})))
    assert (await row_of(database, claim.id))["settled"] == ["a", "b"]
    await sql(database, "UPDATE deliveries SET status = 'queued'")
    async with database.transaction() as tx:
        (again,) = await deliveries.claim(tx, [claim.id], lane=URGENT_EMAIL, lease=LEASE)
    assert again.settled == {"a", "b"}
    await record(database, a_record(again, Status.RETRYING, "refused"))
    assert (await row_of(database, claim.id))["settled"] == ["a", "b"]


async def test_a_group_of_results_is_written_each_to_its_row(database: Database) -> None:
    claims = await claimed(database, count=40)
    stale = {claim.id for claim in claims[::4]}
    records = [
        a_record(
            claim, reason=f"r{claim.id}", fence=claim.fence - (claim.id in stale), provider_message_id=f"m{claim.id}"
        )
        for claim in claims
    ]
    written = await record(database, *reversed(records))
    assert written == {claim.id for claim in claims} - stale
    for row in await sql(database, "SELECT id, reason, provider_message_id FROM deliveries WHERE status = 'sent'"):
        assert (row["reason"], row["provider_message_id"]) == (f"r{row['id']}", f"m{row['id']}")


@pytest.mark.parametrize("status", [status for status in Status if status not in FOLLOWS[Status.SENDING]])
async def test_a_result_that_may_not_follow_an_attempt_is_refused(database: Database, status: Status) -> None:
    (claim,) = await claimed(database)
    with pytest.raises(AssertionError, match="may not follow sending"):
        await record(database, a_record(claim, status))


# -- cancelling --


async def cancel(database: Database, notification: Any, tenant: Tenant = LIVE) -> int:
    async with database.transaction() as tx:
        return sum(end.count for end in await waits.cancel(tx, tenant, notification))


@pytest.mark.parametrize("status", [Status.SCHEDULED, Status.QUEUED, Status.RETRYING])
async def test_what_waits_can_be_cancelled(database: Database, status: Status) -> None:
    mine = a_notification().id
    (id,) = await born(database, status=status, id=mine)
    assert await cancel(database, mine) == 1
    row = await row_of(database, id)
    assert (row["status"], row["reason"], row["due_at"]) == ("cancelled", "cancelled_by_caller", None)
    assert await history(database, id) == [(status, "cancelled", "cancelled_by_caller")]


@pytest.mark.parametrize(
    "status", [Status.SENDING, Status.SENT, Status.UNKNOWN, Status.FAILED, Status.EXPIRED, Status.CANCELLED]
)
async def test_what_is_with_a_provider_or_over_cannot_be_cancelled(database: Database, status: Status) -> None:
    mine = a_notification().id
    (id,) = await born(database, status=status, id=mine)
    assert await cancel(database, mine) == 0
    assert (await row_of(database, id))["status"] == status


async def test_nobody_cancels_for_another_service(database: Database) -> None:
    mine = a_notification().id
    (id,) = await born(database, id=mine)
    assert await cancel(database, mine, tenant=OTHER) == 0
    assert (await row_of(database, id))["status"] == "queued"


async def test_what_one_device_has_already_is_left_at_that_and_not_said_to_be_cancelled(database: Database) -> None:
    mine = a_notification().id
    (id,) = await born(database, status=Status.RETRYING, id=mine)
    await sql(database, "UPDATE deliveries SET settled = '{abc}'")
    assert await cancel(database, mine) == 1
    row = await row_of(database, id)
    assert (row["status"], row["reason"], row["due_at"]) == ("sent", "sent_to_some:cancelled_by_caller", None)
    assert await history(database, id) == [("retrying", "sent", "sent_to_some:cancelled_by_caller")]


async def test_a_cancel_and_a_claim_at_once_do_not_both_succeed(database: Database) -> None:
    for _ in range(10):
        mine = a_notification().id
        (id,) = await born(database, id=mine, life=HOUR)

        async def claim(id: int = id) -> int:
            async with database.transaction() as tx:
                return len(await deliveries.claim(tx, [id], lane=URGENT_EMAIL, lease=LEASE))

        taken, cancelled = await asyncio.gather(claim(), cancel(database, mine))
        assert taken + cancelled == 1


async def test_an_audit_reads_every_fate_in_order_page_by_page(database: Database) -> None:
    ids = await born(database, count=5, status=Status.SENT)
    async with database.transaction() as tx:
        first = await timelines.fates(tx, limit=3)
        rest = await timelines.fates(tx, after=first[-1][0], limit=3)
    assert [id for id, _, _ in [*first, *rest]] == ids
    assert {status for _, status, _ in first} == {"sent"}


async def test_deliveries_are_shown_by_notification(database: Database) -> None:
    one, other = a_notification().id, a_notification().id
    (id,) = await born(database, id=one)
    async with database.transaction() as tx:
        found = await timelines.of_notifications(tx, [one, other])
    assert [row.id for row in found[one]] == [id]
    assert found[other] == []
