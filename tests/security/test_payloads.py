"""Payload bombs: bodies made to fill memory, burn time or trip a parser. Never a 5xx, and never slow."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.notifier.api.asks import a_key, a_payment, the_problem
from tests.notifier.api.test_keys import BODIES, Owned
from tests.raw_http import connected, drip
from tests.running import Running
from tests.security.routes import documented, schema_of

NOBODYS = "0198c0de-0000-7000-8000-000000000000"
IDS = Owned(NOBODYS, NOBODYS, 7, "t", "https://fcm.googleapis.com/x")
MIB = 1 << 20
#: Far more than any of them takes, on a machine that does much else; a parser that goes wrong takes minutes.
SECONDS = 30

#: Whole bodies.
RAW = {
    "deep arrays": b"[" * 10_000 + b"]" * 10_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "deep and open": b"[" * 500_000,
    "deep in a field": b'{"data":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "a huge number": b"9" * 100_000,
    "a huge exponent": b"1e" + b"9" * 100_000,
    "many numbers": b"[" + b"1," * 200_000 + b"1]",
    "many names": b"{" + b",".join(b'"%d":0' % number for number in range(70_000)) + b"}",
    "one name many times": b"{" + b'"data":{},' * 70_000 + b'"data":{}}',
    "a long string": b'"' + b"a" * 900_000 + b'"',
    "a long string of escapes": b'"' + b"\\u0041" * 150_000 + b'"',
    "half a surrogate pair": b'{"template": "\\ud83d"}',
    "half a pair in a name": b'{"\\udc00": 1}',
    "surrogates as UTF-8": b'{"template": "\xed\xa0\xbd"}',
    "overlong UTF-8": b'{"template": "\xc0\xaf"}',
    "UTF-16": '{"template": "x"}'.encode("utf-16"),
    "UTF-32": '{"template": "x"}'.encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a NUL": b"\x00",
    "NULs": b"\x00" * 100_000,
    "not a number": b'{"data": NaN}',
    "infinity": b'{"data": -Infinity}',
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00",
    "XML with entities": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>',
    "a gzip": gzip.compress(b"0" * 50_000_000),
}  # fmt: skip

#: A value in the place of any other in a good body, as JSON.
VALUES = {
    "huge int": "9" * 100_000,
    "huge negative": "-" + "9" * 5_000,
    "64 bits and one": str(2**64),
    "tiny": "1e-400",
    "huge float": "1e308",
    "deep": "[" * 3_000 + "]" * 3_000,
    "NUL": '"a\\u0000b"',
    "long": json.dumps("x" * 300_000),
    "half a pair": '"\\ud800"',
    "names": "{" + ",".join(f'"k{number}":{{}}' for number in range(5_000)) + "}",
    "proto": '{"__proto__": {"a": 1}, "constructor": {"prototype": {}}, "__class__": "x"}',
    "list": "[" + "null," * 5_000 + "null]",
    "true": "true",
    "null": "null",
    "empty": '""',
    "date": '"9999-12-31T23:59:59.999999+23:59"',
    "year 0": '"0000-00-00T00:00:00Z"',
}

_HERE = "put it here"


def _bodies(good: Any) -> Iterator[tuple[str, bytes]]:
    """`good` with each of its values in turn replaced by each bomb."""
    for path in _paths(good):
        marked = json.dumps(_with(good, path, _HERE))
        for what, value in VALUES.items():
            yield f"{what} at {path}", marked.replace(json.dumps(_HERE), value).encode()


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield (*path, name)
        yield from _paths(each, (*path, name))


def _with(value: Any, path: tuple[str | int, ...], put: Any) -> Any:
    if not path:
        return put
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _with(value[path[0]], path[1:], put)
    return copy


FULL = a_payment(
    recipient={"email": "ada@example.com", "locale": "de", "attributes": {"name": "Ada", "list": [1]}},
    expires_in=60, send_at=None, reference="r", collapse_key="c", on_unknown="hold", priority="urgent",
)  # fmt: skip


async def _answered(running: Running, method: str, path: str, body: bytes, key: str) -> tuple[int, float, Any]:
    began = time.monotonic()
    told = await running.call(method, path, body, key=key)
    return told.status, time.monotonic() - began, told.body


async def test_no_body_makes_any_route_fail_or_think_for_long(running: Running) -> None:
    key = await a_key(running)
    routes = await documented(running)
    taking = [(method, path) for (method, path), told in routes.items() if schema_of(told)]
    assert len(taking) >= 9
    for method, route in taking:
        for what, body in RAW.items():
            status, took, said = await _answered(running, method, IDS.path(route), body, key)
            assert 400 <= status < 500, (method, route, what, status, said)
            assert took < SECONDS, (method, route, what)
    assert (await running.get("/readyz")).status == 200


async def test_no_value_of_any_field_makes_a_route_fail(running: Running) -> None:
    key = await a_key(running)
    goods = {**BODIES, ("POST", "/v1/notifications"): FULL}
    asked = 0
    for (method, route), good in goods.items():
        bodies = list(_bodies(good))
        for at in range(0, len(bodies), 20):
            few = bodies[at : at + 20]
            answers = await asyncio.gather(*(_answered(running, method, IDS.path(route), b, key) for _, b in few))
            for (what, _), (status, took, said) in zip(few, answers, strict=True):
                assert status < 500, (method, route, what, said)
                assert took < SECONDS, (method, route, what)
                asked += 1
    assert asked > 500


@pytest.mark.parametrize(
    "encoding", ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "gzip, gzip", "GZIP", "aes128gcm"]
)
async def test_a_compressed_bomb_is_refused_and_not_blown_up(whole_service: Running, encoding: str) -> None:
    bomb = zlib.compress(b" " * 200_000_000, 1)
    assert len(bomb) < MIB
    told = await whole_service.post("/v1/notifications", bomb, Content_Encoding=encoding)
    assert told.status == 415, told.body


async def test_a_body_that_drips_is_ended_in_time_and_holds_up_nobody(running: Running, impatient: int) -> None:
    """A byte now and then keeps every idle timeout happy: the limit is on the whole. Fifty at once."""

    async def drip() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", impatient)
        head = f"POST /v1/notifications HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {running.key}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n".encode())
        answer = asyncio.ensure_future(reader.read(12))
        while not answer.done():
            writer.write(b" ")
            await asyncio.wait([answer], timeout=0.1)
        writer.close()
        return answer.result()

    async with asyncio.timeout(30):
        drips = [asyncio.ensure_future(drip()) for _ in range(50)]
        told = await running.call("GET", "/v1/templates", url=f"http://127.0.0.1:{impatient}")
        assert told.status == 200, "others are served meanwhile"
        assert {answer[9:12] for answer in await asyncio.gather(*drips)} == {b"408"}


async def test_events_that_drip_are_ended_in_time_and_leave_their_places(impatient: int) -> None:
    """Those of a stranger, who could hold all sixteen places. Three times as many, one after another."""
    head = b"POST /v1/providers/ses/events HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"

    async def hold() -> None:
        async with connected(impatient) as connection:
            await connection.send(head)
            dripping = asyncio.create_task(drip(connection, b" "))
            the_problem(await connection.answer(), 408, "body_too_slow")
            await dripping

    for _ in range(3):
        await asyncio.gather(*(hold() for _ in range(16)))


async def test_a_length_that_lies_is_no_way_past_the_limit(whole_service: Running) -> None:
    """Too little, too much, twice, negative, or together with chunks: refused, or read to the limit and no further."""
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    for headers, body in (
        ({"Content-Length": "10"}, b" " * 10),
        ({"Content-Length": "-1"}, b"{}"),
        ({"Content-Length": "99999999999999999999"}, b"{}"),
        ({"Content-Length": "1e3"}, b"{}"),
        ({"Content-Length": "\u0661".encode().decode("latin-1")}, b"{}"),
        ({"Content-Length": "2", "Transfer-Encoding": "chunked"}, chunk * 20),
        ({"Transfer-Encoding": "chunked", "Trailer": "X"}, chunk * 20 + b"0\r\nX: 1\r\n\r\n"),
        ({"Transfer-Encoding": "chunked"}, b"ffffffffffffffff\r\n" + b" " * 100),
        ({"Transfer-Encoding": "xchunked"}, chunk),
        ({"Content-Length": "2\r\nContent-Length: 3"}, b"{}"),
    ):
        status = await _status(whole_service, headers, body)
        assert status is None or 400 <= status < 500, (headers, status)
    assert (await whole_service.get("/readyz")).status == 200


async def _status(running: Running, headers: Mapping[str, str], body: bytes) -> int | None:
    """The status of a POST written as it stands, or None if the server hangs up or waits for the rest."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.api_port)
    given = {"Host": "a", "Authorization": f"Bearer {running.key}", "Content-Type": "application/json", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    writer.write(f"POST /v1/notifications HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
    try:
        async with asyncio.timeout(2):
            began = await reader.read(12)
    except (TimeoutError, ConnectionError):
        return None
    finally:
        writer.close()
    return int(began[9:12]) if len(began) == 12 else None


def test_the_bombs_are_bombs() -> None:
    assert max(map(len, RAW.values())) < MIB, "none is refused for its size alone"
    assert len(gzip.decompress(RAW["a gzip"])) > 10 * MIB
