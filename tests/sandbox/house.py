"""The providers' clients as teams use them (boto3, google-auth, http-ece, smtplib), pointed at one sandbox."""

from __future__ import annotations

import asyncio
import smtplib
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import boto3
import http_ece
import orjson
import requests
from botocore.config import Config
from cryptography.hazmat.primitives.asymmetric import ec
from google.auth.transport.requests import Request
from google.oauth2 import service_account
from py_vapid import Vapid02

from notifier.sandbox import Sandbox, start

if TYPE_CHECKING:
    from mypy_boto3_sesv2 import SESV2Client

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class House:
    """A sandbox, and everybody who calls it."""

    sandbox: Sandbox
    session: aiohttp.ClientSession
    data_dir: Path
    _token: str = field(default="", repr=False)

    # -- the sandbox's own routes --

    async def ask(
        self, method: str, path: str, *, json: Any = None, data: bytes | None = None, headers: Any = None
    ) -> Reply:
        url = path if path.startswith("http") else self.sandbox.url + path
        async with self.session.request(
            method, url, json=json, data=data, headers=headers, allow_redirects=False
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def ledger(self, **query: str | int) -> list[dict[str, Any]]:
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        items: list[dict[str, Any]] = (await self.ask("GET", f"/ledger?{asked}")).json["items"]
        return items

    async def entry(self, **query: str | int) -> dict[str, Any]:
        """The only entry that fits."""
        (entry,) = await self.ledger(**query)
        return entry

    async def summary(self) -> dict[str, Any]:
        said: dict[str, Any] = (await self.ask("GET", "/ledger/summary")).json
        return said

    async def inbox(self, channel: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.ask("GET", "/inbox.json")).json[channel]
        return items

    async def faults(self, *faults: Mapping[str, Any]) -> None:
        answer = await self.ask("PUT", "/faults", json={"faults": faults})
        assert answer.status == 200, answer.body

    async def restart(self) -> None:
        await self.sandbox.close()
        self.sandbox = await start(data_dir=self.data_dir)

    # -- the providers --

    async def ses(self, call: str, **arguments: Any) -> dict[str, Any]:
        """One call with boto3, in a thread; raises what boto3 raises."""

        def blocking() -> dict[str, Any]:
            with self._boto() as client:
                answer: dict[str, Any] = getattr(client, call)(**arguments)
                return answer

        return await asyncio.to_thread(blocking)

    @contextmanager
    def _boto(self) -> Iterator[SESV2Client]:
        client = boto3.client(
            "sesv2",
            region_name="eu-west-1",
            endpoint_url=self.sandbox.url,
            aws_access_key_id="sandbox",
            aws_secret_access_key="sandbox",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=1, connect_timeout=1),
        )
        try:
            yield client
        finally:
            client.close()

    async def mail(self, to: str = "ada@shop.example", *, delivery_id: int = 7, attempt: int = 1) -> dict[str, Any]:
        """A simple mail through SES."""
        return await self.ses(
            "send_email",
            FromEmailAddress="Acme <hello@acme.example>",
            Destination={"ToAddresses": [to]},
            Content={"Simple": {"Subject": {"Data": "Hi"}, "Body": {"Text": {"Data": "Hello."}}}},
            EmailTags=[
                {"Name": "delivery_id", "Value": str(delivery_id)},
                {"Name": "attempt", "Value": str(attempt)},
                {"Name": "worker_pid", "Value": "4711"},
            ],
        )

    async def fcm_token(self) -> str:
        """An access token, fetched by google-auth with the account that the sandbox gives out."""
        if not self._token:
            info = (await self.ask("GET", "/fcm/service-account.json")).json
            make: Any = service_account.Credentials.from_service_account_info  # has no types
            credentials = make(info, scopes=[SCOPE])

            def refresh() -> None:
                with requests.Session() as session:
                    credentials.refresh(Request(session))

            await asyncio.to_thread(refresh)
            assert credentials.token
            self._token = credentials.token
        return self._token

    async def fcm(self, message: dict[str, Any], *, token: str | None = None, **more: Any) -> Reply:
        token = token if token is not None else await self.fcm_token()
        return await self.ask(
            "POST",
            "/v1/projects/notifier-sandbox/messages:send",
            json={"message": message, **more},
            headers={"Authorization": f"Bearer {token}"},
        )

    async def push(self, device: str = "token-1", *, delivery_id: int = 7, tag: str = "t") -> Reply:
        return await self.fcm(
            {
                "token": device,
                "notification": {"title": "Hi", "body": "Hello."},
                "data": {"delivery_id": str(delivery_id), "attempt": "1", "worker_pid": "4711"},
                "android": {"ttl": "60s", "notification": {"tag": tag}},
            }
        )

    async def subscribe(self, **asked: Any) -> dict[str, Any]:
        said: dict[str, Any] = (await self.ask("POST", "/webpush/subscriptions", json=asked)).json
        return said

    async def webpush(
        self,
        subscription: Mapping[str, Any],
        plain: bytes = b'{"title": "Hi", "body": "Hello."}',
        *,
        url: str | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> Reply:
        """A push encrypted by http-ece; a header of None is left out."""
        sent = {
            "Authorization": vapid(self.sandbox.url),
            "Content-Encoding": "aes128gcm",
            "TTL": "60",
            "X-Notifier-Delivery": "7",
            "X-Notifier-Attempt": "1",
            "X-Notifier-Worker": "4711",
            **(headers or {}),
        }
        kept = {name: value for name, value in sent.items() if value is not None}
        body = encrypted(subscription, plain)
        return await self.ask("POST", url or subscription["endpoint"], data=body, headers=kept)

    async def smtp(self, to: str = "ada@shop.example", *, delivery_id: int = 7, html: str | None = None) -> None:
        """A mail through smtplib, in a thread; raises what smtplib raises."""
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "Acme <hello@acme.example>", to, "Grüße"
        mail["X-Notifier-Delivery"], mail["X-Notifier-Attempt"] = str(delivery_id), "2"
        mail["X-Notifier-Worker"] = "4711"
        mail.set_content("Hello.\n")
        if html:
            mail.add_alternative(html, subtype="html")

        def blocking() -> None:
            with smtplib.SMTP("127.0.0.1", self.sandbox.smtp_port, timeout=2) as client:
                client.send_message(mail)

        await asyncio.to_thread(blocking)


def encrypted(subscription: Mapping[str, Any], plain: bytes) -> bytes:
    """`plain` for a subscription, by http-ece."""
    body: bytes = http_ece.encrypt(
        plain,
        private_key=ec.generate_private_key(ec.SECP256R1()),
        dh=unpacked(subscription["keys"]["p256dh"]),
        auth_secret=unpacked(subscription["keys"]["auth"]),
        version="aes128gcm",
    )
    return body


def unpacked(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@lru_cache(maxsize=1)
def vapid_key() -> Vapid02:
    key = Vapid02()
    key.generate_keys()
    return key


def vapid(audience: str, **claims: Any) -> str:
    """An Authorization header signed by py-vapid."""
    signed = vapid_key().sign(
        {"aud": audience, "exp": int(time.time()) + 3600, "sub": "mailto:ops@acme.example", **claims}
    )
    header: str = signed["Authorization"]
    return header


async def eventually(condition: Callable[[], Awaitable[Any]], *, within: float = 60.0) -> None:
    """Wait until `condition` gives something, with a deadline."""
    async with asyncio.timeout(within):
        while not await condition():  # noqa: ASYNC110 - it is asked over HTTP
            await asyncio.sleep(0.01)
