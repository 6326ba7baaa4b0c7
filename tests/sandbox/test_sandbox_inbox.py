"""The inbox: what people would see, and that nobody can do harm through it."""

from __future__ import annotations

import re

import pytest

from notifier.sandbox.inbox import KEPT
from tests.sandbox.house import House

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


async def page_of(house: House) -> str:
    answer = await house.ask("GET", "/")
    assert answer.status == 200
    return answer.body.decode()


async def test_the_page_shows_each_channel_with_its_delivery_and_attempt(house: House) -> None:
    await house.smtp(delivery_id=31)
    await house.push(delivery_id=32)
    await house.webpush(await house.subscribe(), b'{"title": "On the desktop", "body": "hello"}')
    page = await page_of(house)
    for text in ("Grüße", "Acme &lt;hello@acme.example&gt;", "ada@shop.example", "On the desktop", "token-1"):
        assert text in page
    for number in (31, 32, 7):
        assert f"delivery {number}" in page
    assert "attempt 2" in page


async def test_an_empty_inbox_says_so(house: House) -> None:
    page = await page_of(house)
    for text in ("No mail yet.", "No notifications.", "Nothing on the desktop."):
        assert text in page


async def test_everything_that_came_from_outside_is_escaped(house: House) -> None:
    await house.ses(
        "send_email",
        FromEmailAddress="x@acme.example",
        Destination={"ToAddresses": ["ada@shop.example"]},
        Content={"Simple": {"Subject": {"Data": EVIL}, "Body": {"Text": {"Data": EVIL}}}},
        EmailTags=[{"Name": "delivery_id", "Value": "1"}],
    )
    await house.fcm({"token": EVIL, "notification": {"title": EVIL, "body": EVIL}, "data": {"url": EVIL}})
    await house.webpush(await house.subscribe(), b'{"title": 5, "body": ["<b>"], "tag": {}}')
    await house.webpush(await house.subscribe(), EVIL.encode())
    await house.faults({"action": "status", "status": 500, "message": EVIL})
    page = await page_of(house)
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page
    mail = (await house.ask("GET", "/inbox/mail/1")).body.decode()
    assert "<script>" not in mail


async def test_the_page_may_load_run_and_be_framed_by_nothing_from_outside(house: House) -> None:
    answer = await house.ask("GET", "/")
    policy, page = answer.headers["Content-Security-Policy"], answer.body.decode()
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy)
    assert nonce
    assert page.count("<script") == page.count(f'<script nonce="{nonce[1]}"') == 1
    assert not re.search(r'(src|href)="(?!/)', page)
    assert not re.search(r"\son\w+=|style=", page)
    assert nonce[1] not in (await page_of(house))


async def test_a_mails_html_is_shown_in_a_sandbox_of_its_own(house: House) -> None:
    await house.smtp(html="<h1 style='color:red'>Hello</h1><script>alert(1)</script>")
    answer = await house.ask("GET", "/inbox/mail/1")
    assert b"<h1 style='color:red'>Hello</h1>" in answer.body
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script-src" not in policy
    assert re.search(r'<iframe name="mail" sandbox title', await page_of(house))


@pytest.mark.parametrize("seq", ["2", "x", "9" * 40, "", "1/.."])
async def test_a_mail_that_is_not_here_is_not_found(house: House, seq: str) -> None:
    await house.smtp()
    assert (await house.ask("GET", f"/inbox/mail/{seq}")).status == 404


async def test_the_last_ones_are_kept_newest_first(house: House) -> None:
    for number in range(KEPT + 3):
        await house.push(delivery_id=number, tag=f"t{number}")
    shown = [int(item["delivery_id"]) for item in await house.inbox("push")]
    assert shown == list(range(KEPT + 2, 2, -1))


async def test_what_was_refused_or_lost_is_seen_by_nobody(house: House) -> None:
    await house.push("gone")
    await house.push("garbage")
    with pytest.raises(OSError, match="reset"):
        await house.push("reset")
    assert len(await house.inbox("push")) == 0


@pytest.mark.parametrize(
    "mail",
    [
        b"",
        b"no header at all",
        b"Subject: =?utf-8?b?###?=\r\n\r\nHi",
        b"Subject: =?no-such-charset?q?x?=\r\nContent-Type: text/plain; charset=nope\r\n\r\n\xff\xfe",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n--x--",
        b"From: \xff\xfe\r\nSubject: a\r\n b\r\n\r\nHi",
    ],
)
async def test_a_mail_that_is_broken_does_not_break_the_inbox(house: House, mail: bytes) -> None:
    await house.ses(
        "send_email", Destination={"ToAddresses": ["ada@shop.example"]}, Content={"Raw": {"Data": mail or b"\r\n"}}
    )
    await page_of(house)
    assert (await house.ask("GET", "/inbox/mail/1")).status == 200
    assert len(await house.inbox("email")) == 1
