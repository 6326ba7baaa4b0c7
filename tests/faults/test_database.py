"""PostgreSQL goes away: the one thing without which nothing is accepted."""

from __future__ import annotations

import asyncio
import time

from tests.faults import invariants
from tests.faults.house import FaultyHouse


async def test_f14_postgresql_killed_under_load_means_503_and_never_a_false_202(house: FaultyHouse) -> None:
    """F14. What was answered 202 is there afterwards (I1), and every process finds its way back by itself."""
    await house.faults({"action": "delay", "seconds": 0.1})
    ids = await house.post_many(500)
    await house.calls_made(50)
    callers = [asyncio.create_task(_post_until_it_is_back(house)) for _ in range(4)]
    await house.until_sql("SELECT count(*) > 520 FROM deliveries", what="the callers to be under way")

    house.stack.postgres.kill()
    cut_from = time.monotonic()
    await house.until(lambda: _is_past(cut_from + 1), what="a second without it")
    house.stack.postgres.start()

    for answered, refused in await asyncio.gather(*callers):
        assert refused >= 1, "the caller never noticed"
        ids += answered
    fates = await invariants.hold(house, answered=ids)
    assert {str(fate.status) for fate in fates.values()} <= {"sent", "unknown"}


async def _post_until_it_is_back(house: FaultyHouse) -> tuple[list[str], int]:
    """Post without a pause, through the outage and a little further; the ids answered 202, and how many were 503."""
    answered: list[str] = []
    refused = since = 0
    while since < 5:
        answer = await house.send()
        if answer.status == 202:
            answered.append(answer.body["id"])
            since += bool(refused)
            continue
        assert answer.status == 503, answer
        assert int(answer.headers["retry-after"]) >= 1
        refused += 1
    return answered, refused


async def _is_past(moment: float) -> bool:
    return time.monotonic() >= moment
