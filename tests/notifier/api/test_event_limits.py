"""POST /v1/providers/ses/events before anything is known of who posts: how large, how many at once, and where not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from notifier.embedded.ports import free_port
from tests.notifier.api.asks import the_problem
from tests.raw_http import Connection, connected
from tests.running import Answer, Running, eventually
from tests.security.logs import Logs
from tests.sns import TOPIC, a_notification, the_signer

PATH = "/v1/providers/ses/events"
#: 256 KiB, as Amazon SNS has for a message.
EVENT_BYTES = 262_144
AT_ONCE = 16


@pytest.fixture(scope="module")
def listening(whole_service: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an API that believes our signer, on the same servers, with the usual limits."""
    file = tmp_path_factory.mktemp("sns") / "events.pem"
    file.write_bytes(the_signer().certificate)
    port = free_port()
    env = {"NOTIFIER_SES_EVENTS_TOPICS": TOPIC, "NOTIFIER_SES_EVENTS_CERTIFICATE_FILE": str(file)}
    whole_service.start("api", env=env, name="api-event-limits", port=port)
    yield port
    whole_service.stop("api-event-limits")


def a_start(*headers: str, method: str = "POST", path: str = PATH) -> bytes:
    """The head of a request without a key."""
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: a", *headers, "", "")).encode()


CHUNKED = a_start("Transfer-Encoding: chunked")


async def post(running: Running, port: int, body: bytes) -> Answer:
    return await running.call("POST", PATH, body, url=f"http://127.0.0.1:{port}", Authorization="")


@asynccontextmanager
async def all_places(port: int, *, begun: bytes) -> AsyncIterator[list[Connection]]:
    """Connections that hold every place, each with a request that has begun so."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(port)) for _ in range(AT_ONCE)]
        for connection in connections:
            await connection.send(begun)

        async def are_taken() -> bool:
            async with connected(port) as another:
                await another.send(a_start("Content-Length: 9"))
                try:
                    async with asyncio.timeout(1):
                        return (await another.answer()).status == 503
                except TimeoutError:
                    return False

        await eventually(are_taken, what="every place to be taken")
        yield connections


async def are_free(running: Running, port: int) -> None:
    """As many as there are places are answered, all at once."""
    genuine = the_signer().signed(a_notification("{}"))

    async def all_are_taken() -> bool:
        answers = await asyncio.gather(*(post(running, port, genuine) for _ in range(AT_ONCE)))
        return {answer.status for answer in answers} == {204}

    await eventually(all_are_taken, what="every place to be free")


async def test_an_event_has_at_most_256_kib(running: Running, listening: int) -> None:
    the_problem(await post(running, listening, b" " * EVENT_BYTES), 400, "bad_json")
    the_problem(await post(running, listening, b" " * (EVENT_BYTES + 1)), 413, "body_too_large")
    async with connected(listening) as connection:
        await connection.send(CHUNKED + (b"10000\r\n" + b" " * 65_536 + b"\r\n") * 4 + b"1\r\n \r\n")
        the_problem(await connection.answer(), 413, "body_too_large")
    async with connected(listening) as connection:
        await connection.send(a_start(f"Content-Length: {EVENT_BYTES + 1}"))
        the_problem(await connection.answer(), 413, "body_too_large")


@pytest.mark.parametrize("begun", [a_start("Content-Length: 100") + b"{", CHUNKED + b"1\r\n{\r\n", CHUNKED])
async def test_the_seventeenth_event_at_once_is_refused_before_its_body(
    running: Running, listening: int, begun: bytes
) -> None:
    async with all_places(listening, begun=begun):
        for head in (a_start("Content-Length: 200000"), CHUNKED, a_start("Content-Length: 2", "Expect: 100-continue")):
            async with connected(listening) as another:
                await another.send(head)
                answer = await another.answer()
                the_problem(answer, 503, "too_many_at_once")
                assert answer.headers["Retry-After"] == "1"
        url = f"http://127.0.0.1:{listening}"
        assert (await running.get("/v1/templates", url=url)).status == 200, "nothing else is refused"
        assert (await running.call("GET", PATH, url=url, Authorization="")).status == 405
    await are_free(running, listening)


async def test_a_place_is_free_again_however_its_request_ends(running: Running, listening: int) -> None:
    """Answered, hung up, broken, cut short or refused: more often than there are places."""
    ends = [
        (a_start("Content-Length: 9") + b"{", True),  # and hangs up
        (CHUNKED + b"1\r\n{\r\n", True),
        (CHUNKED + b"no chunk", False),
        (CHUNKED + b"0\r\nX: " + b"x" * 70_000, False),
        (a_start("Content-Length: 2") + b"{}{}", False),
        (a_start("Content-Length: 2", "Content-Encoding: gzip") + b"{}", False),
        (a_start("Content-Length: 999999"), False),
        (a_start("Content-Length: 7") + b"no json", False),
        (a_start("Content-Length: 2", method="PUT") + b"{}", False),
    ]
    for _ in range(AT_ONCE):
        for data, hangs_up in ends:
            async with connected(listening) as connection:
                await connection.send(data)
                if not hangs_up:
                    assert 400 <= (await connection.answer()).status < 500, data[:200]
    await are_free(running, listening)


async def test_who_hangs_up_in_an_event_causes_no_error_of_ours(running: Running, listening: int) -> None:
    """Or a stranger could fill the log with tracebacks, and page somebody."""
    logs = Logs(running, "api-event-limits")
    for start in (a_start("Content-Length: 9") + b"{", CHUNKED + b"1\r\n{\r\n"):
        async with connected(listening) as connection:
            await connection.send(start)

    async def both_are_logged() -> bool:
        entries = [json.loads(line) for line in logs.text().splitlines()]
        return [entry["status"] for entry in entries if entry["event"] == "answered"] == [400, 400]

    await eventually(both_are_logged, what="both requests to end")
    assert '"error"' not in logs.text()


async def test_an_event_in_two_parts_is_taken_and_gives_its_place_back(running: Running, listening: int) -> None:
    genuine = the_signer().signed(a_notification("{}"))
    start = a_start(f"Content-Length: {len(genuine)}") + genuine[:-1]
    async with all_places(listening, begun=start) as connections:
        for connection in connections:
            await connection.send(genuine[-1:])
        assert {(await connection.answer()).status for connection in connections} == {204}
    await are_free(running, listening)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET"])
async def test_where_no_topic_is_allowed_no_body_is_read(running: Running, method: str) -> None:
    """More at once than there are places, and none of them is waited for."""
    for header in ("Content-Length: 100000", "Transfer-Encoding: chunked"):
        async with AsyncExitStack() as stack:
            port = running.api_port
            connections = [await stack.enter_async_context(connected(port)) for _ in range(AT_ONCE + 4)]
            for connection in connections:
                await connection.send(a_start(header, method=method))
                answer = await connection.answer()
                if method == "POST":
                    assert "NOTIFIER_SES_EVENTS_TOPICS" in the_problem(answer, 404, "not_found")["detail"]
                else:
                    the_problem(answer, 405, "method_not_allowed")
                    assert answer.headers["Allow"] == "POST"


async def test_other_methods_read_no_body_either_where_events_are_taken(listening: int) -> None:
    for method in ("PUT", "PATCH", "DELETE", "GET"):
        async with connected(listening) as connection:
            await connection.send(a_start("Content-Length: 100000", method=method))
            the_problem(await connection.answer(), 405, "method_not_allowed")


@pytest.mark.parametrize("path", [PATH + "/", PATH + "/x", PATH.upper(), "/v1//providers/ses/events", PATH + "%00"])
async def test_another_path_than_this_needs_a_key_before_its_body(listening: int, path: str) -> None:
    async with connected(listening) as connection:
        await connection.send(a_start("Content-Length: 100000", path=path))
        answer = await connection.answer()
        assert answer.status in (401, 404), "it is no event"


async def test_an_encoded_path_is_the_same_path(listening: int) -> None:
    path = "/v1/providers/ses%2Fevents"
    async with connected(listening) as connection:
        await connection.send(a_start(f"Content-Length: {EVENT_BYTES + 1}", path=path))
        the_problem(await connection.answer(), 413, "body_too_large")
