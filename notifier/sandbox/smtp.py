"""An SMTP relay (aiosmtpd) that keeps every mail to itself. Takes any AUTH, asks for none."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from random import getrandbits
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from notifier.sandbox.desk import Desk
from notifier.sandbox.http import LARGEST_BODY_BYTES
from notifier.sandbox.mail import RawMail, tags_of
from notifier.sandbox.plan import Call, Ending, Garbage, Plan, Provider, Refusal, key_of, number, strictest
from notifier.sandbox.recipients import simulated
from notifier.sandbox.spoil import HTML, hard_reset

log = logging.getLogger("notifier.sandbox")

LARGEST_LINE_BYTES = 4 << 20
#: The one refusal that comes after RCPT and not after the mail (RFC 3463 §3.2).
UNKNOWN_USER = "5.1.1"

#: What an HTTP status of a fault for all providers is in SMTP.
FROM_HTTP = {429: 454, 500: 451, 502: 451, 503: 451, 504: 451}

#: By reply code: enhanced code (RFC 3463) and words.
ERRORS: dict[int, tuple[str, str]] = {
    421: ("4.3.2", "Service not available, closing transmission channel"),
    450: ("4.2.0", "Mailbox busy"),
    451: ("4.3.0", "Temporary local problem, try again later"),
    452: ("4.3.1", "Insufficient system storage"),
    454: ("4.7.0", "Throttling failure: Maximum sending rate exceeded."),
    550: ("5.1.1", "User unknown"),
    552: ("5.2.2", "Mailbox full"),
    554: ("5.7.1", "Transaction failed: rejected by the sandbox"),
}


class Handler:
    """The hooks that aiosmtpd calls. One for each connection, because faults tear connections down."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.connection: Connection

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """An unknown user is refused here, as relays do; the delivery id has not been seen then."""
        plan = simulated(Provider.SMTP, address)
        if plan and plan.refusal and plan.refusal.error == UNKNOWN_USER:
            self._desk.enter(_call(address, {}, datetime.now(UTC)), plan, status=_status(plan.refusal))
            return _reply(plan.refusal)
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 Recipient OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Everything else is decided when the whole mail is here."""
        received = datetime.now(UTC)
        raw = envelope.content if isinstance(envelope.content, bytes) else str(envelope.content).encode()
        tags = tags_of(raw)
        calls = [_call(address, tags, received) for address in envelope.rcpt_tos]
        plan = strictest(map(self._desk.plan, calls))
        queue_id = f"{getrandbits(64):016x}"
        status = _status(plan.refusal) if plan.refusal else 250
        if plan.ending is Ending.GARBAGE:
            status = 0
        content = RawMail(raw)
        seqs = [
            self._desk.enter(
                call, plan, status=status or None, message_id=queue_id, content=content if index == 0 else None
            )
            for index, call in enumerate(calls)
        ]
        reply = _reply(plan.refusal) if plan.refusal else f"250 2.0.0 Ok: queued as {queue_id}"
        if not plan.is_answered_at_once:
            await self._spoil(plan, reply)
            for seq in seqs:
                self._desk.ledger.note_answered(seq)
        # aiosmtpd writes what we return and a line end; a drip has written the rest already.
        return reply[-1:] if plan.ending is Ending.DRIP else reply

    async def handle_exception(self, error: Exception) -> str:
        """A bug of ours or a full disk: the mail is not taken."""
        log.error("SMTP failed", exc_info=error)
        return "451 4.3.0 The sandbox itself failed; see its log"

    async def _spoil(self, plan: Plan, reply: str) -> None:
        """Wait, or never come back: then the connection is down and aiosmtpd cancels us."""
        if plan.delay:
            await asyncio.sleep(plan.delay)
        connection = self.connection
        match plan.ending:
            case Ending.HANG:
                await asyncio.sleep(plan.hang_for if plan.hang_for is not None else 1e9)
                connection.abort()
            case Ending.RESET:
                connection.reset()
            case Ending.GARBAGE:
                connection.write_and_close(_garbage(plan, reply))
            case Ending.DRIP:
                for byte in reply.encode()[:-1]:
                    connection.write(bytes((byte,)))
                    await asyncio.sleep(plan.interval)
        if plan.ending in (Ending.HANG, Ending.RESET, Ending.GARBAGE):
            await asyncio.Event().wait()


class Connection(SMTP):
    """One connection to the relay."""

    def __init__(self, desk: Desk, open_ones: set[Connection]) -> None:
        handler = Handler(desk)
        handler.connection = self
        self._open_ones = open_ones
        self._is_lost = asyncio.Event()
        super().__init__(
            handler,
            data_size_limit=LARGEST_BODY_BYTES,
            enable_SMTPUTF8=True,
            hostname="sandbox.notifier.example",
            ident="notifier sandbox",
            auth_require_tls=False,
            authenticator=lambda *_: AuthResult(success=True),
            loop=asyncio.get_running_loop(),
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._open_ones.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._open_ones.discard(self)
        super().connection_lost(error)
        self._is_lost.set()

    def write(self, data: bytes) -> None:
        self._out.write(data)

    def write_and_close(self, data: bytes) -> None:
        """Write, and close when all is written."""
        self._out.write(data)
        self._out.close()

    def reset(self) -> None:
        hard_reset(self._out)

    def abort(self) -> None:
        """Drop the connection."""
        self._out.abort()

    async def aclose(self) -> None:
        """Drop the connection, and see it gone."""
        self.abort()
        await self._is_lost.wait()

    @property
    def _out(self) -> Any:
        return self.transport


def _call(address: str, tags: dict[str, str], received: datetime) -> Call:
    return Call(
        Provider.SMTP,
        address,
        key_of(Provider.SMTP, address),
        received,
        tags.get("delivery_id"),
        number(tags.get("attempt")),
        number(tags.get("worker_pid")),
        "mail",
    )


def _status(refusal: Refusal) -> int:
    asked = refusal.status or 451
    return FROM_HTTP.get(asked, asked if asked in ERRORS or 420 <= asked < 460 or 550 <= asked < 560 else 554)


def _reply(refusal: Refusal) -> str:
    status = _status(refusal)
    enhanced, words = ERRORS.get(status, (f"{status // 100}.0.0", "Refused"))
    return f"{status} {enhanced} {refusal.message or words}"


def _garbage(plan: Plan, reply: str) -> bytes:
    """Something that is no SMTP reply. `huge` is one line, of at most LARGEST_LINE_BYTES."""
    match plan.garbage:
        case Garbage.TRUNCATED:
            return reply[:2].encode()
        case Garbage.HTML:
            return HTML + b"\r\n"
        case Garbage.EMPTY:
            return b""
        case Garbage.REDIRECT:
            return b"354 Start mail input; end with <CRLF>.<CRLF>\r\n"
        case Garbage.HUGE:
            return b"250-" + b"x" * min(plan.size_bytes, LARGEST_LINE_BYTES) + b"\r\n"
