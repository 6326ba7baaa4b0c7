"""Fault scripts: each action, and whom it strikes."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import ConnectionClosedError, HTTPClientError, ReadTimeoutError

from notifier.sandbox.faults import Faults, FaultScript
from notifier.sandbox.plan import Call, Provider
from tests.sandbox.house import House, eventually


async def test_a_status_goes_out_as_often_as_it_is_told_to(house: House) -> None:
    await house.faults({"provider": "fcm", "action": "status", "status": 503, "times": 2})
    assert [(await house.push()).status for _ in range(3)] == [503, 503, 200]
    assert (await house.ask("GET", "/faults")).json["faults"][0]["struck"] == 2
    await house.faults({"action": "status", "status": 500})
    assert (await house.ask("DELETE", "/faults")).status == 204
    assert (await house.push()).status == 200


async def test_retry_after_can_be_a_date(house: House) -> None:
    await house.faults({"action": "status", "status": 429, "retry_after": 120, "retry_after_date": True})
    answer = await house.push()
    left = parsedate_to_datetime(answer.headers["Retry-After"]) - datetime.now(UTC)
    assert 100 < left.total_seconds() <= 121


async def test_a_delay_is_in_the_ledger_at_once_and_answered_later(house: House) -> None:
    await house.faults({"action": "delay", "seconds": 0.5})
    sending = asyncio.create_task(house.push())
    await eventually(house.ledger)
    early = await house.entry()
    assert (early["outcome"], early["answered"]) == ("accepted", None)
    assert (await sending).status == 200
    entry = await house.entry()
    waited = datetime.fromisoformat(entry["answered"]) - datetime.fromisoformat(entry["received"])
    assert waited.total_seconds() >= 0.5
    await house.restart()
    assert (await house.entry())["answered"] == entry["answered"]


@pytest.mark.parametrize(("after_accept", "outcome"), [(False, "hung"), (True, "accepted")])
async def test_a_hang_is_never_answered(house: House, after_accept: bool, outcome: str) -> None:
    await house.faults({"action": "hang", "after_accept": after_accept})
    with pytest.raises(ReadTimeoutError):
        await house.mail()
    with pytest.raises((TimeoutError, smtplib.SMTPException)):
        await house.smtp(delivery_id=8)
    entries = await house.ledger()
    assert [(e["provider"], e["outcome"], e["status"], e["answered"]) for e in entries] == [
        ("ses", outcome, None, None),
        ("smtp", outcome, None, None),
    ]


async def test_a_hang_can_end_in_a_dropped_connection(house: House) -> None:
    await house.faults({"action": "hang", "seconds": 0.05})
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await house.push()


@pytest.mark.parametrize(("after_accept", "outcome"), [(False, "reset"), (True, "accepted")])
async def test_a_reset_is_a_reset(house: House, after_accept: bool, outcome: str) -> None:
    await house.faults({"action": "reset", "after_accept": after_accept})
    with pytest.raises((ConnectionClosedError, HTTPClientError)):
        await house.mail()
    with pytest.raises(OSError, match="reset by peer"):
        await house.smtp(delivery_id=8)
    token = await house.fcm_token()
    reader, writer = await asyncio.open_connection("127.0.0.1", house.sandbox.port)
    body = b'{"message": {"token": "t"}}'
    writer.write(
        b"POST /v1/projects/notifier-sandbox/messages:send HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (token.encode(), len(body), body)
    )
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    assert [entry["outcome"] for entry in await house.ledger()] == [outcome] * 3


@pytest.mark.parametrize(
    ("kind", "status", "check"),
    [
        ("truncated", 200, lambda body: body.startswith(b'{"name"') and not body.endswith(b"}")),
        ("html", 200, lambda body: body.startswith(b"<!doctype html")),
        ("empty", 200, lambda body: body == b""),
        ("redirect", 302, lambda body: b"<html" in body),
        ("huge", 200, lambda body: len(body) == 1_000_000),
    ],
)
async def test_garbage_has_five_kinds(house: House, kind: str, status: int, check: Callable[[bytes], bool]) -> None:
    await house.faults({"action": "garbage", "kind": kind, "size_bytes": 1_000_000})
    answer = await house.push()
    assert answer.status == status
    assert check(answer.body)
    entry = await house.entry()
    assert (entry["outcome"], entry["status"]) == ("garbage", status)


async def test_a_gigabyte_is_not_made_before_it_is_read(house: House) -> None:
    await house.faults({"action": "garbage", "kind": "huge"})
    token = await house.fcm_token()
    async with house.session.post(
        f"{house.sandbox.url}/v1/projects/notifier-sandbox/messages:send",
        json={"message": {"token": "t"}},
        headers={"Authorization": f"Bearer {token}"},
    ) as answer:
        assert answer.content_length == 1 << 30
        assert len(await answer.content.readexactly(200_000)) == 200_000
        answer.close()
    assert (await house.ask("GET", "/livez")).status == 200


async def test_an_answer_can_drip_byte_by_byte(house: House) -> None:
    await house.faults({"action": "drip", "seconds": 0.001})
    answer = await house.push()
    assert (answer.status, list(answer.json)) == (200, ["name"])
    assert (await house.entry())["outcome"] == "accepted"


async def test_a_fault_strikes_only_whom_it_names(house: House) -> None:
    await house.faults(
        {"provider": "ses", "action": "status", "status": 500},
        {"match": {"address": "TOKEN-[12]"}, "action": "status", "status": 501},
        {"match": {"delivery_id": "99"}, "action": "status", "status": 502},
        {"match": {"attempt": 1, "address": "once*"}, "action": "status", "status": 503},
    )
    statuses = [
        (await house.push("token-1")).status,
        (await house.push("token-3")).status,
        (await house.push("token-4", delivery_id=99)).status,
        (await house.push("once")).status,
    ]
    assert statuses == [501, 200, 502, 503]


async def test_a_script_that_is_not_valid_changes_nothing(house: House) -> None:
    await house.faults({"action": "status", "status": 500})
    for wrong in (
        {"action": "status"},
        {"action": "delay"},
        {"action": "rate"},
        {"action": "explode"},
        {"action": "status", "status": 500, "typo": 1},
        {"action": "status", "error": "A\r\nB"},
        {"action": "hang", "probability": 2},
    ):
        answer = await house.ask("PUT", "/faults", json={"faults": [wrong]})
        assert answer.status == 422, wrong
    assert (await house.push()).status == 500


def struck(fault: dict[str, Any], calls: int, *, clock: Callable[[], float] = lambda: 0.0) -> list[bool]:
    """Which of so many calls a fault strikes."""
    faults = Faults(clock)
    faults.put(FaultScript.model_validate({"faults": [fault]}).faults)
    call = Call(Provider.FCM, "token", "key", datetime.now(UTC))
    return [faults.strike(call) is not None for _ in range(calls)]


def test_chance_strikes_about_as_often_as_it_says_and_the_same_way_for_the_same_seed() -> None:
    fault = {"action": "reset", "probability": 0.25, "seed": 7}
    first = struck(fault, 2000)
    assert 420 < sum(first) < 580
    assert struck(fault, 2000) == first
    assert struck(fault | {"seed": 8}, 2000) != first


def test_a_rate_lets_through_a_second_at_once_and_then_its_pace() -> None:
    fault = {"action": "rate", "per_second": 10}
    assert struck(fault, 15) == [False] * 10 + [True] * 5
    now = iter([0.0, *(second / 10 for second in range(100))])
    assert not any(struck(fault, 100, clock=lambda: next(now)))
    assert struck(fault | {"burst": 1}, 3) == [False, True, True]


async def test_over_the_rate_the_provider_says_slow_down(house: House) -> None:
    await house.faults({"action": "rate", "per_second": 0.001, "burst": 2, "retry_after": 4})
    answers = [await house.push() for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert answers[-1].headers["Retry-After"] == "4"
    assert answers[-1].json["error"]["details"][0]["errorCode"] == "QUOTA_EXCEEDED"
