"""Bodies: how large, in what form, how deep. Nothing here gets past the gate, and nothing ends in a 5xx."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from starlette.types import Message

from notifier.api import limits
from notifier.api.limits import Gate, Rates
from notifier.domain.caller import Caller
from notifier.domain.notification import Mode
from tests.notifier.api.asks import a_payment, its_message, the_problem
from tests.running import Answer, Running

MIB = 1 << 20


@pytest.mark.parametrize(
    ("path", "size"),
    [("/v1/notifications", MIB), ("/v1/notifications/batch", 8 * MIB), ("/v1/recipients/batch", 8 * MIB)],
)
async def test_a_body_over_the_limit_is_refused_by_its_announced_length(
    whole_service: Running, path: str, size: int
) -> None:
    """Before a byte of it is read."""
    answer = await _raw(whole_service, "POST", path, {"Content-Length": str(size + 1)})
    assert str(size) in the_problem(answer, 413, "body_too_large")["detail"]


@pytest.mark.parametrize(("path", "size"), [("/v1/notifications", MIB), ("/v1/recipients/batch", 8 * MIB)])
async def test_a_body_over_the_limit_is_refused_without_a_length_too(
    whole_service: Running, path: str, size: int
) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = await _raw(
        whole_service, "POST", path, {"Transfer-Encoding": "chunked"}, chunk * (size // 0x10000) + b"1\r\n \r\n"
    )
    the_problem(answer, 413, "body_too_large")


async def test_a_body_of_exactly_the_limit_is_read(running: Running) -> None:
    body = json.dumps(a_payment()).encode()
    answer = await running.post("/v1/notifications", body + b" " * (MIB - len(body)))
    assert answer.status == 202


async def test_a_body_in_chunks_is_read_like_any_other(running: Running) -> None:
    raw = json.dumps(a_payment()).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (raw[:10], raw[10:])) + b"0\r\n\r\n"
    answer = await _raw(running, "POST", "/v1/notifications", {"Transfer-Encoding": "chunked"}, chunks)
    assert answer.status == 202


@pytest.mark.parametrize(
    "raw",
    [b"{", b"nope", b'{"template": NaN}', b'{"a": 1,}', b"\xff\xfe", b'{"a": "\\ud800"}', b'{"a": 1e999}', b"{} {}"],
)
@pytest.mark.parametrize("path", ["/v1/notifications", "/v1/notifications/batch", "/v1/recipients/batch"])
async def test_what_is_not_json_is_a_bad_request_that_says_where(whole_service: Running, path: str, raw: bytes) -> None:
    problem = the_problem(await whole_service.post(path, raw), 400, "bad_json")
    assert "at byte" in problem["detail"]


async def test_no_body_at_all_is_a_missing_one(whole_service: Running) -> None:
    problem = the_problem(await whole_service.post("/v1/notifications"), 422, "validation_error")
    assert its_message(problem, ["body"]) == "is missing; add it"


@pytest.mark.parametrize("raw", [b"null", b"[]", b"[null, null]", b"7", b'"text"', b"true"])
async def test_json_that_is_no_object_is_told_so(whole_service: Running, raw: bytes) -> None:
    for method, path in (("POST", "/v1/notifications"), ("POST", "/v1/recipients/batch"), ("PUT", "/v1/recipients/1")):
        problem = the_problem(await whole_service.call(method, path, raw), 422, "validation_error")
        assert problem["errors"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
async def test_a_compressed_body_is_refused(whole_service: Running, encoding: str) -> None:
    raw = gzip.compress(json.dumps(a_payment()).encode())
    answer = await whole_service.post("/v1/notifications", raw, Content_Encoding=encoding)
    assert "uncompressed" in the_problem(answer, 415, "unsupported_media_type")["detail"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_a_body_of_another_type_is_refused(whole_service: Running, kind: str) -> None:
    answer = await whole_service.post("/v1/notifications", a_payment(), Content_Type=kind)
    assert "application/json" in the_problem(answer, 415, "unsupported_media_type")["detail"]


async def test_json_with_a_charset_is_json(running: Running) -> None:
    answer = await running.post("/v1/notifications", a_payment(), Content_Type="application/json; charset=utf-8")
    assert answer.status == 202


@pytest.mark.parametrize("depth", [9, 900, 2_000, 100_000])
async def test_data_that_is_nested_too_deep_is_refused(whole_service: Running, depth: int) -> None:
    nested = '{"a":' * depth + "1" + "}" * depth
    raw = json.dumps(a_payment(data="HERE")).replace('"HERE"', nested).encode()
    problem = the_problem(await whole_service.post("/v1/notifications", raw), 422, "validation_error")
    assert "nested deeper than 8 levels" in problem["detail"]


async def test_depth_anywhere_else_is_refused_as_well(whole_service: Running) -> None:
    raw = b'{"template": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    the_problem(await whole_service.post("/v1/notifications", raw), 422, "validation_error")


async def test_a_path_that_is_not_there_and_a_method_that_is_not_are_problems_too(whole_service: Running) -> None:
    the_problem(await whole_service.get("/v1/nothing"), 404, "not_found")
    the_problem(await whole_service.get("/v1/notifications/"), 404, "not_found")
    answer = await whole_service.call("PATCH", "/v1/notifications")
    assert "Allowed: GET, POST" in the_problem(answer, 405, "method_not_allowed")["detail"]
    assert answer.headers["Allow"] == "GET, POST"


async def test_a_body_that_does_not_arrive_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)

    async def drip() -> AsyncIterator[Message]:
        yield {"type": "http.request", "body": b"{", "more_body": True}
        await asyncio.sleep(60)

    assert await _through_a_gate(drip()) == (408, "body_too_slow")


async def test_a_caller_who_hangs_up_in_the_body_reaches_no_route() -> None:
    async def hang_up() -> AsyncIterator[Message]:
        yield {"type": "http.request", "body": b"{", "more_body": True}
        while True:
            yield {"type": "http.disconnect"}

    assert await _through_a_gate(hang_up()) == (204, {"type": "http.disconnect"})


async def _through_a_gate(body: AsyncIterator[Message]) -> tuple[int, Any]:
    """Status and code (or what the route received) of a POST whose body comes from `body`."""
    received: list[Message] = []
    sent: list[Message] = []

    async def route(_: Any, receive: Callable[[], Any], send: Callable[[Message], Any]) -> None:
        received.append(await receive())
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def known(_: str | None) -> Caller:
        return Caller(1, "shop", "nk_live_1", frozenset(), Mode.LIVE)

    async def receive() -> Message:
        return await anext(body)

    async def send(message: Message) -> None:
        sent.append(message)

    gate = Gate(route, caller=known, rates=Rates(per_second=10, burst=10), body_limit=lambda _: MIB)
    await gate(
        {"type": "http", "method": "POST", "path": "/v1/x", "headers": [(b"content-type", b"application/json")]},
        receive,
        send,
    )
    if received:
        return sent[0]["status"], received[0]
    return sent[0]["status"], json.loads(sent[1]["body"])["code"]


async def _raw(running: Running, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
    """An HTTP/1.1 call as bytes, since a client would mend what is to be tested."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.api_port)
    given = {"Host": "api", "Authorization": f"Bearer {running.key}", "Content-Type": "application/json", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
    async with asyncio.timeout(20):
        told = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = told.rstrip().split("\r\n")
        answered = {name.title(): value for name, value in (line.split(": ", 1) for line in lines)}
        raw = await reader.readexactly(int(answered["Content-Length"]))
    writer.close()
    return Answer(int(status.split(" ")[1]), json.loads(raw), answered)
