"""What the gauges show, from rows: what waits, since when, what is in flight, and how campaigns stand."""

from __future__ import annotations

from datetime import timedelta

import pytest

from notifier.domain.delivery import Status
from notifier.store import measures
from notifier.store.database import Database
from notifier.store.measures import CampaignMeasure, LaneMeasure
from tests.builders import BULK_EMAIL, LEASE, URGENT_EMAIL, born, sql

_CAMPAIGN = """
    INSERT INTO campaigns (id, service_id, template, template_version, data, mode, plan, status, slot, limited_by,
                           created_at, updated_at)
    VALUES (CAST(:id AS uuid), 1, 'note', '1', '{}', 'live', '{}', :status, now(), :limited_by, now(), now())
"""
_CHUNK = """
    INSERT INTO campaign_chunks (campaign_id, number, range, recipients, planned, sent, delivered, failed, expired,
                                 created_at)
    VALUES (CAST(:id AS uuid), :number, '{}', 10, 10, 3, 1, 2, 1, now())
"""


async def measured(database: Database) -> LaneMeasure:
    async with database.transaction() as tx:
        return await measures.lane(tx, URGENT_EMAIL, lease=LEASE)


async def age(database: Database, ids: list[int], **moments: int) -> None:
    """Set moments of rows to so many seconds from now."""
    words = ", ".join(f"{name} = now() + make_interval(secs => :{name})" for name in moments)
    statement = f"UPDATE deliveries SET {words} WHERE id = ANY(CAST(:ids AS bigint[]))"  # noqa: S608  # our own words
    await sql(database, statement, ids=ids, **moments)


async def test_an_empty_lane_has_nothing_and_nothing_old(database: Database) -> None:
    await born(database, lane=BULK_EMAIL, count=3)
    assert await measured(database) == LaneMeasure(0, 0, timedelta(0))


async def test_what_is_queued_or_past_its_moment_waits_and_a_later_moment_does_not(database: Database) -> None:
    await born(database, count=3)
    late = await born(database, status=Status.RETRYING, count=2)
    await age(database, late, due_at=-90)
    await age(database, await born(database, status=Status.RETRYING, count=4), due_at=90)
    await age(database, await born(database, status=Status.SCHEDULED, count=5), due_at=3600)
    found = await measured(database)
    assert (found.waiting, found.in_flight) == (5, 0)
    assert 90 <= found.oldest.total_seconds() < 100


async def test_the_age_of_a_queued_one_counts_from_its_acceptance_or_from_its_send_at(database: Database) -> None:
    ids = await born(database, count=2)
    await age(database, ids, created_at=-600)
    assert 600 <= (await measured(database)).oldest.total_seconds() < 610
    await sql(database, "UPDATE notifications SET send_at = now() - interval '20 seconds'")
    assert 20 <= (await measured(database)).oldest.total_seconds() < 30


async def test_the_age_of_one_that_is_tried_again_does_not_count_the_time_it_was_to_wait(database: Database) -> None:
    ids = await born(database, count=1)
    await age(database, ids, created_at=-6000, updated_at=-7)
    await sql(database, "UPDATE deliveries SET attempt = 3")
    assert 7 <= (await measured(database)).oldest.total_seconds() < 17


async def test_what_is_being_sent_is_in_flight_and_not_waiting(database: Database) -> None:
    await age(database, await born(database, status=Status.SENDING, count=4), due_at=30)
    assert await measured(database) == LaneMeasure(0, 4, timedelta(0))


async def test_a_huge_backlog_is_counted_no_further_than_its_bound(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "MOST", 5)
    await born(database, count=8)
    assert (await measured(database)).waiting == 5


async def test_campaigns_that_are_not_over_are_counted_with_what_became_of_their_deliveries(database: Database) -> None:
    for number, (status, limit) in enumerate(
        [("running", "pace"), ("running", "pace"), ("running", "workers"), ("paused", None), ("scheduled", "window"),
         ("finished", None)]
    ):  # fmt: skip
        id = f"01900000-0000-7000-8000-00000000000{number}"
        await sql(database, _CAMPAIGN, id=id, status=status, limited_by=limit)
        await sql(database, _CHUNK, id=id, number=0)
    async with database.transaction() as tx:
        found = await measures.campaigns(tx)
    assert found == CampaignMeasure(
        by_status={"scheduled": 1, "running": 3, "paused": 1},
        by_limit={"pace": 2, "workers": 1},
        progress={
            "planned": 40, "sent": 16, "failed": 8, "expired": 4, "suppressed": 0, "unknown": 0, "cancelled": 0,
            "unfinished": 12,
        },
    )  # fmt: skip


async def test_a_database_has_a_size(database: Database) -> None:
    async with database.transaction() as tx:
        assert await measures.size_bytes(tx) > 1_000_000
