"""HTTP to a provider: one pooled session, one total timeout, and an exact answer to "was it written?".

Everything hangs on one question: had the request begun to go out when it failed? If not, the
provider cannot have the message and the outcome is Transient. If so, nobody knows, and it is Unknown.
aiohttp tells us just before the first byte (the `on_request_headers_sent` trace).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from notifier.channels.retry_after import parse_http_date, parse_retry_after
from notifier.domain.outcome import Transient, Unknown

#: No answer of a provider needs more; the rest is not read and the connection is dropped.
LARGEST_BODY_BYTES = 64 * 1024

#: Idle connections are dropped before most servers drop them: a POST on a connection that the server
#: is just closing is `unknown`, not `transient`, and that is worth a reconnect now and then.
KEEPALIVE = timedelta(seconds=10)

#: Why a call failed, by the first class that fits. Before the request was written …
NOT_WRITTEN: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "dns_failed"),
    (aiohttp.ClientSSLError, "tls_failed"),
    (TimeoutError, "connect_timeout"),
    (aiohttp.ClientConnectorError, "connect_failed"),
    (aiohttp.ClientError, "connect_failed"),
    (OSError, "connect_failed"),
)
#: … and after.
WRITTEN: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "answer_timeout"),
    (aiohttp.ServerDisconnectedError, "disconnected"),
    (aiohttp.ClientResponseError, "answer_malformed"),
    (aiohttp.ClientPayloadError, "answer_cut"),
    (aiohttp.ClientError, "connection_lost"),
    (OSError, "connection_lost"),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and the beginning of the body. `is_whole` is False if the body was cut or too long."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool

    @property
    def retry_after(self) -> timedelta:
        """The wait it asks for. A date is read against the answer's own Date: our clock may be wrong."""
        now = parse_http_date(self.headers.get("Date")) or datetime.now(UTC)
        return parse_retry_after(self.headers.get("Retry-After"), now=now)

    @property
    def excerpt(self) -> str:
        """The first words of the body, printable, for a person who asks why."""
        text = self.body[:300].decode("utf-8", "replace")
        return "".join(char if char.isprintable() else " " for char in text).strip()


@dataclass(slots=True)
class _Call:
    """How far one request has come."""

    is_written: bool = False
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)


class Http:
    """A pool of connections to one provider. Made in the first call, in the loop that makes it.

    No cookies, no proxy from the environment, no redirects, no decompression, no retries.
    """

    def __init__(self, *, connections: int, resolver: Callable[[], AbstractResolver] | None = None) -> None:
        self._connections = connections
        self._make_resolver = resolver
        self._resolver: AbstractResolver | None = None
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self, method: str, url: URL, *, headers: Mapping[str, str], timeout: timedelta, body: bytes = b""
    ) -> Answer | Transient | Unknown:
        """One request, at most `timeout` in all: waiting for a connection, connecting, writing, reading.

        An answer whose status arrived is an Answer even if its body did not: a refusal stays a refusal.
        """
        call = _Call()
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await self._exchange(call, method, url, headers=headers, body=body)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            if call.status is not None:
                return Answer(call.status, call.headers, bytes(call.body), is_whole=False)
            detail = f"{type(error).__name__}: {error}"[:300]
            if call.is_written:
                return Unknown(reason_of(error, WRITTEN), detail)
            return Transient(reason_of(error, NOT_WRITTEN), detail=detail)
        assert call.status is not None
        is_whole = len(call.body) <= LARGEST_BODY_BYTES
        return Answer(call.status, call.headers, bytes(call.body[:LARGEST_BODY_BYTES]), is_whole)

    async def _exchange(self, call: _Call, method: str, url: URL, *, headers: Mapping[str, str], body: bytes) -> None:
        async with self._open().request(
            method, url, data=body or None, headers=headers, allow_redirects=False, trace_request_ctx=call
        ) as response:
            call.status, call.headers = response.status, response.headers
            async for chunk in response.content.iter_any():
                call.body += chunk
                if len(call.body) > LARGEST_BODY_BYTES:
                    response.close()
                    return

    def _open(self) -> aiohttp.ClientSession:
        if self._session is not None:
            return self._session
        self._resolver = self._make_resolver() if self._make_resolver else None
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_note_written)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=KEEPALIVE.total_seconds(), resolver=self._resolver
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "notifier", "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
            trace_configs=[trace],
        )
        return self._session

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
        if self._resolver is not None:
            await self._resolver.close()
        self._session = self._resolver = None


def reason_of(error: BaseException, table: tuple[tuple[type[BaseException], str], ...]) -> str:
    """The reason that `table` gives for `error`: its first row that fits."""
    return next((reason for kind, reason in table if isinstance(error, kind)), "failed")


async def _note_written(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    context.trace_request_ctx.is_written = True
