"""What an API process tells of itself: how long its requests take, and that its event loop turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notifier import bootstrap
from notifier.observe import metrics
from notifier.observe.liveness import Liveness
from notifier.settings import Settings

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_TURN_SECONDS = 0.5


class Timed:
    """ASGI middleware, the outermost: measures each request by the template of its route, never by its path."""

    def __init__(self, app: ASGIApp, *, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 500  # what the server answers if this ends by an error

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_see)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            took = time.monotonic() - began
            metrics.HTTP.labels(method, self._template(scope), str(status)).observe(took)

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
