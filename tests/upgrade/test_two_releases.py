"""The previous release and this one at once, as in every rolling upgrade, in both orders."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from notifier.store import migrations
from tests.faults import invariants
from tests.faults.house import FaultyHouse
from tests.further import further
from tests.running import WORKING

PEOPLE = 100


@pytest.mark.full
@pytest.mark.parametrize("is_old", ["api", "workers"])
async def test_f32_one_release_accepts_and_the_other_delivers(
    house: FaultyHouse, old: Mapping[str, str], is_old: str
) -> None:
    """F32. I2 and I3 for urgent, bulk, what waits, and a campaign; hints of one are understood by the other."""
    _migrate(house)
    house.start("api", env=old if is_old == "api" else None)
    house.start(*WORKING, env=old if is_old == "workers" else None)
    await house.consuming("urgent", "bulk", "control")
    await house.enrol(range(1, PEOPLE + 1))
    await house.faults({"action": "delay", "seconds": 0.05})

    campaign = await house.campaign(chunk_size=20)
    ids = await house.post_many(300)
    ids += await house.post_many(50, send_at=await _soon(house))
    await house.campaign_in(campaign, "finished")

    fates = await invariants.hold(house, answered=ids)
    assert invariants.by_status(fates) == {"sent": 350 + PEOPLE}
    assert {fate.received for fate in fates.values()} == {1}
    hinted = await house.sql("SELECT detail ->> 'hinted_by' AS by FROM delivery_events WHERE status_to = 'sent'")
    assert {row["by"] for row in hinted} >= {"intake", "sweep"}


@pytest.mark.full
async def test_f32_workers_of_both_releases_share_the_work(house: FaultyHouse, old: Mapping[str, str]) -> None:
    """F32. In the middle of a rolling restart: two of each pool, two beats, two sweepers, one of each release."""
    _migrate(house)
    house.start("api", *WORKING)
    for name in WORKING:
        house.start(name, env=old, name=f"{name}-old")
    await house.consuming("urgent", "bulk", "control")
    await house.faults({"action": "status", "status": 503, "match": {"attempt": 1}, "times": 4})

    ids = await house.post_many(600)

    fates = await invariants.hold(house, answered=ids)
    assert invariants.by_status(fates) == {"sent": 600}
    assert {fate.received for fate in fates.values()} == {1}


@pytest.mark.full
async def test_f33_migrating_while_the_previous_release_serves_costs_no_5xx(
    house: FaultyHouse, old: Mapping[str, str], tmp_path: Path
) -> None:
    """F33. Under load, reads and writes; afterwards the previous release serves on with the new schema.

    With a migration for a new column of the largest table and one for an index of it, whatever a release brings.
    """
    house.start("api", *WORKING, env=old)
    assert not await migrations.is_current(house.database_url)
    is_over = asyncio.Event()
    callers = [asyncio.create_task(_call_until(is_over, house)) for _ in range(4)]
    await house.calls_made(20)

    await asyncio.to_thread(_migrate, house)
    column = "ALTER TABLE deliveries ADD COLUMN of_a_test integer NOT NULL DEFAULT 0"
    index = "CREATE INDEX CONCURRENTLY of_a_test ON deliveries (updated_at)"
    also = further(tmp_path, pre_9001=column, pre_9002=index)
    assert len(await migrations.migrate(house.database_url, also=also)) == 2

    assert await migrations.is_current(house.database_url, also=also)
    (row,) = await house.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'of_a_test'::regclass")
    assert row["indisvalid"]
    await house.calls_made(len(await house.calls()) + 50)  # the old one goes on
    is_over.set()
    ids = [id for caller in callers for id in await caller]
    fates = await invariants.hold(house, answered=ids)
    assert invariants.by_status(fates) == {"sent": len(ids)}
    assert {fate.received for fate in fates.values()} == {1}


async def _call_until(is_over: asyncio.Event, house: FaultyHouse) -> list[str]:
    """Post, and ask what became of it, without a pause; nobody is told 5xx or waits for long. The ids."""
    ids = []
    while not is_over.is_set():
        began = time.monotonic()
        ids.append(await house.post_one())
        seen = await house.get(f"/v1/notifications/{ids[-1]}")
        assert seen.status == 200, seen.body
        assert time.monotonic() - began < 5
    return ids


def _migrate(house: FaultyHouse) -> None:
    """This release's `notifier migrate`."""
    house.stack.run("migrate", [sys.executable, "-m", "notifier", "migrate"], env=house.env)


async def _soon(house: FaultyHouse) -> str:
    """A moment that the sweeper will have to notice."""
    (row,) = await house.sql("SELECT now() + interval '2 seconds'")
    return str(row[0].isoformat())
