"""The gate before every route: who calls, how often, and how large a body.

It runs before a body is read, so that a stranger costs next to nothing. Plain ASGI, because
Starlette's own middleware class costs more than all of this does.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notifier.api import problems
from notifier.domain.caller import Caller
from notifier.domain.errors import (
    BodyTooLarge,
    BodyTooSlow,
    NotifierError,
    RateLimited,
    TooManyAtOnce,
    UnsupportedMedia,
)

#: Everything below it needs a key.
GUARDED = "/v1/"
#: Doors for providers, who have no key: what they post is signed, and read as JSON whatever it is called.
SIGNED = frozenset({"/v1/providers/ses/events"})
#: Anybody may post there and is only known when the whole body is read, so memory has a limit of its own: no body is
#: larger than SNS's largest message (docs.aws.amazon.com/sns, "Large message payloads"), and only so many are read or
#: worked on at once.
EVENT_BYTES = 256 * 1024
EVENTS_AT_ONCE = 16
EVENTS_RETRY_SECONDS = 1
#: A body must have arrived by then.
BODY_SECONDS = 30
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_REMEMBERED = 10_000
#: Part of a token that sums of floats may lose: 4000 additions to a clock that has run for weeks lose a thousandth.
ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Standing:
    """How a key stands with its rate: what is left of the burst, and in how many seconds it is whole again."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: float
    retry_after: float


class Rates:
    """A token bucket per key, in this process (as GCRA: one number a key, the time at which its bucket is full)."""

    def __init__(self, *, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / per_second
        self._burst = burst
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str) -> Standing:
        """Take one token for `key`, if there is one."""
        now = self._clock()
        full_at = max(now, self._full_at.get(key, now))
        room = self._burst - (full_at - now) / self._interval
        allowed = room >= 1 - ROUNDING
        if allowed:
            full_at += self._interval
            room -= 1
            self._full_at[key] = full_at
            self._full_at.move_to_end(key)
            while len(self._full_at) > _REMEMBERED:
                self._full_at.popitem(last=False)
        wait = 0.0 if allowed else (1 - room) * self._interval
        return Standing(allowed, self._burst, max(0, int(room)), full_at - now, wait)


class Gate:
    """ASGI middleware: authenticates, counts, and reads bodies no larger than they may be."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        caller: Callable[[str | None], Awaitable[Caller]],
        rates: Rates,
        body_limit: Callable[[str], int],
        takes_events: bool = True,
    ) -> None:
        self._app = app
        self._caller = caller
        self._rates = rates
        self._body_limit = body_limit
        self._takes_events = takes_events
        self._events = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(GUARDED):
            await self._app(scope, receive, send)
        elif self._is_event(scope):
            await self._pass_event(scope, receive, send)
        else:
            await self._pass(scope, receive, send)

    def _is_event(self, scope: Scope) -> bool:
        return scope["path"] in SIGNED and scope["method"] == "POST" and self._takes_events

    async def _pass_event(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One of a provider's events, if not too many are in progress in this process."""
        if self._events >= EVENTS_AT_ONCE:
            await problems.response(TooManyAtOnce(retry_after=EVENTS_RETRY_SECONDS))(scope, receive, send)
            return
        self._events += 1
        try:
            await self._pass(scope, receive, send)
        finally:
            self._events -= 1

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        standing: Standing | None = None

        async def send_with_rate(message: Message) -> None:
            if message["type"] == "http.response.start" and standing is not None:
                headers = MutableHeaders(scope=message)
                headers["RateLimit-Limit"] = str(standing.limit)
                headers["RateLimit-Remaining"] = str(standing.remaining)
                headers["RateLimit-Reset"] = str(math.ceil(standing.reset_seconds))
            await send(message)

        try:
            headers = Headers(scope=scope)
            if scope["path"] in SIGNED:
                standing = self._rates.take(scope["path"])
            else:
                scope["notifier.caller"] = caller = await self._caller(headers.get("authorization"))
                standing = self._rates.take(caller.key_id)
            if not standing.allowed:
                raise RateLimited(retry_after=standing.retry_after)
            # Nothing but an event is read from a stranger: the route answers 404 or 405 without the body.
            if scope["method"] in _WITH_BODY and (scope["path"] not in SIGNED or self._is_event(scope)):
                receive = await self._body(scope["path"], headers, receive)
        except NotifierError as error:
            await problems.response(error)(scope, receive, send_with_rate)
            return
        await self._app(scope, receive, send_with_rate)

    async def _body(self, path: str, headers: Headers, receive: Receive) -> Receive:
        """Read the whole body, within its limits, and return a `receive` that hands it on."""
        limit = self._body_limit(path)
        if path in SIGNED:
            limit = min(limit, EVENT_BYTES)
        too_large = BodyTooLarge(f"The body is larger than {limit} bytes, which is all that this endpoint takes.")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise UnsupportedMedia("Content-Encoding is not accepted. Send the body uncompressed.")
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > limit:
            raise too_large
        parts: list[bytes] = []
        size = 0
        last: Message = {"type": "http.disconnect"}
        try:
            async with asyncio.timeout(BODY_SECONDS):
                more = True
                while more:
                    last = await receive()
                    if last["type"] != "http.request":
                        break
                    part = last.get("body", b"")
                    size += len(part)
                    if size > limit:
                        raise too_large
                    parts.append(part)
                    more = last.get("more_body", False)
        except TimeoutError:
            raise BodyTooSlow(f"The body did not arrive within {BODY_SECONDS} seconds.") from None
        is_json = headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
        if size and not is_json and path not in SIGNED:
            raise UnsupportedMedia("The body must be JSON: send Content-Type: application/json.")
        handed_on = False

        async def replay() -> Message:
            nonlocal handed_on
            if not handed_on and last["type"] == "http.request":
                handed_on = True
                return {"type": "http.request", "body": b"".join(parts), "more_body": False}
            return await receive() if last["type"] == "http.request" else last

        return replay
