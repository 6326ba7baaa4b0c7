"""Requests are measured by their route's template, whatever stands in their path."""

from __future__ import annotations

from uuid import uuid4

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from notifier.api.watch import Watch
from tests.acceptance.test_metrics import non_zero, ready, shown
from tests.running import Running


async def counted(
    running: Running, *calls: tuple[str, str, int], key: str | None = None
) -> dict[tuple[str, ...], float]:
    before = await ready(running)
    for method, path, status in calls:
        assert (await running.call(method, path, key=key)).status == status
    now = await shown(running, since=before)
    return non_zero(now.by("notifier_http_request_seconds_count", "method", "route", "status"))


async def test_every_id_is_the_same_route(running: Running) -> None:
    calls = [("GET", f"/v1/notifications/{uuid4()}", 404) for _ in range(3)]
    assert await counted(running, *calls) == {("GET", "/v1/notifications/{id}", "404"): 3}


async def test_an_address_of_nobody_is_unmatched(running: Running) -> None:
    calls = [("GET", "/wp-login.php", 404), ("GET", "/v1/secrets/42", 404)]
    assert await counted(running, *calls) == {("GET", "unmatched", "404"): 2}


async def test_who_is_refused_before_the_route_is_counted_at_the_route(running: Running) -> None:
    calls = [("POST", "/v1/notifications", 401), ("GET", f"/v1/campaigns/{uuid4()}", 401)]
    assert await counted(running, *calls, key="stranger") == {
        ("POST", "/v1/notifications", "401"): 1,
        ("GET", "/v1/campaigns/{id}", "401"): 1,
    }


async def test_a_method_is_one_of_a_few_words(running: Running) -> None:
    assert set(await counted(running, ("PROPFIND", "/coffee", 404))) == {("other", "unmatched", "404")}


async def test_an_error_of_ours_is_a_500(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []

    class Seen:
        def labels(self, *labels: str) -> Seen:
            seen.append(labels)
            return self

        def observe(self, _: float) -> None:
            pass

    monkeypatch.setattr("notifier.observe.metrics.HTTP", Seen())
    app = FastAPI()

    @app.get("/fall/{id}")
    async def fall(request: Request) -> Response:  # noqa: ARG001
        raise ZeroDivisionError

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: object) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/fall/7", "headers": [], "query_string": b"", "root_path": ""}
    with pytest.raises(ZeroDivisionError):
        await Watch(app, routes=app.routes)(scope, receive, send)
    assert seen == [("GET", "/fall/{id}", "500")]
