"""Web Push against a push service of our own, down to the decrypted message and the checked signature."""

from __future__ import annotations

import json
import os
import socket
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import time
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from py_vapid import Vapid02
from yarl import URL

from notifier.channels.desktop.endpoint import AllowedHosts, GlobalAddresses
from notifier.channels.desktop.vapid import EARLY, LIFE, REMEMBERED, Vapid, load_key
from notifier.channels.desktop.webpush import BY_STATUS, WebPush
from notifier.channels.http import Http
from notifier.channels.options import WebPushOptions
from notifier.domain.errors import SettingsInvalid
from notifier.domain.notification import Priority
from notifier.domain.outcome import AddressGone, Outcome, Permanent, Sent, Throttled, Transient, Unknown
from tests.notifier.channels.servers import (
    DESKTOP,
    SECOND,
    TAG,
    Browser,
    a_message,
    a_vapid_key,
    http_server,
    raw_server,
    read_request,
    reset,
    unused_port,
)

Handler = Callable[[web.Request], Awaitable[web.Response]]


def a_webpush(folder: Path, *hosts: str, tag_requests: bool = False) -> WebPush:
    return WebPush(
        WebPushOptions(vapid_private_key_file=a_vapid_key(folder), allowed_hosts=hosts, tag_requests=tag_requests)
    )


async def send_one(folder: Path, base: str, *, allowed: str | None = None, **message: Any) -> Outcome:
    """One message to a new browser whose push service is at `base`."""
    webpush = a_webpush(folder, allowed or base)
    target = Browser().subscription(f"{base}/push/1")
    try:
        return await webpush.send(a_message(DESKTOP, target, **message), timeout=5 * SECOND)
    finally:
        await webpush.close()


def answers(status: int, body: str = "", **headers: str) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers=headers)

    return answer


def claims(authorization: str) -> dict[str, Any]:
    assert Vapid02.verify(authorization)
    payload = authorization.split("t=")[1].split(",")[0].split(".")[1]
    read: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return read


async def test_a_message_arrives_readable_signed_and_with_its_life(tmp_path: Path) -> None:
    browser, seen = Browser(), []

    async def push_service(request: web.Request) -> web.Response:
        seen.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        return web.Response(status=201, headers={"Location": "/message/1"})

    async with http_server(push_service) as base:
        webpush = a_webpush(tmp_path, base, tag_requests=True)
        target = browser.subscription(f"{base}/push/a%2Fb?x=%3d")
        message = a_message(DESKTOP, target, ttl=timedelta(seconds=90.7))
        assert await webpush.send(message, timeout=5 * SECOND) == Sent("/message/1")
        await webpush.close()
    [(method, path, headers, body)] = seen
    assert (method, path) == ("POST", "/push/a%2Fb?x=%3d")
    assert browser.decrypt(body) == {
        "title": "Payment received",
        "body": "12.50 EUR",
        "url": "https://acme.example/p/1",
        "tag": TAG,
        "data": {"order": "991"},
    }
    assert headers["Content-Encoding"] == "aes128gcm"
    assert (headers["TTL"], headers["Urgency"], headers["Topic"]) == ("90", "high", TAG)
    assert (headers["X-Notifier-Delivery"], headers["X-Notifier-Attempt"]) == ("42", "1")
    assert headers["X-Notifier-Worker"] == str(os.getpid())
    signed = claims(headers["Authorization"])
    assert signed["aud"] == base
    assert signed["sub"] == "mailto:notifier@example.com"
    assert 0 < signed["exp"] - time() < 24 * 3600
    assert f"k={webpush.public_key}" in headers["Authorization"]


async def test_a_bulk_message_with_no_life_left_still_has_a_valid_request_and_no_tags(tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    async def push_service(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(status=201)

    async with http_server(push_service) as base:
        await send_one(tmp_path, base, priority=Priority.BULK, ttl=timedelta(seconds=-3))
    assert (seen[0]["TTL"], seen[0]["Urgency"]) == ("1", "normal")
    assert not [name for name in seen[0] if name.startswith("X-Notifier")]


@pytest.mark.parametrize(("held", "expected"), BY_STATUS, ids=str)
async def test_each_status_means_what_the_table_says(tmp_path: Path, held: range, expected: Outcome) -> None:
    async with http_server(answers(held.start)) as base:
        outcome = await send_one(tmp_path, base)
    assert type(outcome) is type(expected)
    assert outcome.reason == expected.reason


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, Unknown), (201, Sent), (202, Sent), (204, Unknown), (302, Permanent), (400, Permanent), (401, Permanent),
     (403, Permanent), (404, AddressGone), (410, AddressGone), (413, Permanent), (418, Permanent), (429, Throttled),
     (500, Transient), (502, Transient), (503, Transient), (504, Transient)],
)  # fmt: skip
async def test_the_statuses_that_push_services_use(tmp_path: Path, status: int, kind: type[Outcome]) -> None:
    async with http_server(answers(status)) as base:
        assert isinstance(await send_one(tmp_path, base), kind)


@pytest.mark.parametrize("mark", ["Location", "TTL", "X-WNS-Status", "apns-id"])
async def test_a_200_counts_if_it_is_marked_as_a_push_services(tmp_path: Path, mark: str) -> None:
    async with http_server(answers(200, **{mark: "60"})) as base:
        assert isinstance(await send_one(tmp_path, base), Sent)


async def test_a_web_page_in_place_of_an_answer_is_unknown(tmp_path: Path) -> None:
    async with http_server(answers(200, "<html>Welcome", **{"Content-Type": "text/html"})) as base:
        assert isinstance(await send_one(tmp_path, base), Unknown)


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_passed_on(tmp_path: Path, status: int) -> None:
    async with http_server(answers(status, **{"Retry-After": "120"})) as base:
        outcome = await send_one(tmp_path, base)
    assert isinstance(outcome, Throttled | Transient)
    assert outcome.retry_after == timedelta(minutes=2)


async def test_a_redirect_to_our_own_network_is_not_followed(tmp_path: Path) -> None:
    followed: list[str] = []

    async def inside(request: web.Request) -> web.Response:
        followed.append(request.path)
        return web.Response(status=201)

    async with http_server(inside) as target, http_server(answers(302, Location=f"{target}/secret")) as base:
        outcome = await send_one(tmp_path, base)
    assert isinstance(outcome, Permanent)
    assert outcome.reason == "redirected"
    assert followed == []


async def test_an_endpoint_that_is_no_longer_allowed_is_not_called(tmp_path: Path) -> None:
    called: list[str] = []

    async def push_service(request: web.Request) -> web.Response:
        called.append(request.path)
        return web.Response(status=201)

    async with http_server(push_service) as base:
        outcome = await send_one(tmp_path, base, allowed="fcm.googleapis.com")
    assert isinstance(outcome, Permanent)
    assert outcome.reason == "endpoint_forbidden"
    assert called == []


class Rebinding(AbstractResolver):
    """A DNS that first tells the truth and then says 127.0.0.1."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002
    ) -> list[ResolveResult]:
        address = "8.8.8.8" if not self.told else "127.0.0.1"
        self.told.append(address)
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        self.told.clear()


async def test_a_name_that_comes_to_mean_our_own_network_is_not_connected_to() -> None:
    connected: list[str] = []

    async def inside(request: web.Request) -> web.Response:
        connected.append(request.path)
        return web.Response(status=201)

    async with http_server(inside) as base:
        port = int(base.rsplit(":", 1)[1])
        dns = Rebinding()
        await dns.resolve("push.example", port)  # what a check before the call would have seen
        allowed = AllowedHosts.parse([f"push.example:{port}"])
        http = Http(connections=1, resolver=lambda: GlobalAddresses(allowed, dns))
        answer = await http.request("POST", URL(f"http://push.example:{port}/x"), headers={}, timeout=5 * SECOND)
        await http.close()
    assert isinstance(answer, Transient)
    assert "public internet" in str(answer.detail)
    assert connected == []


async def test_a_reset_after_the_request_is_unknown_and_a_refused_connection_is_not(tmp_path: Path) -> None:
    async def slam(reader: Any, writer: Any) -> None:
        await read_request(reader)
        reset(writer)

    async with raw_server(slam) as port:
        assert isinstance(await send_one(tmp_path, f"http://127.0.0.1:{port}"), Unknown)
    assert isinstance(await send_one(tmp_path, f"http://127.0.0.1:{await unused_port()}"), Transient)


async def test_a_subscription_with_broken_keys_is_refused_for_good(tmp_path: Path) -> None:
    webpush = a_webpush(tmp_path, "push.example")
    target = replace(Browser().subscription("https://push.example/1"), auth="AAAA")
    outcome = await webpush.send(a_message(DESKTOP, target), timeout=SECOND)
    assert isinstance(outcome, Permanent)
    assert outcome.reason == "subscription_invalid"
    await webpush.close()


def test_the_signature_is_made_once_per_origin_until_shortly_before_its_end() -> None:
    now = 1_790_000_000.0
    vapid = Vapid(ec.generate_private_key(ec.SECP256R1()), "mailto:ops@acme.example", clock=lambda: now)
    first = vapid.header("https://a.example")
    assert vapid.header("https://b.example") != first
    now += (LIFE - EARLY).total_seconds() - 1
    assert vapid.header("https://a.example") == first
    now += 2
    second = vapid.header("https://a.example")
    assert second != first
    assert claims(second)["exp"] == int(now + LIFE.total_seconds())


def test_many_origins_do_not_fill_the_memory() -> None:
    vapid = Vapid(ec.generate_private_key(ec.SECP256R1()), "mailto:ops@acme.example")
    for number in range(REMEMBERED + 10):
        vapid.header(f"https://push{number}.example")
    assert len(vapid._headers) <= REMEMBERED


@pytest.mark.parametrize(
    "content", [None, b"", b"rubbish", b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----"]
)
def test_a_key_file_that_is_none_is_refused_with_the_settings_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsInvalid, match="NOTIFIER_VAPID_PRIVATE_KEY_FILE"):
        load_key(path)
    assert path.exists() is (content is not None)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_a_key_of_another_kind_is_refused(tmp_path: Path, key: Any) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(SettingsInvalid, match="P-256"):
        load_key(path)


def test_an_unset_key_and_a_subject_that_is_no_contact_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="NOTIFIER_VAPID_PRIVATE_KEY_FILE"):
        WebPush(WebPushOptions())
    with pytest.raises(SettingsInvalid, match="NOTIFIER_VAPID_SUBJECT"):
        WebPush(WebPushOptions(vapid_private_key_file=a_vapid_key(tmp_path), vapid_subject="the ops team"))


@pytest.mark.parametrize(
    ("endpoint", "destination"),
    [
        ("https://fcm.googleapis.com/fcm/send/abc:def", "fcm.googleapis.com"),
        ("https://FCM.googleapis.com:443/wp/x", "fcm.googleapis.com"),
        ("https://push.example:8443/x", "push.example:8443"),
        ("http://127.0.0.1:8025/webpush/x?y=https://other.example/", "127.0.0.1:8025"),
        ("https://[2001:db8::1]:8443/x", "[2001:db8::1]:8443"),
        ("https://wns2-par02p.notify.windows.com/w/?token=BQYA", "wns2-par02p.notify.windows.com"),
        ("https://push.example", "push.example"),
        ("no endpoint", ""),
    ],
)
async def test_a_push_service_is_its_endpoints_host_and_port(endpoint: str, destination: str, tmp_path: Path) -> None:
    provider = a_webpush(tmp_path)
    assert provider.destination(Browser().subscription(endpoint)) == destination
    await provider.close()
