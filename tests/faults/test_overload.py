"""Ten times more bulk than can be carried: urgent does not notice, and nothing grows without bound."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.faults import invariants
from tests.faults.house import FaultyHouse, a_mixed_one
from tests.running import Answer

LIMIT = 1000
A_BULK_MAIL = {"channels": ["email"], "priority": "bulk"}


@pytest.mark.full
async def test_f31_urgent_goes_through_while_ten_times_too_much_bulk_is_turned_away(house: FaultyHouse) -> None:
    """F31, I13. Bulk gets 429 with a Retry-After, urgent 202 and a few seconds at most; Redis' memory stays flat."""
    house.kill("api")
    house.start("api", env={"NOTIFIER_BULK_BACKLOG_LIMIT": str(LIMIT)})
    # 2 processes with 16 slots carry 64 bulk mails a second, so; 1000 come in a second.
    await house.faults({"provider": "ses", "action": "delay", "seconds": 0.5})
    empty = _memory(house)
    ids: list[str] = []
    flood = asyncio.create_task(_flood(house, ids))
    await house.until(lambda: _is_turned_away(house), what="bulk to be turned away")

    told: list[Answer] = []
    largest = 0
    for number in range(60):
        mail, push = a_mixed_one(0), a_mixed_one(2)
        told.append(await house.post("/v1/notifications", (mail, push)[number % 2] | {"reference": "urgent"}))
        largest = max(largest, _memory(house))
        await asyncio.sleep(0.1)
    bulk = [await house.send(**A_BULK_MAIL) for _ in range(20)]
    refused = [answer for answer in bulk if answer.status != 202]
    ids += [answer.body["id"] for answer in bulk if answer.status == 202]  # a flood may ebb for a moment
    waiting = (await house.statuses())["queued"]
    assert not flood.done(), "the flood has ended by itself"
    flood.cancel()
    await house.faults()

    assert {answer.status for answer in told} == {202}
    assert len(refused) >= 5
    assert {(answer.status, answer.body["code"]) for answer in refused} == {(429, "backlog_full")}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert waiting > LIMIT * 0.5, "there was no backlog to speak of"
    fates = await invariants.hold(house, answered=[*ids, *(answer.body["id"] for answer in told)])
    assert {(fate.status, fate.received) for fate in fates.values()} == {("sent", 1)}
    rows = await house.sql(
        "SELECT d.updated_at - n.created_at AS took FROM deliveries d JOIN notifications n ON n.id = d.notification_id "
        "WHERE n.reference = 'urgent' ORDER BY 1"
    )
    assert rows[-4]["took"] < timedelta(seconds=5)  # 19 of 20
    assert largest - empty < 4 << 20


async def _flood(house: FaultyHouse, ids: list[str]) -> None:
    """Post bulk mails for as long as the test lasts, whatever the answers; adds the ids of those that were accepted."""
    mail = a_mixed_one(0) | A_BULK_MAIL
    while True:
        told = await asyncio.shield(house.post("/v1/notifications/batch", {"notifications": [mail] * 200}))
        ids += [result["id"] for result in told.body.get("results", ()) if "id" in result]  # none in a 503
        await asyncio.sleep(0.2)


async def _is_turned_away(house: FaultyHouse) -> bool:
    answer = await house.send(**A_BULK_MAIL)
    return answer.status == 429


def _memory(house: FaultyHouse) -> int:
    """Bytes that Redis uses."""
    info: dict[str, int] = house.broker().info("memory")  # type: ignore[assignment]
    return info["used_memory"]
