"""Simulated recipients: each outcome on purpose, with each provider."""

from __future__ import annotations

import asyncio
import smtplib
from datetime import datetime
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import ClientError, HTTPClientError

from notifier.sandbox.plan import Provider
from notifier.sandbox.recipients import SIMULATED, name_in
from tests.sandbox.house import House


async def outcome_of_mail(house: House, name: str) -> str:
    try:
        await house.mail(f"{name}+1@shop.example")
    except ClientError as error:
        return f"{error.response['ResponseMetadata']['HTTPStatusCode']} {error.response['Error']['Code']}"
    except HTTPClientError as error:
        return type(error).__name__
    return "accepted"


async def outcome_of_push(house: House, name: str) -> str:
    try:
        async with asyncio.timeout(6):
            answer = await house.push(f"{name}:APA91b")
    except (TimeoutError, aiohttp.ClientError) as error:
        return type(error).__name__
    if answer.status == 200:
        return "accepted"
    return f"{answer.status} {answer.json['error']['details'][0]['errorCode']}"


async def outcome_of_webpush(house: House, name: str) -> str:
    subscription = await house.subscribe(id=f"{name}-1")
    try:
        async with asyncio.timeout(6):
            answer = await house.webpush(subscription)
    except (TimeoutError, aiohttp.ClientError) as error:
        return type(error).__name__
    return "accepted" if answer.status == 201 else str(answer.status)


async def outcome_of_smtp(house: House, name: str) -> str:
    try:
        await house.smtp(f"{name}@shop.example")
    except smtplib.SMTPRecipientsRefused as error:
        return f"rcpt {error.recipients[f'{name}@shop.example'][0]}"
    except smtplib.SMTPResponseException as error:
        return str(error.smtp_code)
    except smtplib.SMTPServerDisconnected as error:  # smtplib's name for every lost connection
        return str(error).rpartition(": ")[2]
    return "accepted"


OUTCOMES = {
    outcome_of_mail: {
        "delivered": "accepted",
        "bounced": "accepted",
        "complaint": "accepted",
        "down": "503 ServiceUnavailable",
        "throttled": "429 TooManyRequestsException",
        "rejected": "400 MessageRejected",
        "gone": "accepted",
        "unregistered": "accepted",
        "unknown": "accepted",
        "mismatch": "accepted",
        "hang": "ReadTimeoutError",
        "accepted-hang": "ReadTimeoutError",
        "reset": "ConnectionClosedError",
        "accepted-reset": "ConnectionClosedError",
    },
    outcome_of_push: {
        "delivered": "accepted",
        "bounced": "accepted",
        "complaint": "accepted",
        "slow": "accepted",
        "down": "503 UNAVAILABLE",
        "throttled": "429 QUOTA_EXCEEDED",
        "rejected": "400 INVALID_ARGUMENT",
        "gone": "404 UNREGISTERED",
        "unregistered": "404 UNREGISTERED",
        "unknown": "400 INVALID_ARGUMENT",
        "mismatch": "403 SENDER_ID_MISMATCH",
        "hang": "TimeoutError",
        "reset": "ClientOSError",
    },
    outcome_of_webpush: {
        "delivered": "accepted",
        "slow": "accepted",
        "down": "503",
        "throttled": "429",
        "rejected": "400",
        "gone": "410",
        "unregistered": "410",
        "unknown": "404",
        "mismatch": "403",
        "hang": "TimeoutError",
        "reset": "ClientOSError",
        "garbage": "accepted",
    },
    outcome_of_smtp: {
        "delivered": "accepted",
        "bounced": "accepted",
        "down": "451",
        "throttled": "454",
        "rejected": "554",
        "gone": "rcpt 550",
        "unregistered": "rcpt 550",
        "unknown": "rcpt 550",
        "hang": "timed out",
        "reset": "[Errno 104] Connection reset by peer",
        "garbage": "25",
    },
}


@pytest.mark.parametrize(
    ("send", "name", "outcome"),
    [(send, name, outcome) for send, outcomes in OUTCOMES.items() for name, outcome in outcomes.items()],
)
async def test_a_simulated_recipient_has_the_outcome_of_its_name(
    house: House, send: Any, name: str, outcome: str
) -> None:
    assert await send(house, name) == outcome
    entry = await house.entry()
    assert entry["cause"] == name
    spoilt = {"hang": "hung", "reset": "reset", "garbage": "garbage"}
    refused = "accepted" if outcome == "accepted" or name.startswith("accepted") else "rejected"
    assert entry["outcome"] == spoilt.get(name, refused)


async def test_slow_takes_two_seconds(house: House) -> None:
    await house.push("slow")
    entry = await house.entry()
    waited = datetime.fromisoformat(entry["answered"]) - datetime.fromisoformat(entry["received"])
    assert waited.total_seconds() >= 2


async def test_a_fault_script_goes_before_a_name_but_a_delay_only_adds_to_it(house: House) -> None:
    await house.faults({"action": "status", "status": 500, "times": 1}, {"action": "delay", "seconds": 0.01})
    assert [(await house.push("gone")).status for _ in range(2)] == [500, 404]


@pytest.mark.parametrize(
    ("provider", "address", "name"),
    [
        (Provider.SES, "DOWN+x@shop.example", "down"),
        (Provider.SES, "downey@shop.example", None),
        (Provider.SES, "ada.down@shop.example", None),
        (Provider.SES, "accepted-hang@shop.example", "accepted-hang"),
        (Provider.FCM, "reset-accepted", "reset"),
        (Provider.FCM, "gone", "gone"),
        (Provider.WEBPUSH, "https://push.example/wpush/gone-3", "gone"),
        (Provider.WEBPUSH, "https://gone.example/x", None),
    ],
)
def test_a_name_ends_where_no_letter_follows(provider: Provider, address: str, name: str | None) -> None:
    assert name_in(provider, address) == name


async def test_all_of_them_are_listed_for_people_and_programs(house: House) -> None:
    listed = (await house.ask("GET", "/recipients")).json["recipients"]
    page = (await house.ask("GET", "/")).body.decode()
    assert list(listed) == list(SIMULATED)
    assert all(f"<code>{name}</code>" in page for name in SIMULATED)
