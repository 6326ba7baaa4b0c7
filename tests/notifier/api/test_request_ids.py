"""One id from the HTTP request through the hint to the provider's call, in the logs of every process on the way."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI

from notifier.api import problems
from notifier.api.watch import Watch
from tests.running import Running, eventually
from tests.security.logs import Logs

MADE = re.compile("[0-9a-f]{32}")


def entries(logs: Logs, request_id: str) -> list[dict[str, Any]]:
    """What was logged under a request's id, by any process."""
    lines = (json.loads(line) for line in logs.text().splitlines())
    return [entry for entry in lines if entry.get("request_id") == request_id]


async def told(logs: Logs, request_id: str, *events: str) -> list[dict[str, Any]]:
    """Wait until all of these are logged under the id; everything that is."""

    async def all_there() -> bool:
        return sorted(entry["event"] for entry in entries(logs, request_id)) == sorted(events)

    try:
        await eventually(all_there, what=f"{request_id} in {events}")
    except AssertionError:
        raise AssertionError(entries(logs, request_id)) from None
    return entries(logs, request_id)


async def test_a_request_keeps_the_id_that_it_came_with(running: Running) -> None:
    answer = await running.get("/v1/templates", X_Request_Id="order-991.retry:2")
    assert answer.headers["X-Request-Id"] == "order-991.retry:2"


@pytest.mark.parametrize("given", ["", "ada@example.com", "a b", "x" * 65, "<script>"])
async def test_one_without_an_id_or_with_none_that_is_one_gets_a_new_one(given: str, running: Running) -> None:
    answers = [await running.get("/v1/templates", X_Request_Id=given) for _ in range(2)]
    first, second = (answer.headers["X-Request-Id"] for answer in answers)
    assert MADE.fullmatch(first)
    assert first != second


Call = Callable[[Running], Awaitable[Any]]


@pytest.mark.parametrize(
    ("status", "call"),
    [
        (401, lambda running: running.get("/v1/templates", key="stranger", X_Request_Id="mine")),
        (404, lambda running: running.get("/nowhere", X_Request_Id="mine")),
        (404, lambda running: running.get(f"/v1/notifications/{uuid4()}", X_Request_Id="mine")),
        (405, lambda running: running.call("DELETE", "/v1/templates", X_Request_Id="mine")),
        (415, lambda running: running.post("/v1/notifications", b"{}", Content_Type="text/plain", X_Request_Id="mine")),
        (422, lambda running: running.post("/v1/notifications", {}, X_Request_Id="mine")),
        (200, lambda running: running.get("/readyz", X_Request_Id="mine")),
    ],
)
async def test_every_answer_bears_it(status: int, call: Call, running: Running) -> None:
    answer = await call(running)
    assert (answer.status, answer.headers["X-Request-Id"]) == (status, "mine")


async def test_an_error_of_ours_bears_it_too() -> None:
    """Starlette answers it beyond all middleware."""
    app = FastAPI()

    @app.get("/fall")
    async def fall() -> None:
        raise ZeroDivisionError

    problems.install(app, routes=app.routes)
    app.add_middleware(Watch, routes=app.routes)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/fall", "query_string": b"", "root_path": ""}
    with pytest.raises(ZeroDivisionError):  # for the server, after the answer
        await app(scope | {"headers": [(b"x-request-id", b"mine")]}, receive, send)
    assert sent[0]["status"] == 500
    assert dict(sent[0]["headers"])[b"x-request-id"] == b"mine"


async def test_the_id_goes_from_the_request_to_the_providers_call_and_its_result(running: Running) -> None:
    running.kill("beat")  # a machine may be so busy that the sweeper is quicker, whose hints name no request
    logs = Logs(running)
    answer = await running.call(
        "POST",
        "/v1/notifications",
        {"template": "payment-received", "recipient": {"email": "ada@example.com"}, "channels": ["email"]}
        | {"data": {"amount": "1", "currency": "EUR"}},
        X_Request_Id="order-991",
    )
    assert answer.status == 202
    found = await told(logs, "order-991", "answered", "claimed", "provider_called", "recorded")
    by = {entry["event"]: entry for entry in found}
    ((id,),) = await running.sql("SELECT id FROM deliveries")

    answered = by["answered"]
    assert (answered["method"], answered["route"], answered["status"]) == ("POST", "/v1/notifications", 202)
    assert answered["notification_id"] == answer.body["id"]
    assert answered["key_id"]
    assert (by["claimed"]["delivery_ids"], by["claimed"]["lane"]) == ([id], "urgent.email")
    called = by["provider_called"]
    assert (called["delivery_id"], called["attempt"], called["provider"]) == (id, 1, "ses")
    assert (called["outcome"], called["reason"]) == ("sent", None)
    assert called["duration_ms"] > 0
    assert (by["recorded"]["delivery_id"], by["recorded"]["status"]) == (id, "sent")
    assert "ada" not in logs.text()

    items = (await running.get(f"/v1/notifications/{answer.body['id']}/timeline")).body["items"]
    assert [item["request_id"] for item in items if item["event"] == "hinted"] == ["order-991"]
    assert not any("request_id" in item for item in items if item["event"] != "hinted")


async def test_requests_that_share_a_commit_and_a_hint_keep_their_own_ids(running: Running) -> None:
    running.kill("beat")  # a machine may be so busy that the sweeper is quicker, whose hints name no request
    logs = Logs(running)
    names = [f"crowd-{number}" for number in range(40)]
    body = {"template": "payment-received", "recipient": {"email": "ada@example.com"}, "channels": ["email"]}
    body |= {"data": {"amount": "1", "currency": "EUR"}}
    answers = await asyncio.gather(
        *(running.call("POST", "/v1/notifications", body, X_Request_Id=name) for name in names)
    )
    assert {answer.status for answer in answers} == {202}
    await running.quiescence()
    rows = await running.sql("SELECT notification_id::text, id FROM deliveries")
    delivery = {row[0]: row[1] for row in rows}
    for answer, name in zip(answers, names, strict=True):
        own = [entry for entry in await _settled(logs, name) if entry["event"] != "answered"]
        ids = {id for entry in own for id in (entry.get("delivery_ids") or [entry["delivery_id"]])}
        assert ids == {delivery[answer.body["id"]]}, "nobody else's"


async def _settled(logs: Logs, name: str) -> Sequence[dict[str, Any]]:
    """All lines under an id, once there are any."""

    async def is_answered() -> bool:
        return any(entry["event"] == "answered" for entry in entries(logs, name))

    await eventually(is_answered, what=f"{name} to be answered")
    return entries(logs, name)


async def test_a_failed_call_says_why_under_the_id(running: Running) -> None:
    running.kill("beat")  # a machine may be so busy that the sweeper is quicker, whose hints name no request
    logs = Logs(running)
    await running.faults(
        {"action": "status", "status": 400, "error": "MessageRejected", "message": "no ada@example.com"}
    )
    body = {"template": "payment-received", "recipient": {"email": "ada@example.com"}, "channels": ["email"]}
    body |= {"data": {"amount": "1", "currency": "EUR"}}
    await running.call("POST", "/v1/notifications", body, X_Request_Id="refused-1")
    found = await told(logs, "refused-1", "answered", "claimed", "provider_called", "recorded")
    called = next(entry for entry in found if entry["event"] == "provider_called")
    assert (called["outcome"], called["reason"]) == ("permanent", "message_rejected")
    assert "ada" not in logs.text()


async def test_what_a_campaign_sends_is_not_logged_one_by_one(running: Running) -> None:
    logs = Logs(running)
    await running.enrol(range(1, 6))
    id = await running.campaign()
    await running.campaign_in(id, "finished")
    events = {json.loads(line)["event"] for line in logs.text().splitlines()}
    assert "campaign_finished" in events
    assert not events & {"claimed", "provider_called", "recorded"}
