"""SMTP against aiosmtpd and against servers that misbehave at a chosen moment."""

from __future__ import annotations

import asyncio
import email
import email.policy
import os
from datetime import timedelta
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP as Server

from notifier.channels.email import smtp_pool
from notifier.channels.email.smtp import LOST, REFUSALS, TIMED_OUT, Stage, refused
from notifier.domain.content import EmailContent
from notifier.domain.outcome import Outcome, Permanent, Sent, Throttled, Transient, Unknown
from tests.notifier.channels.relay import Mailbox, an_smtp, relay, send_one
from tests.notifier.channels.servers import SECOND, TAG, a_mail, raw_server, reset, unused_port


async def test_a_mail_arrives_whole_with_text_and_html_and_one_recipient() -> None:
    box = Mailbox()
    async with relay(box) as port:
        smtp = an_smtp(f"smtp://127.0.0.1:{port}", tag_worker=True)
        assert await smtp.send(a_mail(), timeout=5 * SECOND) == Sent("ABC123")
        await smtp.close()
    [envelope] = box.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("hello@acme.example", ["ada@example.com"])
    mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert mail["Message-ID"] == f"<{TAG}.42@acme.example>"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert (mail["X-Notifier-Delivery"], mail["X-Notifier-Attempt"]) == ("42", "1")
    assert mail["X-Notifier-Worker"] == str(os.getpid())
    assert "Bcc" not in mail


@pytest.mark.parametrize("tag_for_sandbox", [True, False])
async def test_a_real_relays_mail_carries_no_header_about_us(tag_for_sandbox: bool) -> None:
    """Its URL may have the sandbox's host (a Postfix on this machine), and a sandbox may be there for test keys."""
    box = Mailbox()
    async with relay(box) as port:
        smtp = an_smtp(f"smtp://127.0.0.1:{port}", tag_for_sandbox=tag_for_sandbox, concurrency=1)
        for _ in range(2):  # a new connection and a kept one
            assert isinstance(await smtp.send(a_mail(), timeout=5 * SECOND), Sent)
        await smtp.close()
    assert len(box.envelopes) == 2
    for envelope in box.envelopes:
        assert b"x-notifier" not in envelope.content.lower()


async def test_lines_that_begin_with_a_dot_arrive_as_they_were() -> None:
    box = Mailbox()
    text = ".\r\n.hidden\r\n..\r\nMAIL FROM:<eve@example.com>\r\n.\r\nend"
    async with relay(box) as port:
        assert isinstance(await send_one(f"smtp://127.0.0.1:{port}", content=EmailContent("Dots", text)), Sent)
    [envelope] = box.envelopes
    mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
    payload = mail.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode().replace("\r\n", "\n").rstrip() == text.replace("\r\n", "\n")


async def test_no_header_can_be_injected_by_the_subject() -> None:
    box = Mailbox()
    async with relay(box) as port:
        for breaker in ("\r\n", "\n", "\r", "\u2028", "\x85", "\x00"):
            content = EmailContent(f"Hi{breaker}Bcc: eve@example.com", "x")
            outcome = await send_one(f"smtp://127.0.0.1:{port}", content=content)
            assert isinstance(outcome, Permanent)
            assert outcome.reason == "header_unsafe"
    assert box.envelopes == []


async def test_connections_are_kept_and_never_more_than_the_concurrency() -> None:
    box = Mailbox()
    async with relay(box) as port:
        smtp = an_smtp(f"smtp://127.0.0.1:{port}", concurrency=2)
        await asyncio.gather(*(smtp.send(a_mail(), timeout=5 * SECOND) for _ in range(20)))
        await smtp.close()
    assert len(box.envelopes) == 20
    assert len(box.peers) == 2


async def test_a_refused_recipient_leaves_the_connection_good_for_the_next() -> None:
    box = Mailbox(rcpt="550 5.1.1 no such user")
    async with relay(box) as port:
        smtp = an_smtp(f"smtp://127.0.0.1:{port}", concurrency=1)
        outcome = await smtp.send(a_mail(), timeout=5 * SECOND)
        assert isinstance(outcome, Permanent)
        assert outcome.reason == "mailbox_unavailable"
        box.rcpt = "250 OK"
        assert isinstance(await smtp.send(a_mail(), timeout=5 * SECOND), Sent)
        assert isinstance(await smtp.send(a_mail(), timeout=5 * SECOND), Sent)
        await smtp.close()
    assert len(box.peers) == 1
    assert all(envelope.rcpt_tos == ["ada@example.com"] for envelope in box.envelopes)


async def test_a_kept_connection_that_has_died_is_replaced_without_a_failure() -> None:
    box = Mailbox()
    smtp = None
    port = await unused_port()
    for _ in range(2):
        server = await asyncio.get_running_loop().create_server(
            lambda: Server(box, hostname="relay.test"), "127.0.0.1", port, reuse_address=True
        )
        smtp = smtp or an_smtp(f"smtp://127.0.0.1:{port}", concurrency=1)
        assert isinstance(await smtp.send(a_mail(), timeout=5 * SECOND), Sent)
        server.close()
        assert smtp._pool
        [kept] = smtp._pool._idle
        assert isinstance(kept.client.transport, asyncio.Transport)
        kept.client.transport.abort()
        await server.wait_closed()
    assert smtp
    await smtp.close()
    assert len(box.peers) == 2


async def test_a_relay_that_says_421_to_a_kept_connection_gets_a_new_one() -> None:
    sessions = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sessions
        sessions += 1
        mails = 0
        writer.write(b"220 relay\r\n")
        while line := await reader.readline():
            if line.startswith(b"MAIL"):
                mails += 1
                writer.write(b"421 enough\r\n" if mails > 1 else b"250 ok\r\n")
            elif line.startswith(b"DATA"):
                writer.write(b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 taken\r\n")
            else:
                writer.write(b"250 ok\r\n")

    async with raw_server(talk) as port:
        smtp = an_smtp(f"smtp://127.0.0.1:{port}", concurrency=1)
        for _ in range(3):
            assert isinstance(await smtp.send(a_mail(), timeout=5 * SECOND), Sent)
        await smtp.close()
    assert sessions == 3


async def test_an_idle_connection_is_asked_before_it_is_used_and_an_old_one_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box = Mailbox()
    async with relay(box) as port:
        smtp = an_smtp(f"smtp://127.0.0.1:{port}", concurrency=1)
        await smtp.send(a_mail(), timeout=5 * SECOND)
        monkeypatch.setattr(smtp_pool, "ASK_AFTER", timedelta(0))
        await smtp.send(a_mail(), timeout=5 * SECOND)
        assert len(box.peers) == 1
        monkeypatch.setattr(smtp_pool, "OLDEST", timedelta(0))
        await smtp.send(a_mail(), timeout=5 * SECOND)
        assert len(box.peers) == 2
        await smtp.close()


def a_relay_that(stage: Stage, act: str) -> Any:
    """A relay that does as told up to `stage`, and then `act`s: resets, hangs, or answers with that line."""

    async def misbehave(writer: asyncio.StreamWriter) -> None:
        if act == "reset":
            reset(writer)
        elif act == "hang":
            await asyncio.sleep(60)
        else:
            writer.write(act.encode() + b"\r\n")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if stage is Stage.CONNECT:
            return await misbehave(writer)
        writer.write(b"220 relay\r\n")
        while line := await reader.readline():
            verb = line[:4].decode().lower()
            if verb == stage:
                await misbehave(writer)
            elif verb == "data":
                writer.write(b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                await misbehave(writer)
            else:
                writer.write(b"221 bye\r\n" if verb == "quit" else b"250 ok\r\n")
        return None

    return talk


@pytest.mark.parametrize("stage", list(Stage))
async def test_a_connection_lost_means_not_taken_before_the_dot_and_unknown_after(stage: Stage) -> None:
    async with raw_server(a_relay_that(stage, "reset")) as port:
        outcome = await send_one(f"smtp://127.0.0.1:{port}")
    expected = LOST[stage]
    assert type(outcome) is type(expected) is (Unknown if stage is Stage.DOT else Transient)
    assert outcome.reason == expected.reason


@pytest.mark.parametrize("stage", list(Stage))
async def test_silence_means_not_taken_before_the_dot_and_unknown_after(stage: Stage) -> None:
    async with raw_server(a_relay_that(stage, "hang")) as port:
        outcome = await send_one(f"smtp://127.0.0.1:{port}", timeout=1.5 * SECOND)
    expected = TIMED_OUT[stage]
    assert type(outcome) is type(expected) is (Unknown if stage is Stage.DOT else Transient)
    assert outcome.reason == expected.reason


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.CONNECT])
@pytest.mark.parametrize("act", ["hello", "200 what?", "x" * 100_000])
async def test_nonsense_means_not_taken_before_the_dot_and_unknown_after(stage: Stage, act: str) -> None:
    async with raw_server(a_relay_that(stage, act)) as port:
        outcome = await send_one(f"smtp://127.0.0.1:{port}", timeout=2 * SECOND)
    assert isinstance(outcome, Unknown if stage is Stage.DOT else Transient)


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: f"{row.outcome.reason}-{row.text.pattern}")
def test_each_row_of_the_refusals_can_be_reached_and_means_what_it_says(row: Any) -> None:
    examples = [
        "5.2.2 full",
        "5.1.1 unknown",
        "5.2.1 off",
        "5.7.1 policy",
        "no",
        "Daily message quota exceeded",
        "Rate limit",
    ]
    reached = [
        refused(stage, code, text)
        for stage in row.stages
        for code in row.codes
        for text in examples
        if row.text.search(text)
    ]
    assert any(type(o) is type(row.outcome) and o.reason == row.outcome.reason for o in reached)


@pytest.mark.parametrize(
    ("stage", "line", "expected"),
    [
        (Stage.CONNECT, "554 go away", Transient("relay_refuses")),
        (Stage.CONNECT, "421 busy", Transient("relay_unavailable")),
        (Stage.MAIL, "550 5.7.1 not you", Permanent("sender_refused")),
        (Stage.MAIL, "530 5.7.0 log in first", Transient("auth_failed")),
        (Stage.MAIL, "451 later", Transient("deferred")),
        (Stage.RCPT, "550 5.1.1 no such user", Permanent("mailbox_unavailable")),
        (Stage.RCPT, "553 what name?", Permanent("mailbox_unavailable")),
        (Stage.RCPT, "552 5.2.2 full", Permanent("mailbox_full")),
        (Stage.RCPT, "554 5.7.1 blocked", Permanent("refused_by_policy")),
        (Stage.RCPT, "450 4.2.0 greylisted", Transient("deferred")),
        (Stage.RCPT, "452 4.2.2 mailbox over quota", Transient("deferred")),
        (Stage.DATA, "454 4.7.0 Throttling failure: Maximum sending rate exceeded.", Throttled("rate_exceeded")),
        (Stage.DOT, "454 Throttling failure: Daily message quota exceeded.", Throttled("daily_quota_exceeded")),
        (Stage.DATA, "554 no", Permanent("message_refused")),
        (Stage.DOT, "552 5.3.4 too big", Permanent("message_too_large")),
        (Stage.DOT, "554 5.6.0 spam", Permanent("message_refused")),
        (Stage.DOT, "452 4.3.1 disk full", Transient("deferred")),
    ],
)
async def test_a_refusal_means_what_the_table_says(stage: Stage, line: str, expected: Outcome) -> None:
    async with raw_server(a_relay_that(stage, line)) as port:
        outcome = await send_one(f"smtp://127.0.0.1:{port}")
    assert type(outcome) is type(expected)
    assert outcome.reason == expected.reason


async def test_a_refused_connection_is_transient() -> None:
    outcome = await send_one(f"smtp://127.0.0.1:{await unused_port()}")
    assert isinstance(outcome, Transient)
    assert outcome.reason == "connect_failed"


async def test_a_mail_that_waits_for_a_connection_in_vain_was_not_taken() -> None:
    async with raw_server(a_relay_that(Stage.MAIL, "hang")) as port:
        smtp = an_smtp(f"smtp://127.0.0.1:{port}", concurrency=1)
        first = asyncio.create_task(smtp.send(a_mail(), timeout=0.5 * SECOND))
        await asyncio.sleep(0)
        outcome = await smtp.send(a_mail(), timeout=0.1 * SECOND)
        assert isinstance(outcome, Transient)
        assert outcome.reason == "connect_timeout"
        await first
        await smtp.close()


async def test_cancelling_the_caller_closes_the_connection_and_is_not_swallowed() -> None:
    async with raw_server(a_relay_that(Stage.DOT, "hang")) as port:
        smtp = an_smtp(f"smtp://127.0.0.1:{port}")
        task = asyncio.create_task(smtp.send(a_mail(), timeout=30 * SECOND))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert smtp._pool is not None
        assert smtp._pool._idle == []
        await smtp.close()
