"""Connections to a relay, kept and used again; at most so many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

import aiosmtplib

from notifier.channels.email.smtp_url import Relay

#: A connection is not used beyond this age: relays close old ones when it suits them.
OLDEST = timedelta(minutes=5)
#: One that has been idle for longer is asked (NOOP) whether it still lives.
ASK_AFTER = timedelta(seconds=5)
#: The longest that NOOP, RSET and QUIT may take; connections that take longer are worth nothing.
HEALTH_TIMEOUT = timedelta(seconds=2)
#: How our sandbox's SMTP server greets, and nobody else: its URL may be any, and so may a real relay's.
SANDBOX_GREETING = "sandbox.notifier.example notifier sandbox"


@dataclass(slots=True)
class Connection:
    """One session with the relay. Whoever leaves it in the middle of a mail says so here."""

    client: aiosmtplib.SMTP
    born: float
    used: float
    is_fresh: bool = True
    is_sandbox: bool = False
    #: A mail was refused on it: it wants RSET before the next.
    wants_reset: bool = False
    #: It said something that is no reply: nobody knows what it will say next.
    is_broken: bool = False


class Pool:
    """Up to `size` connections, the last used first, so that the others can grow old and go."""

    def __init__(self, relay: Relay, *, size: int, local_hostname: str) -> None:
        self._relay = relay
        self._places = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._local_hostname = local_hostname
        self._tls = relay.tls_context()

    @asynccontextmanager
    async def connection(self, *, fresh: bool = False) -> AsyncIterator[Connection]:
        """A connection that is ready for MAIL; a new one if `fresh`. Waits for a place; raises aiosmtplib's errors.

        It goes back to the pool if the block ends well and it is not broken, and is closed otherwise.
        """
        async with self._places:
            connection = None if fresh else await self._reusable()
            connection = connection or await self._connect()
            try:
                yield connection
            except BaseException:
                connection.client.close()
                raise
            if connection.client.is_connected and not connection.is_broken:
                connection.used, connection.is_fresh = monotonic(), False
                self._idle.append(connection)
            else:
                connection.client.close()

    async def _reusable(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.client.is_connected and await self._is_healthy(connection):
                return connection
            connection.client.close()
        return None

    async def _is_healthy(self, connection: Connection) -> bool:
        now = monotonic()
        if now - connection.born > OLDEST.total_seconds():
            return False
        if now - connection.used < ASK_AFTER.total_seconds() and not connection.wants_reset:
            return True
        # RSET forgets a refused mail, which NOOP would not; either shows that the relay still listens.
        ask = connection.client.rset if connection.wants_reset else connection.client.noop
        try:
            await ask(timeout=HEALTH_TIMEOUT.total_seconds())
        except (aiosmtplib.SMTPException, OSError):
            return False
        except BaseException:  # cancelled in the middle: the answer is still to come
            connection.client.close()
            raise
        connection.wants_reset = False
        return True

    async def _connect(self) -> Connection:
        relay = self._relay
        client = aiosmtplib.SMTP(
            hostname=relay.host,
            port=relay.port,
            use_tls=relay.use_tls,
            start_tls=relay.start_tls,
            username=relay.username,
            password=relay.password,
            tls_context=self._tls,
            local_hostname=self._local_hostname,
            timeout=None,  # the caller's total timeout rules
        )
        greeting = await client.connect()
        now = monotonic()
        return Connection(client, born=now, used=now, is_sandbox=greeting.message == SANDBOX_GREETING)

    async def close(self) -> None:
        """Say QUIT to the idle connections, all at once, and close them."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(_quit(connection.client) for connection in idle))


async def _quit(client: aiosmtplib.SMTP) -> None:
    try:
        await client.quit(timeout=HEALTH_TIMEOUT.total_seconds())
    except (aiosmtplib.SMTPException, OSError):
        client.close()
