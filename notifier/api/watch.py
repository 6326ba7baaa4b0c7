"""What an API process tells of itself: what became of each request, and that its event loop turns."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notifier import bootstrap
from notifier.api.limits import GUARDED
from notifier.api.origins import HEADER, ORIGIN
from notifier.domain.origin import Origin, is_request_id
from notifier.observe import logs, metrics, tracing
from notifier.observe.liveness import Liveness
from notifier.settings import Settings

log = logs.get(__name__)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_TURN_SECONDS = 0.5


class Watch:
    """ASGI middleware, the outermost: gives each request its id, and tells what became of it in metrics, log and trace.

    It is told by the template of its route, never by its path. The id is the caller's `X-Request-Id` if that is one,
    else a new one; every line that is logged for the request bears it, and so does its answer.
    """

    def __init__(self, app: ASGIApp, *, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 500  # what the server answers if this ends by an error
        headers = Headers(scope=scope)
        given = headers.get(HEADER, "")
        request_id = given if is_request_id(given) else secrets.token_hex(16)
        # Not unbound at the end: whoever answers 500 logs after us. Each request has a task and a context of its own.
        logs.bind(request_id=request_id)

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with tracing.request(headers.get("traceparent")) as span:
            scope[ORIGIN] = Origin(request_id, span.traceparent)
            try:
                await self._app(scope, receive, send_and_see)
            finally:
                self._tell(scope, status, time.monotonic() - began, span)

    def _tell(self, scope: Scope, status: int, took: float, span: tracing.Span) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = self._template(scope)
        metrics.HTTP.labels(method, route, str(status)).observe(took)
        # Probes and strangers come by all the time, and nobody asks for them later.
        tell = log.info if scope["path"].startswith(GUARDED) else log.debug
        caller = scope.get("notifier.caller")
        whose = {"service_id": caller.service_id, "key_id": caller.key_id} if caller else {}
        tell("answered", method=method, route=route, status=status, duration_ms=round(took * 1000, 1), **whose)
        span.tell(
            {"http.request.method": method, "http.route": route, "http.response.status_code": status}
            | {"notifier.request_id": scope[ORIGIN].request_id},
            name=f"{method} {route}",
            error=str(status) if status >= 500 else None,
        )

    def _template(self, scope: Scope) -> str:
        """`/v1/notifications/{id}`; `unmatched` for what is no address of ours."""
        route = scope.get("route")
        if route is None:  # refused before it came to a route: no key, too fast, too large
            route = next((known for known in self._routes if known.matches(scope)[0] is not Match.NONE), None)
        return str(getattr(route, "path", "unmatched"))


@asynccontextmanager
async def watched(settings: Settings) -> AsyncIterator[None]:
    """Show this process's metrics, and whether its event loop turns, until the block ends."""
    liveness = Liveness(limit=settings.liveness_limit, does="turn of the event loop")
    shown = bootstrap.endpoint(settings, "api", liveness)
    if shown is None:
        yield
        return
    turning = asyncio.create_task(_turn(liveness))
    try:
        yield
    finally:
        turning.cancel()
        with suppress(asyncio.CancelledError):
            await turning
        liveness.close()
        await asyncio.to_thread(shown.close)


async def _turn(liveness: Liveness) -> None:
    while True:
        liveness.sign()
        await asyncio.sleep(_TURN_SECONDS)
