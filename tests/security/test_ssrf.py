"""SSRF: an endpoint leads to a push service on the public internet, when it is given and when it is called."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from notifier.channels.desktop.endpoint import AllowedHosts, GlobalAddresses, check_endpoint, is_global
from notifier.channels.desktop.webpush import WebPush
from notifier.channels.http import Http
from notifier.channels.options import WebPushOptions
from notifier.domain.errors import EndpointForbidden
from notifier.domain.outcome import Permanent, Sent, Transient
from notifier.settings import Settings
from tests.notifier.api.asks import a_payment, a_subscription
from tests.notifier.channels.servers import (
    DESKTOP,
    SECOND,
    Browser,
    a_message,
    a_vapid_key,
    http_server,
    unused_port,
)
from tests.running import Running
from tests.security.corpus.addresses import ENDPOINTS, INSIDE, OUTSIDE

DEFAULT_HOSTS: tuple[str, ...] = Settings.model_fields["webpush_allowed_hosts"].default
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_no_notation_of_another_place_is_a_push_service(endpoint: str) -> None:
    with pytest.raises(EndpointForbidden):
        check_endpoint(endpoint, DEFAULT_HOSTS)


async def test_none_of_them_is_accepted_by_any_door(running: Running) -> None:
    """All in one batch of recipients and one of notifications: a refusal each, no row, no 5xx."""
    subscriptions = [a_subscription(endpoint) for endpoint in ENDPOINTS]
    known = [{"id": id, "subscriptions": [each]} for id, each in enumerate(subscriptions)]
    told = (await running.post("/v1/recipients/batch", {"recipients": known})).body
    sent = [a_payment(channels=["desktop"], recipient={"subscriptions": [each]}) for each in subscriptions]
    sent_told = (await running.post("/v1/notifications/batch", {"notifications": sent})).body
    for answers in (told, sent_told):
        assert len(answers["results"]) == len(ENDPOINTS)
        for endpoint, result in zip(ENDPOINTS, answers["results"], strict=True):
            assert result["error"]["status"] == 422, endpoint
    (rows,) = await running.sql("SELECT (SELECT count(*) FROM subscriptions) + (SELECT count(*) FROM notifications)")
    assert rows[0] == 0


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_known_for_one_in_every_form(address: str) -> None:
    assert not is_global(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_an_address_outside_is_taken(address: str) -> None:
    assert is_global(address)


class Dns(AbstractResolver):
    """Answers any name with these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=a, port=port, family=family, proto=0, flags=0) for a in self.addresses
        ]

    async def close(self) -> None:
        """It has nothing open."""


def a_webpush(folder: Path, *hosts: str) -> WebPush:
    return WebPush(WebPushOptions(vapid_private_key_file=a_vapid_key(folder), allowed_hosts=hosts, tag_requests=False))


def rebound(webpush: WebPush, host: str, *addresses: str) -> WebPush:
    """`webpush` on a day on which `host`, which is on its list, has come to mean `addresses`."""
    allowed = AllowedHosts.parse([host])
    webpush._http = Http(connections=4, resolver=lambda: GlobalAddresses(allowed, Dns(*addresses)))
    return webpush


async def test_a_push_service_whose_name_comes_to_mean_a_place_inside_is_not_connected_to(tmp_path: Path) -> None:
    """Every address inside, at once: the name was good at intake, and its resolver lies when the call is made."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        host = f"push.example:{listener.getsockname()[1]}"
        webpush = rebound(a_webpush(tmp_path, host), host, *INSIDE)
        message = a_message(DESKTOP, Browser().subscription(f"https://{host}/1"))
        outcome = await webpush.send(message, timeout=5 * SECOND)
        await webpush.close()
        with pytest.raises(BlockingIOError):  # nobody has knocked
            listener.accept()
    assert isinstance(outcome, Transient)
    assert "public internet" in str(outcome.detail)


async def test_a_name_with_one_address_outside_is_connected_to_there_only() -> None:
    resolver = GlobalAddresses(AllowedHosts.parse(["push.example"]), Dns(*INSIDE, "8.8.8.8"))
    assert [found["host"] for found in await resolver.resolve("push.example", 443)] == ["8.8.8.8"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_kind_of_redirect_is_followed(tmp_path: Path, status: int) -> None:
    asked: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, headers={"Location": f"http://{request.host}/inside"})

    async with http_server(redirect) as base:
        webpush = a_webpush(tmp_path, base)
        outcome = await webpush.send(a_message(DESKTOP, Browser().subscription(f"{base}/1")), timeout=5 * SECOND)
        await webpush.close()
    assert isinstance(outcome, Permanent)
    assert asked == ["/1"]


async def test_a_push_goes_straight_there_whatever_proxy_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would resolve the name itself, and the address that was checked would count for nothing."""
    nobody = f"http://127.0.0.1:{await unused_port()}"
    for name in PROXIES:
        monkeypatch.setenv(name, nobody)

    async def push_service(_: web.Request) -> web.Response:
        return web.Response(status=201)

    async with http_server(push_service) as base:
        webpush = a_webpush(tmp_path, base)
        outcome = await webpush.send(a_message(DESKTOP, Browser().subscription(f"{base}/1")), timeout=5 * SECOND)
        await webpush.close()
    assert isinstance(outcome, Sent)


def test_the_list_that_is_shipped_names_hosts_of_push_services_and_no_private_place() -> None:
    for entry in DEFAULT_HOSTS:
        assert urlsplit(entry).scheme == "", f"{entry}: plain http leads inside"
        assert not AllowedHosts.parse([entry]).allow_private(entry.removeprefix("*."), 443)
