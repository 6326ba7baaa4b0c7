"""An API that dies around its commit, and callers who ask again."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import pytest

from tests.faults import invariants
from tests.faults.house import FaultyHouse

KEY = "order-991"


async def test_f4_an_api_killed_after_its_commit_has_accepted_and_says_so_when_asked_again(house: FaultyHouse) -> None:
    """F4. The caller got no answer and nothing was hinted; the sweeper sends it, the replay names the same id."""
    await _die(house, "after_commit")
    ((kept,),) = await house.sql("SELECT id::text FROM notifications")
    house.start("api")

    replay = await house.send(idempotency_key=KEY)

    assert (replay.status, replay.body["id"]) == (202, kept)
    assert replay.headers["idempotent-replayed"] == "true"
    fates = await invariants.hold(house, answered=[kept])
    assert [(fate.status, fate.received) for fate in fates.values()] == [("sent", 1)]
    ((by,),) = await house.sql("SELECT detail ->> 'hinted_by' FROM delivery_events WHERE status_to = 'sent'")
    assert by == "sweep"


@pytest.mark.full
async def test_f5_an_api_killed_before_its_commit_has_accepted_nothing(house: FaultyHouse) -> None:
    """F5. No row and no call; asked again, it makes one."""
    await _die(house, "before_commit")
    assert await house.sql("SELECT 1 FROM notifications UNION ALL SELECT 1 FROM idempotency") == []
    house.start("api")

    made = await house.send(idempotency_key=KEY)

    assert made.status == 202
    assert "idempotent-replayed" not in made.headers
    fates = await invariants.hold(house, answered=[made.body["id"]])
    assert [(fate.status, fate.received) for fate in fates.values()] == [("sent", 1)]


async def test_f39_50_requests_at_once_with_one_key_make_one_notification(house: FaultyHouse) -> None:
    """F39. One creates and 49 replay (I7); another body is refused; a restarted API remembers."""
    answers = await asyncio.gather(*(house.send(idempotency_key=KEY) for _ in range(50)))
    (id,) = {answer.body["id"] for answer in answers}
    assert Counter(answer.status for answer in answers) == {202: 50}
    assert Counter(answer.headers.get("idempotent-replayed") for answer in answers) == {None: 1, "true": 49}

    other = await house.send(idempotency_key=KEY, reference="another")
    assert (other.status, other.body["code"]) == (422, "idempotency_key_reused")

    house.kill("api")
    house.start("api")
    late = await house.send(idempotency_key=KEY)
    assert (late.status, late.body["id"], late.headers["idempotent-replayed"]) == (202, id, "true")

    fates = await invariants.hold(house, answered=[id])
    assert [(fate.status, fate.received) for fate in fates.values()] == [("sent", 1)]


async def _die(house: FaultyHouse, failpoint: str) -> None:
    """Post to an API that dies at `failpoint`; no answer comes back."""
    house.kill("api")
    api = house.start("api", env={"NOTIFIER_FAILPOINT": f"{failpoint}:kill"})
    with pytest.raises(aiohttp.ClientError):
        await house.send(idempotency_key=KEY)
    assert api.wait(10)
