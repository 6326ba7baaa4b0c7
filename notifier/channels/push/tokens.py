"""Google's access token: fetched off the event loop, by one caller for all, before the old one runs out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import google.auth.exceptions
import requests
from google.auth.transport.requests import Request

#: Refreshed in the background this long before the end; Google's tokens live an hour.
EARLY = timedelta(minutes=5)
#: The longest that the token endpoint may take.
TIMEOUT = timedelta(seconds=5)
#: After a failure nobody asks again for this long, or every waiting delivery would.
PAUSE = timedelta(seconds=2)

#: What google-auth raises when the endpoint is down, refuses, or answers with something else than an
#: object: it indexes whatever came, so HTML with status 200 is a TypeError.
FAILURES = (google.auth.exceptions.GoogleAuthError, OSError, ValueError, TypeError, AttributeError)


class TokenUnavailable(Exception):
    """The token endpoint did not give a token; the message says why."""


class AccessTokens:
    """The token of one service account. `credentials` are google-auth's; their refresh blocks."""

    def __init__(self, credentials: Any, *, clock: Callable[[], float] = monotonic) -> None:
        self._credentials = credentials
        self._clock = clock
        self._token: str | None = None
        self._good_until = 0.0
        self._refresh: asyncio.Task[str] | None = None
        self._failed: tuple[float, str] | None = None

    async def get(self) -> str:
        """A token that is good now; TokenUnavailable if there is none. Cancelling a caller stops no refresh."""
        left = self._good_until - self._clock()
        if self._token is not None and left > 0:
            if left < EARLY.total_seconds() and not self._paused():
                self._start()
            return self._token
        if reason := self._paused():
            raise TokenUnavailable(reason)
        return await asyncio.shield(self._start())

    def refuse(self, token: str) -> None:
        """FCM refused `token` (401): forget it, unless a newer one is here already."""
        if token == self._token:
            self._token = None

    async def close(self) -> None:
        """Wait for a refresh in flight, which TIMEOUT bounds."""
        if self._refresh is not None:
            await asyncio.wait([self._refresh])

    def _paused(self) -> str | None:
        if self._failed and self._clock() - self._failed[0] < PAUSE.total_seconds():
            return self._failed[1]
        return None

    def _start(self) -> asyncio.Task[str]:
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.create_task(self._fetch())
            # Seen here so that a background refresh that fails is no "exception was never retrieved".
            self._refresh.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._refresh

    async def _fetch(self) -> str:
        asked_at = self._clock()
        try:
            token, lifetime = await asyncio.to_thread(self._refresh_blocking)
        except FAILURES as error:
            reason = f"{type(error).__name__}: {error}"[:300]
            self._failed = (self._clock(), reason)
            raise TokenUnavailable(reason) from error
        self._token, self._good_until, self._failed = token, asked_at + lifetime.total_seconds(), None
        return token

    def _refresh_blocking(self) -> tuple[str, timedelta]:
        """Let google-auth ask, with its own retries but within TIMEOUT (its default is 120 s a try)."""
        deadline = monotonic() + TIMEOUT.total_seconds()
        with requests.Session() as session:
            session.trust_env = False  # no proxy, no .netrc
            ask = Request(session=session)

            def bounded(*args: Any, **kwargs: Any) -> Any:
                left = deadline - monotonic()
                if left <= 0:
                    raise TimeoutError("the token endpoint took too long")
                return ask(*args, **{**kwargs, "timeout": left, "allow_redirects": False})

            self._credentials.refresh(bounded)
        if not self._credentials.token:
            raise ValueError("the token endpoint's answer has no access_token")
        if self._credentials.expiry is None:
            return str(self._credentials.token), 2 * EARLY
        # `expiry` is naive UTC, made from our clock just now: the difference is the lifetime, right or wrong clock.
        return str(self._credentials.token), self._credentials.expiry - datetime.now(UTC).replace(tzinfo=None)
