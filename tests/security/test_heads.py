"""Heads of requests that are made to fill memory, burn time or hold a connection: sent to the API as it is shipped."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.notifier.api.asks import a_payment, the_problem
from tests.raw_http import Connection, connected, drip
from tests.running import Running

HEAD_BYTES = 65_536
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
START = b"GET /livez HTTP/1.1\r\n"
#: What a large head begins with, consists of, and ends with.
KINDS = {
    "a header": (START + b"X: ", b"x", b"\r\n\r\n"),
    "a name": (START + b"X", b"x", b": 1\r\n\r\n"),
    "blanks": (START + b"X:", b" ", b"1\r\n\r\n"),
    "many headers": (START + b"X: ", b"\r\nx:1", b"\r\n\r\n"),
    "a query": (b"GET /livez?", b"x", b" HTTP/1.1\r\n\r\n"),
}


def a_head(size: int, kind: str = "a header") -> bytes:
    """A request for /livez whose head has `size` bytes."""
    start, part, end = KINDS[kind]
    count, rest = divmod(size - len(start) - len(end), len(part))
    return start + b"x" * rest + part * count + end


async def assert_refused(connection: Connection, status: int, code: str) -> None:
    """The next answer is this problem, and the connection ends with it."""
    answer = await connection.answer()
    the_problem(answer, status, code)
    assert answer.headers["Connection"] == "close"
    assert len(answer.headers["X-Request-Id"]) == 32
    assert await connection.rest() == b""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_head_of_64_kib_is_read_and_one_of_a_byte_more_is_refused(whole_service: Running, kind: str) -> None:
    async with connected(whole_service.api_port) as connection:
        for _ in range(2):
            await connection.send(a_head(HEAD_BYTES, kind))
            assert (await connection.answer()).status == 200
        await connection.send(a_head(HEAD_BYTES + 1, kind))
        await assert_refused(connection, 431, "head_too_large")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_head_of_40_mib_in_one_write_is_refused(whole_service: Running, kind: str) -> None:
    """The parser would need the square of its length, and serve nobody meanwhile."""
    async with connected(whole_service.api_port) as connection:
        sending = asyncio.create_task(connection.send(a_head(40 << 20, kind)))
        await assert_refused(connection, 431, "head_too_large")
        await sending
    assert (await whole_service.get("/livez")).status == 200


async def test_a_head_that_comes_byte_by_byte_has_the_same_limit(whole_service: Running) -> None:
    head = a_head(HEAD_BYTES + 1)
    async with connected(whole_service.api_port) as connection:
        await connection.send(head[:-300])
        for at in range(len(head) - 300, len(head)):
            await connection.send(head[at : at + 1])
        await assert_refused(connection, 431, "head_too_large")


async def test_a_head_that_has_no_end_is_refused(whole_service: Running) -> None:
    """Nor lines that are blank, which come before a head (RFC 9112 §2.2)."""
    for data in (b"GET /livez", b"GET /" + b"x" * 70_000, START + b"x:1\r\n" * 20_000, b"\r\n" * 40_000, b"G" * 1):
        async with connected(whole_service.api_port) as connection:
            await connection.send(data)
            if len(data) > HEAD_BYTES:
                await assert_refused(connection, 431, "head_too_large")
    assert (await whole_service.get("/livez")).status == 200


@pytest.mark.parametrize("size", [70_000, 300_000])
async def test_a_second_request_on_a_connection_has_the_limit_too(whole_service: Running, size: int) -> None:
    async with connected(whole_service.api_port) as kept, connected(whole_service.api_port) as pipelined:
        await kept.send(LIVEZ)
        assert (await kept.answer()).status == 200
        await kept.send(a_head(size))
        await assert_refused(kept, 431, "head_too_large")
        await pipelined.send(LIVEZ + LIVEZ + a_head(size))
        assert [(await pipelined.answer()).status for _ in range(2)] == [200, 200]
        await assert_refused(pipelined, 431, "head_too_large")


@pytest.mark.parametrize(
    "end",
    [
        b"0\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"0\r\n" + b"x: 1\r\n" * 15_000 + b"\r\n",
        b"0\r\nX: " + b"x" * (20 << 20),
        b"0;x=" + b"x" * 70_000 + b"\r\n\r\n",
        b"1;x=" + b"x" * 70_000 + b"\r\n \r\n0\r\n\r\n",
    ],
    ids=["a long trailer", "many trailers", "a trailer of 20 MiB", "a last chunk's extension", "a chunk's extension"],
)
async def test_what_comes_with_chunks_is_counted_as_well(running: Running, end: bytes) -> None:
    body = json.dumps(a_payment()).encode()
    head = f"POST /v1/notifications HTTP/1.1\r\nAuthorization: Bearer {running.key}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with connected(running.api_port) as connection:
        sending = asyncio.create_task(connection.send(head.encode() + b"%x\r\n%b\r\n" % (len(body), body) + end))
        await assert_refused(connection, 431, "head_too_large")
        await sending
    assert await running.statuses() == {}


async def test_what_is_not_done_in_time_is_closed(impatient: int) -> None:
    """A connection each: with an answer if a request was begun, without one if not."""
    half = b"GET /livez HTTP/1.1\r\nHost: a\r\nX"
    async with connected(impatient) as silent, connected(impatient) as begun, connected(impatient) as blank:
        await begun.send(half)
        await blank.send(b"\r\n")
        assert await silent.rest() == b""
        await assert_refused(begun, 408, "head_too_slow")
        await assert_refused(blank, 408, "head_too_slow")
    async with connected(impatient) as second:
        await second.send(LIVEZ)
        assert (await second.answer()).status == 200
        await second.send(half)
        await assert_refused(second, 408, "head_too_slow")
    async with connected(impatient) as pipelined:
        await pipelined.send(LIVEZ + half)
        assert (await pipelined.answer()).status == 200
        await assert_refused(pipelined, 408, "head_too_slow")


@pytest.mark.parametrize("part", [b"x", b"x: 1\r\n", b"\r\n"])
async def test_a_head_that_drips_is_ended_in_time(running: Running, impatient: int, part: bytes) -> None:
    """A byte now and then keeps every idle timeout happy: the limit is on the whole. Fifty at once."""

    async def hold() -> None:
        async with connected(impatient) as connection:
            await connection.send(LIVEZ)
            assert (await connection.answer()).status == 200
            await connection.send(START if part != b"\r\n" else part)
            dripping = asyncio.create_task(drip(connection, part))
            the_problem(await connection.answer(), 408, "head_too_slow")
            await dripping

    holding = [asyncio.create_task(hold()) for _ in range(50)]
    answer = await running.call("GET", "/v1/templates", url=f"http://127.0.0.1:{impatient}")
    assert answer.status == 200, "others are served meanwhile"
    await asyncio.gather(*holding)


async def test_a_body_that_was_too_slow_ends_the_connection(running: Running, impatient: int) -> None:
    head = f"POST /v1/notifications HTTP/1.1\r\nAuthorization: Bearer {running.key}\r\nContent-Length: 9999\r\n\r\n"
    async with connected(impatient) as connection:
        await connection.send(head.encode())
        dripping = asyncio.create_task(drip(connection, b" "))
        the_problem(await connection.answer(), 408, "body_too_slow")
        await dripping


async def test_refused_heads_are_in_the_metrics(running: Running) -> None:
    before = await running.metrics("api")
    async with connected(running.api_port) as connection:
        await connection.send(a_head(HEAD_BYTES + 1))
        await assert_refused(connection, 431, "head_too_large")
    since = (await running.metrics("api")).since(before)
    assert since.value("notifier_http_request_seconds_count", status="431") == 1
