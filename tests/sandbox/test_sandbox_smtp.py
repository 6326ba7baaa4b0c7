"""SMTP, as smtplib speaks it."""

from __future__ import annotations

import asyncio
import smtplib

import pytest

from notifier.domain.recipient import target_key
from tests.sandbox.house import House


async def test_a_mail_is_taken_and_stands_in_the_ledger_with_its_headers(house: House) -> None:
    await house.smtp("Ada@shop.example", delivery_id=31, html="<b>Hello.</b>")
    entry = await house.entry()
    assert (entry["provider"], entry["delivery_id"], entry["attempt"], entry["worker_pid"]) == ("smtp", "31", 2, 4711)
    assert (entry["target"], entry["outcome"], entry["status"]) == (target_key("ada@shop.example"), "accepted", 250)
    (shown,) = await house.inbox("email")
    assert (shown["subject"], shown["html"].strip()) == ("Grüße", "<b>Hello.</b>")


async def test_one_connection_carries_many_mails_and_any_login(house: House) -> None:
    def blocking() -> None:
        with smtplib.SMTP("127.0.0.1", house.sandbox.smtp_port, timeout=5) as client:
            client.login("anybody", "anything")
            for number in range(3):
                mail = f"X-Notifier-Delivery: {number}\r\nSubject: {number}\r\n\r\nHi\r\n"
                client.sendmail("hello@acme.example", ["ada@shop.example", "bob@shop.example"], mail)

    await asyncio.to_thread(blocking)
    summary = await house.summary()
    assert (summary["calls"], summary["distinct"], summary["duplicates"]) == (6, 6, 0)


@pytest.mark.parametrize(("status", "code"), [(451, 451), (421, 421), (554, 554), (503, 451), (429, 454), (404, 554)])
async def test_a_refusal_comes_after_the_mail_in_smtps_own_codes(house: House, status: int, code: int) -> None:
    await house.faults({"provider": "*", "action": "status", "status": status, "message": "not now"})
    with pytest.raises(smtplib.SMTPDataError) as caught:
        await house.smtp(delivery_id=5)
    assert caught.value.smtp_code == code
    assert b"not now" in caught.value.smtp_error
    assert (await house.entry(delivery_id=5))["outcome"] == "rejected"


async def test_an_unknown_user_is_refused_before_the_mail(house: House) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        await house.smtp("gone@shop.example")
    assert caught.value.recipients["gone@shop.example"][0] == 550
    entry = await house.entry()
    assert (entry["outcome"], entry["delivery_id"], entry["cause"]) == ("rejected", None, "gone")


@pytest.mark.parametrize("kind", ["truncated", "html", "empty", "redirect", "huge"])
async def test_garbage_is_no_reply_that_a_client_can_take(house: House, kind: str) -> None:
    await house.faults({"provider": "smtp", "action": "garbage", "kind": kind, "size_bytes": 100_000})
    with pytest.raises((smtplib.SMTPException, OSError)):
        await house.smtp()
    assert (await house.entry())["outcome"] == "garbage"


async def test_a_reply_can_drip(house: House) -> None:
    await house.faults({"provider": "smtp", "action": "drip", "seconds": 0.001})
    await house.smtp()
    entry = await house.entry()
    assert entry["outcome"] == "accepted"
    assert entry["answered"]
