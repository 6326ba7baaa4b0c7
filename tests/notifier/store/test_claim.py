"""Deliveries are claimed by one statement: whatever a hint says, the row decides."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest

from notifier.domain.delivery import Status
from notifier.domain.notification import LANES, Lane
from notifier.store import deliveries, waits
from notifier.store.database import Database
from notifier.store.deliveries import Claim
from tests.builders import (
    BULK_EMAIL,
    HOUR,
    LEASE,
    URGENT_EMAIL,
    an_address,
    born,
    expire,
    make_due,
    row_of,
    sql,
)


async def claim(database: Database, ids: Sequence[int], lane: Lane = URGENT_EMAIL) -> list[Claim]:
    async with database.transaction() as tx:
        return await deliveries.claim(tx, ids, lane=lane, lease=LEASE)


async def test_a_claim_takes_what_was_hinted_and_brings_all_that_the_sending_needs(database: Database) -> None:
    ids = await born(database, count=3, reference="order-991", collapse_key="order")
    claims = await claim(database, list(reversed(ids)))
    assert [claim.id for claim in claims] == ids, "in id order"
    first = claims[0]
    assert (first.attempt, first.fence, first.standing.status) == (1, 1, Status.SENDING)
    assert (first.template, first.collapse_key) == ("payment-received", "order")
    assert first.data == {"amount": "12.50", "currency": "EUR"}
    assert first.address == an_address()
    row = await row_of(database, ids[0])
    assert row["status"] == "sending"
    assert row["due_at"] - row["claimed_at"] == LEASE
    assert row["called_at"] is None


async def test_a_repeated_hint_claims_nothing(database: Database) -> None:
    ids = await born(database, count=3)
    assert len(await claim(database, ids + ids)) == 3
    assert await claim(database, ids) == []


async def test_two_claims_at_once_share_no_row(database: Database) -> None:
    ids = await born(database, count=300)
    hinted = [ids[start : start + 200] for start in (0, 50, 100)] * 3
    claimed = await asyncio.gather(*(claim(database, some) for some in hinted))
    taken = Counter(claim.id for claims in claimed for claim in claims)
    assert set(taken.values()) == {1}
    left = await claim(database, ids)  # what two looked at and a third had locked is left to the next hint
    assert sorted([*taken, *(claim.id for claim in left)]) == ids


async def test_a_claim_passes_over_a_row_that_somebody_holds_instead_of_waiting(database: Database) -> None:
    held, free = await born(database, count=2)
    async with database.transaction() as tx:
        assert len(await deliveries.claim(tx, [held], lane=URGENT_EMAIL, lease=LEASE)) == 1
        async with asyncio.timeout(5):
            assert [claim.id for claim in await claim(database, [held, free])] == [free]


@pytest.mark.parametrize("lane", [lane for lane in LANES if lane != URGENT_EMAIL])
async def test_a_hint_in_the_wrong_lane_claims_nothing(database: Database, lane: Lane) -> None:
    ids = await born(database)
    assert await claim(database, ids, lane) == []
    assert (await row_of(database, ids[0]))["status"] == "queued"


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.QUEUED])
async def test_nothing_but_what_is_queued_is_claimed(database: Database, status: Status) -> None:
    ids = await born(database, status=status)
    assert await claim(database, ids) == []
    assert (await row_of(database, ids[0]))["status"] == status


async def test_what_has_expired_is_not_claimed_even_if_nobody_has_swept_it_yet(database: Database) -> None:
    ids = await born(database)
    await expire(database, *ids)
    assert await claim(database, ids) == []


async def test_what_has_used_up_its_attempts_is_not_claimed(database: Database) -> None:
    ids = await born(database, max_attempts=2)
    await sql(database, "UPDATE deliveries SET attempt = 2")
    assert await claim(database, ids) == []


async def test_an_id_that_nobody_has_is_passed_over(database: Database) -> None:
    ids = await born(database)
    assert [claim.id for claim in await claim(database, [*ids, 10**12, 0, -1])] == ids


async def test_each_claim_raises_attempt_and_fence_and_forgets_the_former_call(database: Database) -> None:
    (id,) = await born(database)
    for count in (1, 2, 3):
        (taken,) = await claim(database, [id])
        assert (taken.attempt, taken.fence) == (count, count)
        await begin(database, [taken])
        await sql(database, "UPDATE deliveries SET status = 'queued' WHERE id = :id", id=id)
    await claim(database, [id])
    assert (await row_of(database, id))["called_at"] is None


async def test_a_claim_tells_which_devices_have_it_already(database: Database) -> None:
    (id,) = await born(database)
    await sql(database, "UPDATE deliveries SET settled = '{abc,def}'")
    (taken,) = await claim(database, [id])
    assert taken.settled == {"abc", "def"}
    assert taken.standing.is_sent_to_some


# -- the last look before the call --


async def begin(database: Database, claims: Sequence[Claim]) -> set[int]:
    async with database.transaction() as tx:
        return await deliveries.begin_calls(tx, claims)


async def test_what_is_still_ours_and_alive_may_be_called(database: Database) -> None:
    claims = await claim(database, await born(database, count=2))
    assert await begin(database, claims) == {claim.id for claim in claims}
    assert (await row_of(database, claims[0].id))["called_at"] is not None


async def test_what_expired_since_the_claim_may_not_be_called(database: Database) -> None:
    alive, dead = await claim(database, await born(database, count=2))
    await expire(database, dead.id)
    assert await begin(database, [alive, dead]) == {alive.id}


async def test_what_somebody_else_claimed_since_may_not_be_called(database: Database) -> None:
    (mine,) = await claim(database, await born(database))
    await sql(database, "UPDATE deliveries SET status = 'queued'")
    (theirs,) = await claim(database, [mine.id])
    assert await begin(database, [mine]) == set()
    assert await begin(database, [theirs]) == {theirs.id}


async def test_what_was_taken_away_may_not_be_called(database: Database) -> None:
    (mine,) = await claim(database, await born(database))
    await sql(database, "UPDATE deliveries SET status = 'unknown'")
    assert await begin(database, [mine]) == set()


# -- how much waits --


async def test_the_backlog_counts_what_is_to_be_sent_soon_and_no_further_than_asked(database: Database) -> None:
    await born(database, count=5, due_in=timedelta(0))
    await born(database, count=3, lane=BULK_EMAIL)
    await born(database, status=Status.SCHEDULED, due_in=HOUR)
    await born(database, status=Status.SENT, due_in=None)
    async with database.transaction() as tx:
        assert await waits.backlog(tx, "urgent", limit=100) == 5
        assert await waits.backlog(tx, "bulk", limit=100) == 3
        assert await waits.backlog(tx, "urgent", limit=2) == 2


async def test_a_row_that_is_overdue_can_still_be_claimed(database: Database) -> None:
    ids = await born(database)
    await make_due(database, *ids)
    assert len(await claim(database, ids)) == 1
