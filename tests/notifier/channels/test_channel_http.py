"""What a failed HTTP call means: not taken, or nobody knows. Against real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from time import monotonic

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from notifier.channels.http import LARGEST_BODY_BYTES, NOT_WRITTEN, WRITTEN, Answer, Http, reason_of
from notifier.domain.outcome import Transient, Unknown
from tests.notifier.channels.servers import SECOND, http_server, raw_server, read_request, reset, unused_port

#: A server that hangs does so for so long.
HANGS_SECONDS = 60


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    http = Http(connections=2)
    yield http
    await http.close()


async def post(
    http: Http, url: str, *, timeout: timedelta = 5 * SECOND, body: bytes = b"{}"
) -> Answer | Transient | Unknown:
    return await http.request("POST", URL(url), headers={"X-Test": "1"}, body=body, timeout=timeout)


async def test_a_refused_connection_is_transient(http: Http) -> None:
    outcome = await post(http, f"http://127.0.0.1:{await unused_port()}/")
    assert isinstance(outcome, Transient)
    assert outcome.reason == "connect_failed"


class NoNames(AbstractResolver):
    """A DNS that knows nothing."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        raise socket.gaierror(socket.EAI_NONAME, f"no {host}:{port} of {family}")

    async def close(self) -> None:
        """Nothing is open."""


async def test_a_name_that_does_not_resolve_is_transient() -> None:
    http = Http(connections=1, resolver=NoNames)
    outcome = await post(http, "http://push.example/")
    await http.close()
    assert isinstance(outcome, Transient)
    assert outcome.reason == "dns_failed"


async def test_tls_that_cannot_be_agreed_is_transient(http: Http) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with raw_server(plain) as port:
        outcome = await post(http, f"https://127.0.0.1:{port}/")
    assert isinstance(outcome, Transient)
    assert outcome.reason == "tls_failed"


async def test_no_answer_in_time_is_unknown_and_the_timeout_is_the_total(http: Http) -> None:
    async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(HANGS_SECONDS)

    async with raw_server(hang) as port:
        began = monotonic()
        outcome = await post(http, f"http://127.0.0.1:{port}/", timeout=0.2 * SECOND)
    assert outcome == Unknown("answer_timeout", outcome.detail if isinstance(outcome, Unknown) else None)
    assert monotonic() - began < HANGS_SECONDS / 2


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Le", b"\x00\xff rubbish\r\n\r\n"])
async def test_a_connection_that_breaks_after_the_request_was_written_is_unknown(http: Http, answer: bytes) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async with raw_server(cut) as port:
        assert isinstance(await post(http, f"http://127.0.0.1:{port}/"), Unknown)


async def test_a_reset_after_the_request_was_written_is_unknown(http: Http) -> None:
    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        reset(writer)

    async with raw_server(slam) as port:
        assert isinstance(await post(http, f"http://127.0.0.1:{port}/"), Unknown)


async def test_a_refusal_whose_body_never_ends_is_still_a_refusal(http: Http) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw_server(drip) as port:
        began = monotonic()
        answer = await post(http, f"http://127.0.0.1:{port}/", timeout=0.3 * SECOND)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.is_whole, answer.retry_after) == (503, False, 7 * SECOND)
    assert monotonic() - began < HANGS_SECONDS / 2


async def test_a_huge_answer_is_read_no_further_than_its_first_64_kib(http: Http) -> None:
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            written += 65536

    async with raw_server(flood) as port:
        answer = await post(http, f"http://127.0.0.1:{port}/")
    assert isinstance(answer, Answer)
    assert (len(answer.body), answer.is_whole) == (LARGEST_BODY_BYTES, False)
    assert written < 64 << 20


async def test_a_call_that_waits_for_a_pooled_connection_in_vain_was_not_taken(http: Http) -> None:
    arrived = asyncio.Semaphore(0)

    async def slow(_request: web.Request) -> web.Response:
        arrived.release()
        await asyncio.sleep(0.5)
        return web.Response()

    async with http_server(slow) as url:
        first = [asyncio.create_task(post(http, url)) for _ in range(2)]
        await arrived.acquire()
        await arrived.acquire()
        waiting = await post(http, url, timeout=0.1 * SECOND)
        assert isinstance(waiting, Transient)
        assert waiting.reason == "connect_timeout"
        assert all(isinstance(answer, Answer) for answer in await asyncio.gather(*first))
    assert arrived.locked()  # nothing more arrived


async def test_redirects_are_not_followed_and_cookies_are_not_kept(http: Http) -> None:
    seen: list[tuple[str, str | None]] = []

    async def redirect(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("Cookie")))
        return web.Response(status=302, headers={"Location": "/elsewhere", "Set-Cookie": "a=b; Path=/"})

    async with http_server(redirect) as url:
        for _ in range(2):
            answer = await post(http, f"{url}/here")
            assert isinstance(answer, Answer)
            assert answer.status == 302
    assert seen == [("/here", None), ("/here", None)]


async def test_a_proxy_in_the_environment_is_not_used(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{await unused_port()}")

    async def ok(_request: web.Request) -> web.Response:
        return web.Response()

    async with http_server(ok) as url:
        assert isinstance(await post(http, url), Answer)


async def test_connections_are_used_again(http: Http) -> None:
    peers = set()

    async def ok(request: web.Request) -> web.Response:
        assert request.transport
        peers.add(request.transport.get_extra_info("peername"))
        await request.read()
        return web.Response(text="ok")

    async with http_server(ok) as url:
        for _ in range(5):
            await post(http, url)
    assert len(peers) == 1


async def test_a_date_is_read_against_the_answers_own_clock(http: Http) -> None:
    async def wait(_request: web.Request) -> web.Response:
        headers = {"Date": "Thu, 01 Oct 2020 12:00:00 GMT", "Retry-After": "Thu, 01 Oct 2020 12:00:30 GMT"}
        return web.Response(status=503, headers=headers)

    async with http_server(wait) as url:
        answer = await post(http, url)
    assert isinstance(answer, Answer)
    assert answer.retry_after == 30 * SECOND


async def test_cancelling_the_caller_cancels_the_call(http: Http) -> None:
    arrived = asyncio.Event()

    async def hang(_request: web.Request) -> web.Response:
        arrived.set()
        await asyncio.sleep(HANGS_SECONDS)
        return web.Response()

    async with http_server(hang) as url:
        task = asyncio.create_task(post(http, url, timeout=30 * SECOND))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("table", [NOT_WRITTEN, WRITTEN])
def test_every_row_of_the_tables_can_be_reached(table: tuple[tuple[type[BaseException], str], ...]) -> None:
    for at, (kind, reason) in enumerate(table):
        assert not any(issubclass(kind, earlier) for earlier, _ in table[:at]), kind
        assert reason_of(kind.__new__(kind), table) == reason
