"""A small Google for the tests of the push channel: a token endpoint and FCM v1."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from notifier.channels.options import FcmOptions
from notifier.channels.push.fcm import Fcm
from notifier.domain.outcome import Outcome
from tests.notifier.channels.servers import SECOND, a_push, a_service_account, http_server


@dataclass
class Google:
    """What it was asked, and what it is to answer."""

    url: str = ""
    token_requests: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    tokens_given: int = 0
    token_status: int = 200
    token_body: str | None = None
    token_delay: float = 0.0
    lifetime: int = 3600
    #: Statuses of the next answers of FCM; 200 when there are none left.
    statuses: list[int] = field(default_factory=list)
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    accepts: str | None = None

    async def answer(self, request: web.Request) -> web.Response:
        return await (self._token(request) if request.path == "/token" else self._message(request))

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        claims = str(form["assertion"]).split(".")[1]
        self.token_requests.append(json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4))))
        if self.token_delay:
            await asyncio.sleep(self.token_delay)
        if self.token_body is not None:
            return web.Response(status=self.token_status, text=self.token_body)
        self.tokens_given += 1
        token = {"access_token": f"token-{self.tokens_given}", "expires_in": self.lifetime, "token_type": "Bearer"}
        return web.json_response(token, status=self.token_status)

    async def _message(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        token = request.headers["Authorization"].removeprefix("Bearer ")
        if self.accepts is not None and token != self.accepts:
            return web.json_response({"error": {"code": 401, "status": "UNAUTHENTICATED"}}, status=401)
        status = self.statuses.pop(0) if self.statuses else 200
        if isinstance(self.body, bytes | str):
            return web.Response(status=status, body=self.body, headers=self.headers)
        if status == 200:
            self.messages.append(await request.json())
            name = f"projects/acme-push/messages/{len(self.messages)}"
            return web.json_response({"name": name} if self.body is None else self.body)
        return web.json_response(self.body or {}, status=status, headers=self.headers)

    def fcm(self, folder: Path, *, tag_worker: bool = False, concurrency: int = 8) -> Fcm:
        path = folder / "account.json"
        path.write_text(json.dumps(a_service_account(f"{self.url}/token")))
        return Fcm(
            FcmOptions(service_account_file=path, endpoint_url=self.url, tag_worker=tag_worker, concurrency=concurrency)
        )

    async def send_one(self, folder: Path) -> Outcome:
        fcm = self.fcm(folder)
        try:
            return await fcm.send(a_push(), timeout=5 * SECOND)
        finally:
            await fcm.close()


@asynccontextmanager
async def a_google(**how: Any) -> AsyncIterator[Google]:
    """Google on loopback, answering `how` it is told to."""
    google = Google(**how)
    async with http_server(google.answer) as google.url:
        yield google
