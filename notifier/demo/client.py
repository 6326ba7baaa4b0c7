"""The demo's callers: the service's HTTP API, and the sandbox's own side (ledger, subscriptions)."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from notifier.domain.errors import NotifierError


class Refusal(NotifierError):
    """The service answered with an error the demo did not expect."""

    code = "demo_failed"


class Client:
    """JSON over HTTP with one API key."""

    def __init__(self, api_url: str, sandbox_url: str, key: str) -> None:
        self._api_url = api_url
        self._sandbox_url = sandbox_url
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def post(self, path: str, body: Any, *, idempotency_key: str | None = None) -> Any:
        headers = self._headers | ({"Idempotency-Key": idempotency_key} if idempotency_key else {})
        return await self._call("POST", self._api_url + path, body, headers)

    async def get(self, path: str) -> Any:
        return await self._call("GET", self._api_url + path, None, self._headers)

    async def sandbox(self, method: str, path: str, body: Any = None) -> Any:
        return await self._call(method, self._sandbox_url + path, body, {"Content-Type": "application/json"})

    async def finished(self, id: str, *, within: float = 30) -> Any:
        """The notification `id` once every delivery of it has come to an end."""
        give_up = time.monotonic() + within
        while (shown := await self.get(f"/v1/notifications/{id}"))["status"] == "accepted":
            if time.monotonic() > give_up:
                raise Refusal(f"notification {id} is still under way after {within:g} s")
            await asyncio.sleep(0.05)
        return shown

    async def _call(self, method: str, url: str, body: Any, headers: dict[str, str]) -> Any:
        data = None if body is None else orjson.dumps(body)
        async with self._session.request(method, url, data=data, headers=headers) as answer:
            raw = await answer.read()
            if answer.status >= 400:
                raise Refusal(f"{method} {url}: {answer.status} {raw[:300].decode(errors='replace')}")
            return orjson.loads(raw) if raw else None
