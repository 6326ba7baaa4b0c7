"""Errors at a stand-in for Sentry: which kind, where, under which id, and nothing of anybody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from notifier.settings import PREFIX
from tests.collectors import Collector, collecting
from tests.notifier.api.asks import a_payment
from tests.running import POOLS, Running, eventually

CANARY = "canary8c2e"
REPORTING = ("api", "urgent", "bulk")
DSN = "http://public@127.0.0.1:{port}/7"


@pytest.fixture
async def reporting(running: Running) -> AsyncIterator[tuple[Running, Collector]]:
    """The service with a DSN, and what is sent to it. The database is as it was when this is over."""
    with collecting() as sentry:
        running.stop(*REPORTING)
        running.start(*REPORTING, env={"NOTIFIER_SENTRY_DSN": DSN.format(port=sentry.port)})

        async def all_read() -> bool:
            return running.stack.valkey.waiting_consumers() >= len(POOLS)

        await eventually(all_read, what="every pool to read its queues", within=60)
        yield running, sentry
        running.stop(*REPORTING)


async def events(sentry: Collector, count: int) -> list[dict[str, Any]]:
    async def are_there() -> bool:
        return len(sentry.events()) >= count

    await eventually(are_there, what=f"{count} events")
    return sentry.events()


@pytest.mark.full
async def test_an_error_comes_with_its_frames_and_ids_and_without_anybody(
    reporting: tuple[Running, Collector],
) -> None:
    """A column is gone: the driver's error shows all values that it could not write, which are somebody's."""
    running, sentry = reporting
    body = a_payment(
        recipient={"email": f"{CANARY}@example.com", "attributes": {"name": CANARY}},
        data={"amount": "1", "currency": "EUR", "payer": CANARY},
        reference=CANARY,
        channels=["email"],
    )
    await running.sql("ALTER TABLE notifications RENAME COLUMN reference TO gone")
    try:
        told = await running.call(
            "POST", f"/v1/notifications?x={CANARY}", body, X_Request_Id="broken-1", Connection="close"
        )
    finally:
        await running.sql("ALTER TABLE notifications RENAME COLUMN gone TO reference")
    assert told.status == 500
    await running.sql("ALTER TABLE deliveries RENAME COLUMN provider_message_id TO gone")
    try:
        told = await running.call("POST", "/v1/notifications", body, X_Request_Id="broken-2")
        assert told.status == 202
        found = await events(sentry, 2)
    finally:
        await running.sql("ALTER TABLE deliveries RENAME COLUMN gone TO provider_message_id")

    by = {event["tags"].get("request_id"): event for event in found}
    in_api, in_worker = by["broken-1"], by["broken-2"]
    assert in_api["exception"]["values"][-1]["type"] == "ProgrammingError"
    assert in_api["tags"]["route"] == "/v1/notifications"
    assert in_worker["tags"]["delivery_id"]
    assert in_worker["tags"]["lane"] == "urgent.email"
    for event in (in_api, in_worker):
        frames = event["exception"]["values"][-1]["stacktrace"]["frames"]
        assert any(frame["function"] and "notifier" in frame["filename"] and frame["lineno"] for frame in frames)
        assert event["release"].startswith("notifier@")
        assert not {"request", "user", "extra", "breadcrumbs", "server_name", "modules", "threads"} & event.keys()
        assert not any("value" in exception for exception in event["exception"]["values"])
        assert not any("vars" in frame for frame in frames)
    sent = sentry.everything()
    assert CANARY.encode() not in sent
    assert running.key.encode() not in sent


def test_an_error_that_nobody_catches_is_reported_before_the_process_ends() -> None:
    code = (
        "from notifier import bootstrap; bootstrap.prepare()\n"
        f"def fails(whom):\n    raise ValueError(whom)\nfails('{CANARY}' + '@example.com')"
    )
    with collecting() as sentry:
        ended = _python(code, SENTRY_DSN=DSN.format(port=sentry.port))
        assert ended.returncode == 1
        (event,) = sentry.events()
        (error,) = event["exception"]["values"]
        assert error["type"] == "ValueError"
        assert error["stacktrace"]["frames"][-1]["function"] == "fails"
        assert f"{CANARY}@example.com".encode() not in sentry.everything()


def test_what_is_logged_as_a_warning_is_no_error_to_report() -> None:
    code = (
        "from notifier import bootstrap; bootstrap.prepare()\n"
        "import logging; from notifier.observe import logs\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n"
        "    logs.get('notifier').warning('odd', exc_info=True)\n"
        "    logging.getLogger('library').error('odder', exc_info=True)\n"
        "logs.get('notifier').error('without one')"
    )
    with collecting() as sentry:
        assert _python(code, SENTRY_DSN=DSN.format(port=sentry.port)).returncode == 0
        (event,) = sentry.events()
        assert event["tags"]["logger"] == "library"


def _python(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    own = {f"{PREFIX}{name}": value for name, value in settings.items()}
    return subprocess.run([sys.executable, "-c", code], env={**outside, **own}, capture_output=True, text=True)
