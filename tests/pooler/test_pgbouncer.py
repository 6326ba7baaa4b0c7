"""Behind PgBouncer, with fewer sessions than clients: accepted, sent, walked, nothing lost or doubled."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from notifier.embedded.stack import Stack
from tests.conftest import TEMPLATES
from tests.faults import invariants
from tests.faults.house import FaultyHouse
from tests.pooler import bouncer
from tests.running import WORKING

PEOPLE = 200


@pytest.fixture
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultyHouse]:
    """Servers, PgBouncer, sandbox and a caller's key; nothing of ours runs yet."""
    with Stack(tmp_path_factory.mktemp("pooler"), fsync=False) as stack:
        house = FaultyHouse(stack, templates=TEMPLATES)
        house.env |= {
            "NOTIFIER_DATABASE_URL": bouncer.start(stack, house.database_url),
            "NOTIFIER_DATABASE_DIRECT_URL": house.database_url,
            "NOTIFIER_DATABASE_POOLER": "transaction",
        }
        house.prepare()
        yield house
        await house.reconnect()
        stack.supervisor.kill_all()
        await house.close()


def command(house: FaultyHouse, *arguments: str, **env: str) -> tuple[int, str]:
    """Exit code and all that a command said."""
    said = subprocess.run(
        [sys.executable, "-m", "notifier", *arguments],
        env={**os.environ, **house.env, **env}, capture_output=True, text=True,
    )  # fmt: skip
    return said.returncode, said.stdout + said.stderr


async def test_the_whole_service_works_on_sessions_that_it_shares(house: FaultyHouse) -> None:
    """All urgent, bulk, scheduled, a campaign, cancelled ones and lists; then I1 to I16 by database and ledger."""
    house.start("api", *WORKING)
    await house.consuming("urgent", "bulk", "control")
    await house.enrol(range(1, PEOPLE + 1))
    await house.faults({"action": "status", "status": 503, "match": {"attempt": 1}, "times": 5})

    campaign = await house.campaign(chunk_size=20)
    ids = await house.post_many(400)
    listed = (await house.get("/v1/notifications?limit=50")).body
    assert len(listed["items"]) == 50
    assert (await house.get(f"/v1/notifications/{ids[0]}/timeline")).status == 200
    assert (await house.post("/v1/campaigns/estimate", _estimate())).body["recipients"] == PEOPLE
    await house.campaign_in(campaign, "finished")

    fates = await invariants.hold(house, answered=ids)
    assert invariants.by_status(fates) == {"sent": 400 + PEOPLE}
    assert {fate.received for fate in fates.values()} == {1}
    (row,) = await house.sql(
        "SELECT count(*) AS sessions FROM pg_stat_activity WHERE application_name LIKE 'notifier-%'"
    )
    assert row["sessions"] <= bouncer.SESSIONS


async def test_doctor_says_what_to_set_when_a_pooler_is_not_reckoned_with(house: FaultyHouse) -> None:
    code, said = await asyncio.to_thread(command, house, "doctor", "--json")
    assert _of(said, "database") == (True, "PostgreSQL answers, through a pooler")
    assert _of(said, "schema") == (True, "up to date")
    code, said = await asyncio.to_thread(command, house, "doctor", "--json", NOTIFIER_DATABASE_POOLER="none")
    assert code == 1
    ok, says = _of(said, "database")
    assert not ok
    assert "Set NOTIFIER_DATABASE_POOLER=transaction" in says


async def test_nobody_migrates_through_a_pooler(house: FaultyHouse) -> None:
    pooled = house.env["NOTIFIER_DATABASE_URL"]
    code, said = await asyncio.to_thread(command, house, "migrate", NOTIFIER_DATABASE_DIRECT_URL=pooled)
    assert code == 1
    assert "Set NOTIFIER_DATABASE_DIRECT_URL" in said
    assert await asyncio.to_thread(command, house, "migrate") == (0, "The schema is up to date.\n")


def _estimate() -> dict[str, Any]:
    return {"name": "statement", "template": "monthly-statement", "channels": ["push"]}


def _of(said: str, what: str) -> tuple[bool, str]:
    """What doctor found of one thing."""
    (finding,) = (finding for finding in json.loads(said) if finding["what"] == what)
    return finding["ok"], finding["says"]
