"""A mail relay by SMTP (RFC 5321), over kept connections.

The relay has the mail once it has answered the final dot with 250. So what fails before the dot is
written was not taken, what is refused after it was not taken either, and what is lost after it is Unknown.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import aiosmtplib

from notifier.channels.contract import Message
from notifier.channels.email.compose import HeaderUnsafe, Sender, check_header_address, compose, mail_tag, message_id
from notifier.channels.email.smtp_limits import QUOTA, RATE, one_line
from notifier.channels.email.smtp_pool import Pool
from notifier.channels.email.smtp_url import Relay
from notifier.channels.explained import explained
from notifier.channels.options import SmtpOptions
from notifier.domain.content import EmailContent
from notifier.domain.errors import SettingsInvalid
from notifier.domain.notification import Channel
from notifier.domain.outcome import Outcome, Permanent, Sent, Throttled, Transient, Unknown

MINUTE = timedelta(minutes=1)


class Stage(StrEnum):
    """How far a mail has come. `DOT` is when it has been written, dot and all."""

    CONNECT = "connect"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"


_ALL = frozenset(Stage)
_NAMED = frozenset({Stage.RCPT, Stage.DATA, Stage.DOT})
_AUTH_CODES = frozenset({530, 534, 535, 538})
#: 5.0.0 says nothing (RFC 3463 §3.1).
_NO_ENHANCED_CODE = r"^(?!5\.(?!0\.0\b)\d{1,3}\.\d)"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row of the table: at these stages, a reply whose code and text match means this."""

    stages: frozenset[Stage]
    codes: range | frozenset[int]
    text: re.Pattern[str]
    outcome: Outcome


def _row(stages: frozenset[Stage], codes: range | frozenset[int], outcome: Outcome, text: str = "") -> Refusal:
    return Refusal(stages, codes, re.compile(text), outcome)


#: What a relay's refusal means (RFC 5321 §4.2, RFC 3463): the first row that fits.
REFUSALS: tuple[Refusal, ...] = (
    # The account rests for longer than its mail: another provider may take that meanwhile.
    _row(_ALL, range(400, 600), Throttled("daily_quota_exceeded", MINUTE, rest=15 * MINUTE), QUOTA),
    _row(_ALL, range(400, 600), Throttled("rate_exceeded", timedelta(seconds=5)), RATE),
    _row(_ALL, frozenset({421}), Transient("relay_unavailable", is_deferral=True)),
    # Ours to mend, and no fault of the mail.
    _row(_ALL, _AUTH_CODES, Transient("auth_failed", MINUTE)),
    # Before MAIL nothing that is said is about the mail.
    _row(frozenset({Stage.CONNECT}), range(400, 500), Transient("relay_unavailable", is_deferral=True)),
    _row(_ALL, range(400, 500), Transient("deferred", is_outage=False, is_deferral=True)),
    _row(frozenset({Stage.CONNECT}), range(200, 600), Transient("relay_refuses", MINUTE)),
    _row(frozenset({Stage.MAIL}), range(500, 600), Permanent("sender_refused")),
    _row(_NAMED, range(500, 600), Permanent("mailbox_full"), r"^5\.2\.2\b"),
    # Only X.1 and X.2 are about the mailbox, and of those X.1.7 and X.1.8 about the sender's (RFC 3463 §3.2).
    _row(frozenset({Stage.RCPT}), range(500, 600), Permanent("mailbox_unavailable"), r"^5\.(?:1\.(?![78]\b)|2\.)\d"),
    _row(frozenset({Stage.RCPT}), range(500, 600), Permanent("refused_by_policy"), r"^5\.7\.\d"),
    _row(frozenset({Stage.RCPT}), frozenset({552}), Permanent("mailbox_full"), _NO_ENHANCED_CODE),
    _row(frozenset({Stage.RCPT}), frozenset({550, 551, 553}), Permanent("mailbox_unavailable"), _NO_ENHANCED_CODE),
    _row(frozenset({Stage.RCPT}), range(500, 600), Permanent("recipient_refused")),
    _row(frozenset({Stage.DATA, Stage.DOT}), frozenset({552}), Permanent("message_too_large")),
    _row(frozenset({Stage.DATA, Stage.DOT}), range(500, 600), Permanent("message_refused")),
    # Neither yes nor no: before the dot it cannot have been a yes.
    _row(_ALL - {Stage.DOT}, range(-1, 1000), Transient("answer_malformed")),
    _row(frozenset({Stage.DOT}), range(-1, 1000), Unknown("answer_malformed")),
)

#: What a lost connection or the timeout means at each stage.
LOST: Mapping[Stage, Outcome] = {
    Stage.CONNECT: Transient("connect_failed"),
    Stage.MAIL: Transient("connection_lost"),
    Stage.RCPT: Transient("connection_lost"),
    Stage.DATA: Transient("connection_lost"),
    Stage.DOT: Unknown("connection_lost"),
}
TIMED_OUT: Mapping[Stage, Outcome] = {
    Stage.CONNECT: Transient("connect_timeout"),
    Stage.MAIL: Transient("answer_timeout"),
    Stage.RCPT: Transient("answer_timeout"),
    Stage.DATA: Transient("answer_timeout"),
    Stage.DOT: Unknown("answer_timeout"),
}

_QUEUED_AS = re.compile(r"queued as ([A-Za-z0-9._-]{1,100})", re.ASCII | re.IGNORECASE)


@dataclass(slots=True)
class _Progress:
    """Where one attempt stands, for whoever has to say what its failure means."""

    stage: Stage = Stage.CONNECT
    is_on_kept_connection: bool = False

    def is_stale(self, error: BaseException) -> bool:
        """Did a kept connection only turn out to be dead? Nothing was named on it yet, so a new one may try."""
        if not self.is_on_kept_connection or self.stage is not Stage.MAIL:
            return False
        return not isinstance(error, aiosmtplib.SMTPResponseException) or error.code == 421


class Smtp:
    """Mail through a relay. One recipient a mail: nobody sees another's address, and there is no Bcc."""

    name = "smtp"
    channel = Channel.EMAIL

    def __init__(self, options: SmtpOptions) -> None:
        self.concurrency = options.concurrency
        self._tags_all = options.tag_worker
        self._tags_for_sandbox = options.tag_for_sandbox
        self._relay = Relay.parse(options.url)
        try:
            self._sender = Sender.parse(options.sender)
        except HeaderUnsafe as error:
            raise SettingsInvalid(f"NOTIFIER_SES_SENDER: {error}") from None
        self._pool: Pool | None = None

    async def send(self, message: Message, *, timeout: timedelta) -> Outcome:
        """Hand one mail over; a kept connection that turns out dead before the mail is named is replaced once."""
        assert isinstance(message.content, EmailContent)
        assert isinstance(message.target, str)
        try:
            to = check_header_address(message.target)
            raw = compose(message.content, to=to, sender=self._sender, tag=mail_tag(message))
        except HeaderUnsafe as error:
            return Permanent("header_unsafe", str(error))
        progress = _Progress()
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                try:
                    response = await self._hand_over(raw, to, message, progress, fresh=False)
                except (aiosmtplib.SMTPException, OSError) as error:
                    if not progress.is_stale(error):
                        raise
                    response = await self._hand_over(raw, to, message, progress, fresh=True)
        except aiosmtplib.SMTPResponseException as error:
            return refused(progress.stage, error.code, error.message)
        except TimeoutError as error:
            return explained(TIMED_OUT[progress.stage], str(error))
        except (aiosmtplib.SMTPException, OSError) as error:
            return explained(LOST[progress.stage], f"{type(error).__name__}: {error}"[:300])
        queued = _QUEUED_AS.search(response.message)
        return Sent(queued[1] if queued else message_id(mail_tag(message), self._sender))

    async def _hand_over(
        self, raw: bytes, to: str, message: Message, progress: _Progress, *, fresh: bool
    ) -> aiosmtplib.SMTPResponse:
        """One mail over one connection. aiosmtplib's errors say what failed, `progress` says where."""
        if self._pool is None:
            self._pool = Pool(self._relay, size=self.concurrency, local_hostname=self._sender.domain)
        progress.stage = Stage.CONNECT
        refusal: aiosmtplib.SMTPResponseException | None = None
        async with self._pool.connection(fresh=fresh) as connection:
            progress.is_on_kept_connection = not connection.is_fresh
            if self._tags_all or (self._tags_for_sandbox and connection.is_sandbox):
                raw = _tags(message) + raw
            try:
                return await _transact(connection.client, raw, self._sender.address, to, progress)
            except aiosmtplib.SMTPResponseException as error:
                refusal = error
                connection.is_broken = not 400 <= error.code < 600
                connection.wants_reset = progress.stage is not Stage.DOT  # after the dot nothing is left to forget
        raise refusal

    async def close(self) -> None:
        """Leave the relay politely."""
        if self._pool is not None:
            await self._pool.close()


def _tags(message: Message) -> bytes:
    """What the sandbox wants to know of a mail, as headers. A real recipient is not told."""
    ours = {"Delivery": message.delivery_id, "Attempt": message.attempt, "Worker": os.getpid()}
    return b"".join(b"X-Notifier-%s: %d\r\n" % (name.encode(), number) for name, number in ours.items())


async def _transact(
    client: aiosmtplib.SMTP, raw: bytes, sender: str, to: str, progress: _Progress
) -> aiosmtplib.SMTPResponse:
    """MAIL, RCPT, DATA and the mail. SMTPResponseException for the first reply that is not a yes."""
    progress.stage = Stage.MAIL
    await client.mail(sender)
    progress.stage = Stage.RCPT
    await client.rcpt(to)
    progress.stage = Stage.DATA
    start = await client.execute_command(b"DATA")
    if start.code != 354:
        raise aiosmtplib.SMTPDataError(start.code, start.message)
    # aiosmtplib's own data() does not tell whether it failed before the mail was written or after.
    protocol = client.protocol
    if protocol is None:
        raise aiosmtplib.SMTPServerDisconnected("Connection lost")
    dotted = raw.replace(b"\r\n.", b"\r\n..") + b".\r\n"
    progress.stage = Stage.DOT
    protocol.write(dotted)
    end = await protocol.read_response()
    if end.code != 250:
        raise aiosmtplib.SMTPDataError(end.code, end.message)
    return end


def refused(stage: Stage, code: int, text: str) -> Outcome:
    """The outcome that REFUSALS gives for a reply that is not a yes."""
    words = one_line(text)
    row = next(row for row in REFUSALS if stage in row.stages and code in row.codes and row.text.search(words))
    return explained(row.outcome, f"{stage}: {code} {text}"[:300])
