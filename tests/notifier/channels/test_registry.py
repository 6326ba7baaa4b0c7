"""The table of providers, and the provider `sandbox`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from py_vapid import Vapid02

from notifier.channels import (
    FcmOptions,
    ProviderOptions,
    SandboxOptions,
    SesOptions,
    SmtpOptions,
    WebPushOptions,
    build,
)
from notifier.channels.registry import PROVIDERS
from notifier.domain.errors import SettingsInvalid
from notifier.domain.notification import Channel
from notifier.domain.outcome import Permanent, Sent, Transient
from tests.notifier.channels.servers import (
    DESKTOP,
    SECOND,
    Browser,
    a_mail,
    a_message,
    a_push,
    a_service_account,
    a_vapid_key,
    http_server,
    unused_port,
)

SENDER = "Acme <hello@acme.example>"


def options(*, sandbox: str | None = None, folder: Path | None = None) -> ProviderOptions:
    account = folder / "account.json" if folder else None
    if account:
        account.write_text(json.dumps(a_service_account("https://oauth2.example/token")))
    return ProviderOptions(
        ses=SesOptions(sender=SENDER),
        smtp=SmtpOptions(sender=SENDER, url="smtp://127.0.0.1:2525"),
        fcm=FcmOptions(service_account_file=account),
        webpush=WebPushOptions(vapid_private_key_file=a_vapid_key(folder) if folder else None),
        sandbox=SandboxOptions(sandbox),
    )


@pytest.mark.parametrize(("channel", "name"), PROVIDERS)
async def test_every_provider_of_the_table_is_built_with_its_name_and_channel(
    channel: Channel, name: str, tmp_path: Path
) -> None:
    provider = build(name, options(sandbox="http://127.0.0.1:8025", folder=tmp_path), channel)
    assert (provider.name, provider.channel) == (name, channel)
    assert provider.concurrency > 0
    await provider.close()


@pytest.mark.parametrize(("channel", "name"), [(Channel.EMAIL, "fcm"), (Channel.PUSH, "pigeon"), (Channel.DESKTOP, "")])
def test_an_unknown_provider_is_refused_with_those_that_are_known(channel: Channel, name: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"NOTIFIER_{channel.upper()}_PROVIDERS.*sandbox"):
        build(name, options(), channel)


@pytest.mark.parametrize("channel", list(Channel))
@pytest.mark.parametrize("url", [None, "", "127.0.0.1:8025", "http://"])
def test_a_sandbox_without_its_url_is_refused(channel: Channel, url: str | None) -> None:
    with pytest.raises(SettingsInvalid, match="NOTIFIER_SANDBOX_URL"):
        build("sandbox", options(sandbox=url), channel)


def test_secrets_do_not_show_in_a_printed_option() -> None:
    shown = repr(SmtpOptions(SENDER, url="smtps://u:hunter2@x.example")) + repr(
        SesOptions(SENDER, secret_access_key="hunter2")
    )
    assert "hunter2" not in shown


def test_whoever_sends_nothing_loads_no_client_library() -> None:
    code = "import sys, notifier.channels; print([m for m in ('boto3', 'pyfcm', 'aiosmtplib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


class Sandbox:
    """As much of the sandbox as a provider sees of it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append((request.path, dict(request.headers), await request.read()))
        if request.path == "/fcm/service-account.json":
            return web.json_response(a_service_account(f"{self.url}/fcm/token"))
        if request.path == "/fcm/token":
            return web.json_response({"access_token": "t", "expires_in": 3600})
        if request.path == "/v1/projects/acme-push/messages:send":
            return web.json_response({"name": "projects/acme-push/messages/1"})
        if request.path == "/v2/email/outbound-emails":
            return web.json_response({"MessageId": "m-1"})
        return web.Response(status=201 if request.path == "/webpush/relay" else 404)


async def test_test_mail_goes_to_the_sandbox() -> None:
    sandbox = Sandbox()
    async with http_server(sandbox.answer) as sandbox.url:
        provider = build("sandbox", options(sandbox=sandbox.url + "/"), Channel.EMAIL)
        assert await provider.send(a_mail(), timeout=5 * SECOND) == Sent("m-1")
        await provider.close()
    [(_, _, body)] = sandbox.seen
    assert {tag["Name"] for tag in json.loads(body)["EmailTags"]} == {"delivery_id", "attempt", "worker_pid"}


async def test_test_push_goes_to_the_sandbox_with_its_own_service_account_fetched_once() -> None:
    sandbox = Sandbox()
    async with http_server(sandbox.answer) as sandbox.url:
        provider = build("sandbox", options(sandbox=sandbox.url), Channel.PUSH)
        for _ in range(2):
            assert isinstance(await provider.send(a_push(), timeout=5 * SECOND), Sent)
        await provider.close()
    assert [path for path, _, _ in sandbox.seen].count("/fcm/service-account.json") == 1
    assert "worker_pid" in json.loads(sandbox.seen[-1][2])["message"]["data"]


@pytest.mark.parametrize("answer", [web.Response(status=500), "<html>", "{}", "[]", '{"project_id": "x"}'])
async def test_a_sandbox_without_a_usable_account_is_transient(answer: Any) -> None:
    async def broken(_request: web.Request) -> web.Response:
        return web.Response(status=500) if isinstance(answer, web.Response) else web.Response(text=answer)

    async with http_server(broken) as url:
        provider = build("sandbox", options(sandbox=url), Channel.PUSH)
        assert isinstance(await provider.send(a_push(), timeout=5 * SECOND), Transient)
        await provider.close()


@pytest.mark.parametrize("channel", list(Channel))
async def test_a_sandbox_that_is_down_is_transient(channel: Channel) -> None:
    provider = build("sandbox", options(sandbox=f"http://127.0.0.1:{await unused_port()}"), channel)
    desktop = a_message(DESKTOP, Browser().subscription("https://push.example/1"))
    message = {Channel.EMAIL: a_mail(), Channel.PUSH: a_push(), Channel.DESKTOP: desktop}[channel]
    assert isinstance(await provider.send(message, timeout=5 * SECOND), Transient)
    await provider.close()


async def test_a_test_desktop_message_goes_to_the_relay_and_never_to_its_endpoint() -> None:
    sandbox, browser = Sandbox(), Browser()
    async with http_server(sandbox.answer) as sandbox.url:
        provider = build("sandbox", options(sandbox=sandbox.url), Channel.DESKTOP)
        endpoint = f"{sandbox.url}/webpush/real/1"
        message = a_message(DESKTOP, browser.subscription(endpoint))
        assert isinstance(await provider.send(message, timeout=5 * SECOND), Sent)
        await provider.close()
    [(path, headers, body)] = sandbox.seen
    assert path == "/webpush/relay"
    assert headers["X-Sandbox-Endpoint"] == endpoint
    assert headers["X-Notifier-Delivery"] == "42"
    assert Vapid02.verify(headers["Authorization"])
    assert browser.decrypt(body)["title"] == "Payment received"


async def test_an_endpoint_that_would_break_the_relays_header_is_refused() -> None:
    provider = build("sandbox", options(sandbox=f"http://127.0.0.1:{await unused_port()}"), Channel.DESKTOP)
    target = Browser().subscription("https://push.example/1\r\nX-Evil: 1")
    assert isinstance(await provider.send(a_message(DESKTOP, target), timeout=SECOND), Permanent)
    await provider.close()
