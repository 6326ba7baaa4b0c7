"""Logs: whatever callers and libraries say, a line is one JSON object and holds no words of anybody else's."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest

from notifier.observe import logs
from tests.notifier.api.asks import a_payment, a_subscription
from tests.running import Running
from tests.security.corpus.broker import FORGED_LINES
from tests.security.logs import Logs

CANARY = "canary4b8d@example.com"


@pytest.fixture
def written() -> Iterator[StringIO]:
    """What this process logs, as in production."""
    loggers = [logging.getLogger(name) for name in (None, "multiprocessing")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    logs.configure(level="INFO", form="json")
    stream = StringIO()
    (handler,) = loggers[0].handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    yield stream
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def the_entry(written: StringIO) -> dict[str, Any]:
    (line,) = written.getvalue().splitlines()
    entry: dict[str, Any] = json.loads(line)
    return entry


def fails() -> None:
    """A driver's error: it quotes what it could not take."""
    try:
        raise KeyError(CANARY)
    except KeyError as error:
        raise ValueError(f"({CANARY}) already exists") from error


def test_a_task_that_raised_is_logged_by_celery_without_its_words(written: StringIO) -> None:
    """As `celery.app.trace` writes it: the error's repr, and its traceback, inside the message."""
    try:
        fails()
    except ValueError as error:
        context = {"name": "walk", "id": "7", "exc": repr(error)}
        logging.getLogger("celery.app.trace").error(
            "Task %(name)s[%(id)s] raised unexpected: %(exc)s", context, exc_info=True
        )
    assert the_entry(written)["event"] == "Task walk[7] raised unexpected: ValueError"
    assert "in fails" in the_entry(written)["exception"]
    assert CANARY not in written.getvalue()


async def test_an_error_that_nobody_awaited_is_logged_by_asyncio_without_its_words(written: StringIO) -> None:
    async def lost() -> None:
        fails()

    task = asyncio.ensure_future(lost())
    await asyncio.wait([task])
    del task
    assert "Task exception was never retrieved" in the_entry(written)["event"]
    assert CANARY not in written.getvalue()


def test_celerys_process_pool_writes_json_too(written: StringIO) -> None:
    from billiard import util

    util.get_logger()  # it cuts itself off from the root
    try:
        fails()
    except ValueError as error:
        logging.getLogger("multiprocessing").error("Pool callback raised exception: %r", error, exc_info=True)
    assert the_entry(written)["event"] == "Pool callback raised exception: ValueError"
    assert CANARY not in written.getvalue()


async def test_no_field_of_any_request_writes_a_line_of_its_own_into_a_log(running: Running) -> None:
    """Line breaks, colours and forged lines in bodies, paths, queries and headers, through to provider and back."""
    logs = Logs(running)
    words = "\r\n".join(text for text in FORGED_LINES if text.isprintable() or text.isascii())
    await running.faults({"action": "status", "status": 400, "error": "x", "message": words})
    for text in FORGED_LINES:
        plain = text.encode("utf-8", "replace").decode()
        for body in (
            a_payment(data={"amount": "1", "currency": "EUR", "payer": text, "reference": text}),
            a_payment(template=text),
            a_payment(reference=text, collapse_key=text),
            a_payment(recipient={"email": f"ada{text}@example.com"}),
            a_payment(recipient={"email": "ada@example.com", "attributes": {"name": text, text: text}, "locale": text}),
            a_payment(recipient={"push_tokens": [text]}, channels=["push"]),
            a_payment(recipient={"subscriptions": [a_subscription(f"https://fcm.googleapis.com/{text}")]}),
            a_payment(recipient={"push_tokens": ["rejected-1"]}, channels=["push"]),
            {text: text},
        ):
            told = await running.post("/v1/notifications", body)
            assert told.status in (202, 400, 404, 422), told.body
        quoted = "".join(f"%{byte:02x}" for byte in plain.encode())
        for path in (f"/v1/notifications/{quoted}", f"/v1/templates/{quoted}", f"/v1/notifications?reference={quoted}"):
            told = await running.get(path)
            assert told.status in (200, 404, 422), told.body
        await running.call("PUT", f"/v1/recipients/1/devices/{quoted}")
        for header in ("Authorization: Bearer ", "Idempotency-Key: ", "User-Agent: ", "Content-Type: ", "X-"):
            await _as_bytes(running, f"GET /v1/templates HTTP/1.1\r\nHost: a\r\n{header}{plain}\r\n\r\n")
        await _as_bytes(running, f"GET /{plain} HTTP/1.1\r\nHost: {plain}\r\n\r\n")
    await running.quiescence()
    logs.are_objects()
    assert "forged" not in logs.text()


async def _as_bytes(running: Running, request: str) -> None:
    """Send what no client would, and read until an answer begins or the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.api_port)
    writer.write(request.encode())
    async with asyncio.timeout(20):
        began = await reader.read(12)
    writer.close()
    assert began[9:10] in (b"2", b"4", b""), began
