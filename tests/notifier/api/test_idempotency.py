"""The same request twice makes one notification, whoever comes first and however often."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from tests.notifier.api.asks import a_key, a_payment, the_problem
from tests.running import Running


async def test_fifty_requests_at_once_with_one_key_make_one_notification(running: Running) -> None:
    asked = (running.post("/v1/notifications", a_payment(), Idempotency_Key="order-991") for _ in range(50))
    answers = await asyncio.gather(*asked)
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert Counter(answer.body["replayed"] for answer in answers) == {True: 49, False: 1}
    assert Counter(answer.headers.get("Idempotent-Replayed") for answer in answers) == {"true": 49, None: 1}
    assert len((await running.get("/v1/notifications")).body["items"]) == 1
    await running.quiescence()
    assert sum((await running.accepted()).values()) == 1


async def test_the_first_answer_comes_again_even_when_much_has_happened(running: Running) -> None:
    first = await running.post("/v1/notifications", a_payment(), Idempotency_Key="a")
    await running.quiescence()
    again = await running.post("/v1/notifications", a_payment(), Idempotency_Key="a")
    assert again.body == first.body | {"replayed": True}
    assert again.headers["Location"] == first.headers["Location"] == f"/v1/notifications/{first.body['id']}"


async def test_order_of_fields_and_white_space_make_no_other_request(running: Running) -> None:
    body = a_payment()
    turned = json.dumps(dict(reversed(body.items())), indent=4).encode()
    await running.post("/v1/notifications", body, Idempotency_Key="a")
    assert (await running.post("/v1/notifications", turned, Idempotency_Key="a")).body["replayed"] is True


async def test_a_key_used_for_another_body_is_refused_and_nothing_is_made(running: Running) -> None:
    await running.post("/v1/notifications", a_payment(), Idempotency_Key="a")
    answer = await running.post("/v1/notifications", a_payment(reference="other"), Idempotency_Key="a")
    assert "Use a new key" in the_problem(answer, 422, "idempotency_key_reused")["detail"]
    assert len((await running.get("/v1/notifications")).body["items"]) == 1


@pytest.mark.parametrize(("bare", "quoted"), [("order 7", '"order 7"'), ('a"b\\c', '"a\\"b\\\\c"'), ("k", ' "k" ')])
async def test_a_quoted_key_is_the_bare_one(running: Running, bare: str, quoted: str) -> None:
    first = await running.post("/v1/notifications", a_payment(), Idempotency_Key=bare)
    again = await running.post("/v1/notifications", a_payment(), Idempotency_Key=quoted)
    assert again.body == first.body | {"replayed": True}


@pytest.mark.parametrize(
    "key", ['"', '""', '"a', '"a"b"', '"a\\b"', '"a\\"', "x" * 256, f'"{"x" * 256}"', "ä", "a\tb", " "]
)
async def test_a_malformed_key_is_a_bad_request(running: Running, key: str) -> None:
    answer = await running.post("/v1/notifications", a_payment(), Idempotency_Key=key)
    assert "1 to 255 printable ASCII" in the_problem(answer, 400, "idempotency_key_invalid")["detail"]
    assert (await running.get("/v1/notifications")).body["items"] == []


async def test_a_key_of_255_characters_is_a_key(running: Running) -> None:
    for key in ("x" * 255, f'"{"x" * 255}"'):
        assert (await running.post("/v1/notifications", a_payment(), Idempotency_Key=key)).status == 202


async def test_another_services_key_is_another_key(running: Running) -> None:
    other = await a_key(running)
    mine = await running.post("/v1/notifications", a_payment(), Idempotency_Key="a")
    theirs = await running.call("POST", "/v1/notifications", a_payment(), key=other, Idempotency_Key="a")
    assert theirs.body["replayed"] is False
    assert theirs.body["id"] != mine.body["id"]


async def test_both_keys_of_a_service_share_its_requests(running: Running) -> None:
    """A service that changes its API key between a request and its repetition must not send twice."""
    old, new = await a_key(running, service="rotating"), await a_key(running, service="rotating")
    first = await running.call("POST", "/v1/notifications", a_payment(), key=old, Idempotency_Key="rotation")
    again = await running.call("POST", "/v1/notifications", a_payment(), key=new, Idempotency_Key="rotation")
    assert again.body == first.body | {"replayed": True}


async def test_a_refused_request_leaves_its_key_free(running: Running) -> None:
    wrong = await running.post("/v1/notifications", a_payment(template="nope"), Idempotency_Key="a")
    assert wrong.status == 422
    assert (await running.post("/v1/notifications", a_payment(), Idempotency_Key="a")).body["replayed"] is False
