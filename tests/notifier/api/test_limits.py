"""How much one key may ask, and how much may wait: 429 says for how long to hold back."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from notifier.api.limits import ROUNDING, Rates
from tests.notifier.api.asks import a_key, a_payment, at, the_problem
from tests.running import Answer, Running, eventually


async def test_a_key_that_asks_too_often_is_told_when_to_come_again(running: Running, narrow: str) -> None:
    key = await a_key(running)

    async def ask() -> Answer:
        return await running.call("GET", "/v1/templates", key=key, url=narrow)

    answers = await asyncio.gather(*(ask() for _ in range(30)))
    statuses = Counter(answer.status for answer in answers)
    assert statuses.keys() == {200, 429}
    assert 8 <= statuses[200] < 16  # the burst, and what a busy machine lets grow meanwhile
    refused = next(answer for answer in answers if answer.status == 429)
    the_problem(refused, 429, "rate_limited")
    assert refused.headers["RateLimit-Limit"] == "8"
    assert refused.headers["RateLimit-Remaining"] == "0"
    assert 1 <= int(refused.headers["RateLimit-Reset"]) <= 2
    await asyncio.sleep(int(refused.headers["Retry-After"]))
    assert (await ask()).status == 200


async def test_every_answer_says_how_a_key_stands(running: Running, narrow: str) -> None:
    key, other = await a_key(running), await a_key(running)
    remaining = [
        int((await running.call("GET", path, key=key, url=narrow)).headers["RateLimit-Remaining"])
        for path in ("/v1/templates", "/v1/nothing", "/v1/notifications?limit=0")
    ]
    assert remaining[0] == 7
    assert remaining[2] < remaining[0]
    assert (await running.call("GET", "/v1/templates", key=other, url=narrow)).headers["RateLimit-Remaining"] == "7"


async def test_what_is_refused_for_its_rate_is_not_accepted(running: Running, narrow: str) -> None:
    key = await a_key(running)
    asked = (running.call("POST", "/v1/notifications", a_payment(), key=key, url=narrow) for _ in range(30))
    statuses = Counter(answer.status for answer in await asyncio.gather(*asked))
    (row,) = await running.sql("SELECT count(*) FROM notifications")
    assert row[0] == statuses[202] == 30 - statuses[429]


async def test_bulk_is_refused_while_too_much_of_it_waits_and_urgent_is_not(running: Running, narrow: str) -> None:
    soon = a_payment(send_at=at(100), expires_in=600)
    for _ in range(4):
        assert (await running.post("/v1/notifications", soon | {"priority": "bulk"})).status == 202
    key = await a_key(running)
    answer: Answer

    async def is_full() -> bool:
        nonlocal answer
        answer = await running.call("POST", "/v1/notifications", soon | {"priority": "bulk"}, key=key, url=narrow)
        await asyncio.sleep(0.25)  # the API's rate is as narrow as its backlog
        return answer.status == 429

    await eventually(is_full, what="bulk intake to be refused")
    assert "3 or more bulk deliveries wait" in the_problem(answer, 429, "backlog_full")["detail"]
    assert answer.headers["Retry-After"] == "30"
    urgent = await running.call("POST", "/v1/notifications", soon | {"priority": "urgent"}, key=key, url=narrow)
    assert urgent.status == 202
    batch = {"notifications": [soon | {"priority": "bulk"}, soon | {"priority": "urgent"}]}
    results = (await running.call("POST", "/v1/notifications/batch", batch, key=key, url=narrow)).body["results"]
    assert results[0]["error"]["code"] == "backlog_full"
    assert results[1]["status"] == "accepted"


async def test_the_limit_on_bodies_is_a_setting(running: Running, narrow: str) -> None:
    key = await a_key(running)
    answer = await running.call("POST", "/v1/notifications", b"{" + b" " * 2048, key=key, url=narrow)
    assert "2048 bytes" in the_problem(answer, 413, "body_too_large")["detail"]


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    per_second=st.floats(0.1, 1000),
    burst=st.integers(1, 50),
    waits=st.lists(st.floats(0, 5), max_size=100),
)
def test_no_key_gets_more_than_its_burst_and_its_rate(per_second: float, burst: int, waits: list[float]) -> None:
    clock = Clock()
    rates = Rates(per_second=per_second, burst=burst, clock=clock)
    allowed = 0
    for wait in waits:
        clock.now += wait
        standing = rates.take("k")
        allowed += standing.allowed
        assert 0 <= standing.remaining < burst
        assert allowed <= burst + (clock.now - 1000) * per_second + 2 * ROUNDING
        if not standing.allowed:
            assert 0 < standing.retry_after <= 1 / per_second + 1e-6


@given(per_second=st.floats(0.1, 1000), burst=st.integers(1, 50))
def test_who_waits_as_long_as_told_is_let_in(per_second: float, burst: int) -> None:
    clock = Clock()
    rates = Rates(per_second=per_second, burst=burst, clock=clock)
    for _ in range(burst):
        assert rates.take("k").allowed
    refused = rates.take("k")
    assert not refused.allowed
    assert rates.take("other").allowed
    clock.now += math.ceil(refused.retry_after)
    assert rates.take("k").allowed
