"""Whose fault a refusal is: a quota or a rate of ours is throttling, a mailbox's own limit stays about the mailbox."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from notifier.channels.email.smtp import Stage, refused
from notifier.domain.outcome import Outcome, Permanent, Throttled, Transient
from tests.notifier.channels.relay import send_one
from tests.notifier.channels.servers import raw_server

CONNECT, MAIL, RCPT, DATA, DOT = Stage
MINUTE = timedelta(minutes=1)
#: After MAIL: where a relay says what it has counted.
ANYWHERE = (MAIL, RCPT, DATA, DOT)

#: What providers say when a quota of the account is used up. The texts are theirs (support pages, bug reports).
OUR_QUOTAS = [
    "550 5.4.5 Daily user sending quota exceeded. o65sm25351206pga.71 - gsmtp",
    "550 5.4.5 Daily user sending limit exceeded. For more information on Gmail\n5.4.5 sending limits go to\n"
    "5.4.5 https://support.google.com/a/answer/166852 j37 - gsmtp",
    "550 5.7.1 Daily SMTP relay limit exceeded for customer. For more information on\n"
    "5.7.1 SMTP relay sending limits please contact your administrator - gsmtp",
    "550 5.7.1 Daily SMTP relay\n5.7.1 limit exceeded for customer.",
    "554 5.7.0 Your message could not be sent. The limit on the number of allowed outgoing messages was exceeded."
    " Try again later.",
    "552 C13ypH3DXQO9CC140p6S9y Message would take you over your relay quota of 500 Current quota used: 487",
    "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients",
    "550 5.1.90 Your message can't be sent",
    "550 5.7.233 Your message can't be sent because your tenant exceeded its daily limit for sending email to external"
    " recipients (tenant external recipient rate limit)",
    "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message",
    "550 5.2.2 Submission quota exceeded",
    "454 4.7.0 Throttling failure: Daily message quota exceeded.",
    "550 Domain shop.example has exceeded the max emails per hour (150/150 (100%)) allowed. Message discarded.",
    "550 Domain shop.example has exceeded the max defers and failures per hour (5/5 (100%)) allowed.",
    "550 hello@acme.example has exceeded its 24-hour sending limit. Messages to 250 recipients have been sent.",
    "450 Requested mail action not taken: mailbox unavailable\nMail send limit exceeded.",
    "550 User hello has exceeded outgoing email quota",
    "550 spam mail rejected: exceeded hour limit",
    "451 4.7.1 Hourly limit exceeded",
    "554 5.7.1 <DATA>: Data command rejected: only 10 messages per day",
    "420 Exceed Sending Limit (hourly)",
    "451 Authentication failed: Maximum credits exceeded",
    "550 Maximum credits exceeded",
    "550 5.4.6 Unusual sending activity detected. Please try after sometime",
    "550 You have exceeded your monthly quota",
    "552 5.7.1 Message count quota exceeded",
]

#: What they say when the account is too fast, with mails or with connections.
OUR_RATES = [
    '451 4.7.1 Ratelimit "user" exceeded',
    "450 4.7.1 Error: too much mail from 127.0.0.1",
    "421 4.7.0 relay.test Error: too many connections from 127.0.0.1",
    "421 4.7.0 relay.test Error: too many new TLS sessions from 127.0.0.1",
    "450 4.7.1 Error: too many recipients from 127.0.0.1",
    "421 Too many concurrent SMTP connections; please try again later.",
    "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing transmission channel",
    "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending",
    "452 4.3.2 Connection rate limit exceeded.",
    "421 4.4.2 Message submission rate for this client has exceeded the configured limit",
    "454 4.7.0 Throttling failure: Maximum sending rate exceeded.",
    "450 4.2.1 Peak SMTP relay limit exceeded for customer. This is a temporary error.",
    "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail. To protect our users from spam, mail has been"
    "\n4.7.28 temporarily rate limited.",
    "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation.",
    "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)",
    "421 4.4.5 Server busy, try again later.",
    "452 4.4.5 Rate limit exceeded, try again later.",
    "450 4.7.1 rate-limited, slow down",
    "550 5.7.0 Requested action not taken: too many emails per second",
    "550 sorry, too many emails (#5.7.1)",
    "550 Too many messages. Try again in 92 seconds.",
    "451 4.7.1 <mx.example.org[192.0.2.2]>: Client host rejected: Please try again slower",
    "450 4.7.1 You are sending mail too fast",
    "450 4.7.1 Sender rate overlimit",
    "421 4.7.0 IP frequency limit exceeded",
    "550 5.7.1 only 5 recipients per 5 minutes allowed",
    "550 5.4.5",
]

#: What is about one mailbox, though its words are much alike: nobody else's mail may wait for it.
MAILBOXES_FOR_NOW = [
    "452 4.2.2 The email account that you tried to reach is over quota. Please direct the recipient to",
    "450 4.2.1 The user you are trying to contact is receiving mail too quickly.\n4.2.1 Please resend your message",
    "450 4.2.1 The user you are trying to contact is receiving mail at a rate that\n4.2.1 prevents additional messages",
    "450 The user you are trying to contact is receiving mail at a rate that prevents additional messages",
    "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded",
    "451 4.7.1 The recipient has exceeded their message rate limit. Try again later.",
    "452 4.2.2 mailbox over quota",
    "452 4.2.2 <ada@example.com> Quota exceeded (daily limit of this mailbox)",
    "452 4.2.2 user has too many messages on the server",
    "450 4.2.0 mailbox is busy",
    "450 4.2.1 mailbox is busy",
    "450 too many messages in the mailbox",
    "452 4.2.2 too much mail data",
    "450 4.2.0 <ada@example.com>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/",
    "451 4.7.1 Greylisting in action, please come back later",
    "452 4.3.1 Insufficient system storage",
    "452 4.4.5 Insufficient disk space; try again later",
    "451 4.3.0 Temporary local problem",
    "450 4.1.8 Sender address rejected: Domain not found",
]
MAILBOXES_FOR_GOOD = [
    ("552 5.2.2 The email account that you tried to reach is over quota", "mailbox_full"),
    ("552 5.2.2 <ada@example.com> Quota exceeded (mailbox for user is full)", "mailbox_full"),
    ("550 5.2.2 user over quota", "mailbox_full"),
    ("552 Requested mail action aborted: exceeded storage allocation", "mailbox_full"),
    ("552 Mailbox quota exceeded", "mailbox_full"),
    ("550 5.2.1 The user you are trying to contact is receiving mail too quickly", "mailbox_unavailable"),
    ("554 5.2.122 The recipient has exceeded their limit of messages per hour", "mailbox_unavailable"),
    ("550 5.1.1 no such user", "mailbox_unavailable"),
    ("550 no such user", "mailbox_unavailable"),
    ("553 what name?", "mailbox_unavailable"),
    # Neither about a mailbox nor about a quota.
    ("550 5.1.8 Access denied, bad outbound sender", "recipient_refused"),
    ("550 5.4.1 Recipient address rejected: Access denied", "recipient_refused"),
    ("550 5.4.6 too many hops", "recipient_refused"),
    ("552 5.3.4 Message size exceeds the sending limit", "recipient_refused"),
    ("550 5.5.0 too many invalid recipients", "recipient_refused"),
    ("550 5.7.1 mail sent from your IP address has been blocked", "refused_by_policy"),
    ("554 5.7.1 Relay access denied", "refused_by_policy"),
]


def read(line: str, stage: Stage) -> Outcome:
    return refused(stage, int(line[:3]), line[4:])


@pytest.mark.parametrize("stage", ANYWHERE)
@pytest.mark.parametrize("line", OUR_QUOTAS)
def test_a_quota_of_ours_that_is_used_up_is_throttling_wherever_it_is_told(line: str, stage: Stage) -> None:
    outcome = read(line, stage)
    assert isinstance(outcome, Throttled), outcome
    assert (outcome.reason, outcome.retry_after, outcome.rest) == ("daily_quota_exceeded", MINUTE, 15 * MINUTE)


@pytest.mark.parametrize("stage", ANYWHERE)
@pytest.mark.parametrize("line", OUR_RATES)
def test_a_rate_of_ours_that_is_too_high_is_throttling_wherever_it_is_told(line: str, stage: Stage) -> None:
    outcome = read(line, stage)
    assert isinstance(outcome, Throttled), outcome
    assert (outcome.reason, outcome.retry_after, outcome.rest) == ("rate_exceeded", timedelta(seconds=5), None)


@pytest.mark.parametrize("stage", ANYWHERE)
@pytest.mark.parametrize("line", MAILBOXES_FOR_NOW)
def test_what_is_about_one_mailbox_defers_its_mail_and_nobody_elses(line: str, stage: Stage) -> None:
    outcome = read(line, stage)
    assert isinstance(outcome, Transient), outcome
    assert (outcome.reason, outcome.is_outage, outcome.is_deferral) == ("deferred", False, True)


@pytest.mark.parametrize(("line", "reason"), MAILBOXES_FOR_GOOD)
def test_a_recipient_is_refused_for_good_and_only_a_mailbox_is_blamed_that_is_named(line: str, reason: str) -> None:
    outcome = read(line, RCPT)
    assert isinstance(outcome, Permanent), outcome
    assert outcome.reason == reason


@pytest.mark.parametrize("stage", [DATA, DOT])
def test_a_full_mailbox_is_not_a_mail_that_is_too_large(stage: Stage) -> None:
    assert read("552 5.2.2 Quota exceeded (mailbox for user is full)", stage).reason == "mailbox_full"
    assert read("552 5.3.4 Message size exceeds the limit", stage).reason == "message_too_large"


@pytest.mark.parametrize(
    "line",
    [
        "421 4.3.2 not accepting network messages",
        "450 4.3.2 try again later",
        "451 4.3.0 Temporary authentication failure",
        "454 4.7.0 Too many login attempts, please try again later. - gsmtp",
        "454 4.3.0 TLS not available due to temporary reason",
    ],
)
def test_before_mail_no_reply_is_about_the_mail(line: str) -> None:
    outcome = read(line, CONNECT)
    assert isinstance(outcome, Transient)
    assert (outcome.reason, outcome.is_outage, outcome.is_deferral) == ("relay_unavailable", True, True)


@pytest.mark.parametrize("line", [OUR_QUOTAS[0], *OUR_RATES, "451 Authentication failed: Maximum credits exceeded"])
def test_a_limit_of_ours_is_throttling_also_before_mail(line: str) -> None:
    assert isinstance(read(line, CONNECT), Throttled)


def test_a_limit_is_one_also_where_logging_in_fails_of_it() -> None:
    assert isinstance(read("535 5.7.0 The email limit is reached. Please upgrade your plan", CONNECT), Throttled)
    assert read("535 5.7.8 Username and password not accepted", CONNECT).reason == "auth_failed"


@pytest.mark.parametrize("stage", ANYWHERE)
def test_a_relay_that_closes_its_channel_is_an_outage_that_uses_up_no_attempt(stage: Stage) -> None:
    outcome = read("421 4.3.2 Service not available, closing transmission channel", stage)
    assert isinstance(outcome, Transient)
    assert (outcome.reason, outcome.is_outage, outcome.is_deferral) == ("relay_unavailable", True, True)


def test_of_a_reply_as_long_as_a_relay_likes_only_the_beginning_is_read() -> None:
    assert isinstance(read("450 4.7.1 Rate limit exceeded " + "x" * 100_000, RCPT), Throttled)
    assert read("450 4.7.1 " + "x" * 100_000 + " rate limit exceeded", RCPT).reason == "deferred"


def a_relay_that_says(lines: bytes, *, at: bytes) -> Any:
    """A relay that answers the command `at` (or the mail itself: b".") with `lines`, and all else with yes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 relay.test\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == at:
                writer.write(lines)
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(lines if at == b"." else b"250 taken\r\n")
            elif verb == b"EHLO":
                writer.write(b"250-relay.test\r\n250 AUTH PLAIN\r\n")
            else:
                writer.write(b"250 ok\r\n")

    return talk


@pytest.mark.parametrize("at", [b"MAIL", b"RCPT", b"DATA", b"."])
async def test_gmails_reply_of_three_lines_is_read_as_one(at: bytes) -> None:
    lines = (
        b"550-5.4.5 Daily user sending limit\r\n550-5.4.5 exceeded. For more information on Gmail sending limits go\r\n"
        b"550 5.4.5 to https://support.google.com/a/answer/166852 - gsmtp\r\n"
    )
    async with raw_server(a_relay_that_says(lines, at=at)) as port:
        outcome = await send_one(f"smtp://127.0.0.1:{port}")
    assert isinstance(outcome, Throttled)
    assert outcome.reason == "daily_quota_exceeded"
    assert "Daily user sending limit" in (outcome.detail or "")


async def test_credits_that_are_used_up_are_told_at_auth_and_are_no_word_about_the_mail() -> None:
    talk = a_relay_that_says(b"451 Authentication failed: Maximum credits exceeded\r\n", at=b"AUTH")
    async with raw_server(talk) as port:
        outcome = await send_one(f"smtp://user:secret@127.0.0.1:{port}")
    assert isinstance(outcome, Throttled)
    assert outcome.reason == "daily_quota_exceeded"


async def test_a_login_that_is_refused_for_now_is_an_outage() -> None:
    talk = a_relay_that_says(b"454 4.7.0 Temporary authentication failure\r\n", at=b"AUTH")
    async with raw_server(talk) as port:
        outcome = await send_one(f"smtp://user:secret@127.0.0.1:{port}")
    assert isinstance(outcome, Transient)
    assert (outcome.reason, outcome.is_outage) == ("relay_unavailable", True)


#: Words that relays use of our limits, here in the address that they repeat: it may be anybody's choice.
ADDRESSES = [
    "max@monthly.example",
    "limited@monthly-news.example",
    "rate-limit@acme.example",
    "throttle@acme.example",
    "daily-quota@sending-limit.example",
    "too-many-messages@per-minute.example",
    "credits-exceeded@hourly.example",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("code", ["5.1.1 ", ""])
def test_an_address_that_reads_like_a_limit_is_only_an_address(address: str, code: str) -> None:
    """Or whoever signs up with such an address holds up everybody's mail."""
    for text in (
        f"{code}<{address}>: Recipient address rejected: User unknown in virtual mailbox table",
        f"{code}{address}: user unknown",
        f"{code}user unknown, see https://{address.partition('@')[2]}/daily-sending-quota?to={address}",
    ):
        outcome = refused(RCPT, 550, text)
        assert isinstance(outcome, Permanent)
        assert outcome.reason == "mailbox_unavailable"


def test_an_address_that_reads_like_a_mailbox_hides_no_limit_of_ours() -> None:
    assert isinstance(refused(RCPT, 550, "5.7.1 <storage@x.example> Daily sending quota exceeded"), Throttled)


@pytest.mark.parametrize(
    ("stage", "code", "text"),
    [
        (RCPT, 450, "4.7.1 <a@b.example>: Recipient address rejected: Greylisted, you may only retry after 24 hours"),
        (RCPT, 450, "4.7.1 Greylisted, please try again in max an hour"),
        (RCPT, 550, "User has exceeded monthly quota"),
        (RCPT, 552, "User over monthly traffic quota"),
        (RCPT, 552, "Account has too many messages"),
        (RCPT, 550, "5.1.1 The account was disabled; maximum 24 hours"),
        (RCPT, 554, "5.7.1 You may only send to this list once a day"),
        (DOT, 500, "5.5.2 SMTP line length limit exceeded"),
        (DOT, 552, "5.3.4 Message exceeds the relay message length limit"),
        (DOT, 554, "5.6.0 Message contains too many recipients"),
        (DOT, 554, "5.7.1 Message rejected: sender content limit"),
    ],
)
def test_a_limit_of_a_mailbox_a_list_or_a_mail_makes_nobody_else_wait(stage: Stage, code: int, text: str) -> None:
    outcome = refused(stage, code, text)
    assert isinstance(outcome, Transient if code < 500 else Permanent), outcome
    assert code >= 500 or outcome.is_deferral  # type: ignore[union-attr]


def test_a_code_that_says_nothing_leaves_it_to_the_reply() -> None:
    """5.0.0: "other undefined status" (RFC 3463 §3.1), as Sendmail writes it."""
    assert refused(RCPT, 550, "5.0.0 <ada@shop.example>... User unknown") == Permanent(
        "mailbox_unavailable", "rcpt: 550 5.0.0 <ada@shop.example>... User unknown"
    )
