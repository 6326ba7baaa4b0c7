"""A small SMTP relay for the tests of the provider smtp."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from aiosmtpd.smtp import SMTP as Server
from aiosmtpd.smtp import AuthResult, LoginPassword

from notifier.channels.email.smtp import Smtp
from notifier.channels.options import SmtpOptions
from notifier.domain.content import EmailContent
from notifier.domain.outcome import Outcome
from tests.notifier.channels.servers import MAIL, SECOND, a_mail


def an_smtp(url: str, *, concurrency: int = 2, **tags: bool) -> Smtp:
    return Smtp(SmtpOptions(sender="Acme <hello@acme.example>", url=url, concurrency=concurrency, **tags))


async def send_one(url: str, *, timeout: timedelta = 5 * SECOND, content: EmailContent = MAIL) -> Outcome:
    smtp = an_smtp(url)
    try:
        return await smtp.send(a_mail(content=content), timeout=timeout)
    finally:
        await smtp.close()


@dataclass
class Mailbox:
    """A handler of aiosmtpd that keeps what it is given."""

    envelopes: list[Any] = field(default_factory=list)
    peers: set[Any] = field(default_factory=set)
    rcpt: str = "250 OK"
    tls: list[bool] = field(default_factory=list)
    logins: list[Any] = field(default_factory=list)

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        if self.rcpt.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:
        self.envelopes.append(envelope)
        self.peers.add(session.peer)
        self.tls.append(session.ssl is not None)
        return "250 2.0.0 Ok: queued as ABC123"

    def authenticate(
        self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: LoginPassword
    ) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"p@ss/word", handled=False)


@asynccontextmanager
async def relay(box: Mailbox, *, implicit_tls: ssl.SSLContext | None = None, **settings: Any) -> AsyncIterator[int]:
    """aiosmtpd on a free port."""
    loop = asyncio.get_running_loop()
    protocols: list[Server] = []

    def protocol() -> Server:
        protocols.append(Server(box, hostname="relay.test", **settings))
        return protocols[-1]

    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=implicit_tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for each in protocols:
            # Python 3.11.2 trips over a TLS one that is closed already.
            if isinstance(each.transport, asyncio.Transport) and not each.transport.is_closing():
                each.transport.abort()
        await server.wait_closed()
