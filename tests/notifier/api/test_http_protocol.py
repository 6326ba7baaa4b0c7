"""Our HTTP protocol under a real uvicorn, with an app that says what it received."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from uvicorn.importer import import_from_string

from notifier.api.http_protocol import BoundedHttpProtocol
from notifier.cli.run import server_config
from notifier.settings import Settings
from tests.notifier.api.asks import the_problem
from tests.raw_http import Connection, connected, drip

MIB = 1 << 20
GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"


class Quick(BoundedHttpProtocol):
    """Ours, with a short time for a head, and for the rest of a request that is answered."""

    head_seconds = 1
    rest_seconds = 1


class Served:
    """A server whose app echoes a request; `/held` is answered when `release` is set, `/early` before its body."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.port = 0

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        if scope["path"] == "/held":
            await self.release.wait()
        text = f"{scope['method']} {scope['path']} {summary(body)}".encode()
        headers = [(b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


def summary(body: bytes) -> str:
    return f"{len(body)} {hashlib.sha256(body).hexdigest()[:8]}"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    config = uvicorn.Config(
        served.app, interface="asgi3", http=Quick, ws="none", lifespan="off", log_config=None, timeout_keep_alive=5
    )
    server = uvicorn.Server(config)
    listener = socket.socket(
        socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # named, or asyncio leaves Nagle on
    listener.bind(("127.0.0.1", 0))
    served.port = listener.getsockname()[1]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield served
    served.release.set()
    server.should_exit = True
    await serving


def test_the_api_is_served_with_64_kib_and_10_seconds_for_a_head() -> None:
    config = server_config(Settings())
    protocol = import_from_string(str(config.http))
    assert issubclass(protocol, BoundedHttpProtocol)
    assert (protocol.head_bytes, protocol.head_seconds, protocol.rest_seconds) == (65_536, 10, 30)
    assert config.ws == "none"


@pytest.mark.parametrize("size", [0, 1, 4_095, 4_096, 4_097, 65_536, 8 * MIB])
async def test_a_body_of_any_size_arrives_whole(served: Served, size: int) -> None:
    body = hashlib.shake_128(b"body").digest(size)
    async with connected(served.port) as connection:
        for _ in range(2):
            await connection.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + body)
            assert (await connection.answer()).body == f"POST /x {summary(body)}"


@pytest.mark.parametrize("chunk_size", [1, 100, 70_000])
async def test_a_body_in_chunks_arrives_whole(served: Served, chunk_size: int) -> None:
    """Chunks of one byte bring more bytes of chunk lines than a head may have, but never so many in a row."""
    body = hashlib.shake_128(b"body").digest(300_000)
    parts = [body[at : at + chunk_size] for at in range(0, len(body), chunk_size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    async with connected(served.port) as connection:
        for trailers in (b"", b"X-Sum: 1\r\nX-Long: " + b"x" * 60_000 + b"\r\n"):
            await connection.send(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            await connection.send(chunks + b"0\r\n" + trailers + b"\r\n")
            assert (await connection.answer()).body == f"POST /x {summary(body)}"


async def test_a_client_that_expects_100_continue_is_asked_for_its_body(served: Served) -> None:
    async with connected(served.port) as connection:
        head = b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        await connection.send(head)
        assert (await connection.answer()).status == 100
        await connection.send(b"hello")
        assert (await connection.answer()).body == f"POST /x {summary(b'hello')}"


async def test_a_connection_carries_hundreds_of_requests(served: Served) -> None:
    async with connected(served.port) as connection:
        for number in range(500):
            await connection.send(GET % number)
            assert (await connection.answer()).body.startswith(f"GET /{number} ")


@pytest.mark.parametrize("size", [1, 40, 1_000_000])
async def test_pipelined_requests_are_answered_in_order_however_they_are_cut(served: Served, size: int) -> None:
    """All together they are far larger than one head may be."""
    count = 20 if size == 1 else 4_000
    data = b"".join(GET % number for number in range(count))
    async with connected(served.port) as connection:

        async def write() -> None:
            for at in range(0, len(data), size):
                await connection.send(data[at : at + size])

        writing = asyncio.create_task(write())
        for number in range(count):
            assert (await connection.answer()).body.startswith(f"GET /{number} ")
        await writing


async def test_a_pipelined_head_of_the_largest_size_is_taken(served: Served) -> None:
    start = b"GET /large HTTP/1.1\r\nX: "
    large = start + b"x" * (65_536 - len(start) - 4) + b"\r\n\r\n"
    async with connected(served.port) as connection:
        await connection.send((GET % 1) + large + (GET % 2) + large + large)
        answers = [(await connection.answer()).body.split()[1] for _ in range(5)]
        assert answers == ["/1", "/large", "/2", "/large", "/large"]


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
@pytest.mark.parametrize("size", [0, 40, 20_000])
async def test_an_upgrade_is_ignored_and_what_follows_it_is_no_request(
    served: Served, protocol: bytes, size: int
) -> None:
    """httptools leaves the body of such a request to another protocol, so a body could be taken for a request."""
    body = (GET % 7) * (size // len(GET % 7))
    head = b"POST /x HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: %b\r\nContent-Length: %d\r\n\r\n"
    async with connected(served.port) as connection:
        await connection.send(head % (protocol, len(body)) + body)
        answer = await connection.answer()
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert await connection.rest() == b""


async def test_a_refused_head_waits_for_the_answers_to_earlier_requests(served: Served) -> None:
    held = b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n"
    for head, status in ((b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, 431), (b"GET / HTTP/1.1\r\nHo", 408)):
        served.release.clear()
        async with connected(served.port) as connection, connected(served.port) as silent:
            await connection.send(held + (GET % 1) + held + head)
            assert await silent.rest() == b"", "the time for a head is over"
            served.release.set()
            answers = [await connection.answer() for _ in range(4)]
            assert [answer.status for answer in answers] == [200, 200, 200, status]
            assert [answer.body.split()[1] for answer in answers[:3]] == ["/held", "/1", "/held"]
            assert await connection.rest() == b""


async def test_trailers_that_are_too_large_do_not_overtake_earlier_requests(served: Served) -> None:
    chunked = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: " + b"x" * 70_000
    async with connected(served.port) as connection:
        await connection.send(b"GET /held HTTP/1.1\r\n\r\n" + chunked)
        served.release.set()
        assert (await connection.answer()).body.startswith("GET /held ")
        the_problem(await connection.answer(), 431, "head_too_large")
        assert await connection.rest() == b""


async def test_a_request_that_is_answered_before_its_trailers_gets_no_second_answer(served: Served) -> None:
    async with connected(served.port) as connection:
        await connection.send(b"POST /early HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ")
        assert (await connection.answer()).status == 200
        await connection.send(b"x" * 70_000)
        assert await connection.rest() == b""


async def test_a_slow_answer_costs_the_next_head_none_of_its_time(served: Served) -> None:
    """We stop reading while two requests wait: the rest of the third head is ours to fetch."""
    async with connected(served.port) as connection, connected(served.port) as silent:
        await connection.send(b"GET /held HTTP/1.1\r\n\r\n" + (GET % 1) + (GET % 2)[:9])
        await connection.send((GET % 2)[9:])
        assert await silent.rest() == b"", "the time for a head is over"
        served.release.set()
        answers = [(await connection.answer()).body.split()[1] for _ in range(3)]
        assert answers == ["/held", "/1", "/2"]


async def test_a_body_takes_longer_than_a_head_may(served: Served) -> None:
    async with connected(served.port) as connection, connected(served.port) as silent:
        await connection.send(b"POST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\na")
        assert await silent.rest() == b"", "the time for a head is over"
        await connection.send(b"b")
        assert (await connection.answer()).body == f"POST /x {summary(b'ab')}"


async def test_an_idle_connection_has_more_time_than_a_head(served: Served) -> None:
    async with connected(served.port) as idle, connected(served.port) as silent:
        await idle.send(GET % 1)
        await idle.answer()
        assert await silent.rest() == b"", "the time for a head is over"
        await idle.send(GET % 2)
        assert (await idle.answer()).status == 200


async def test_the_rest_of_a_request_that_is_answered_cannot_drip_for_ever(served: Served) -> None:
    async with connected(served.port) as connection:
        await connection.send(b"POST /early HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        assert (await connection.answer()).status == 200
        dripping = asyncio.create_task(drip(connection, b"x"))
        await _closed(connection)
        await dripping


async def test_a_connection_is_idle_when_the_rest_of_an_answered_request_has_come(served: Served) -> None:
    async with connected(served.port) as connection, connected(served.port) as silent:
        await connection.send(b"POST /early HTTP/1.1\r\nContent-Length: 2\r\n\r\n")
        assert (await connection.answer()).status == 200
        await connection.send(b"xx")
        assert await silent.rest() == b"", "the time for the rest is over"
        await connection.send(GET % 1)
        assert (await connection.answer()).status == 200, "it goes on"
        await connection.send(b"POST /early HTTP/1.1\r\nContent-Length: 2\r\n\r\n")
        assert (await connection.answer()).status == 200
        await connection.send(b"xx")
        assert await connection.rest() == b"", "and has uvicorn's own timeout"


async def _closed(connection: Connection) -> None:
    """Wait until the server has closed the connection."""
    try:
        assert await connection.rest() == b""
    except ConnectionResetError:
        return  # what dripped last was never read
