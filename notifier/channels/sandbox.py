"""The provider `sandbox`: our real providers, pointed at the sandbox. Where test keys' messages go.

A test notification takes the same code as a live one up to the socket, so that what works here works
there; but no address of it is ever connected to.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from notifier.channels.desktop.endpoint import parse_endpoint
from notifier.channels.desktop.vapid import Vapid, load_key
from notifier.channels.desktop.webpush import Route, WebPush
from notifier.channels.email.ses import Ses
from notifier.channels.http import Answer, Http
from notifier.channels.options import FcmOptions, ProviderOptions, SesOptions, WebPushOptions
from notifier.channels.push.fcm import Fcm
from notifier.domain.errors import SettingsInvalid
from notifier.domain.outcome import Transient, Unknown
from notifier.domain.recipient import Subscription

NAME = "sandbox"


def email(options: ProviderOptions) -> Ses:
    """SES v2 at the sandbox, with keys that are worth nothing."""
    return Ses(
        SesOptions(
            sender=options.ses.sender,
            region=options.ses.region,
            endpoint_url=_url(options),
            access_key_id="sandbox",
            secret_access_key="sandbox",  # noqa: S106 - worth nothing on purpose
            timeout=options.ses.timeout,
            concurrency=options.ses.concurrency,
            tag_worker=True,
        ),
        name=NAME,
    )


def push(options: ProviderOptions) -> Fcm:
    """FCM at the sandbox, with the service account that it hands out."""
    base = _url(options)

    async def account(http: Http, timeout: timedelta) -> Mapping[str, Any] | Transient:
        answer = await http.request("GET", URL(f"{base}/fcm/service-account.json"), headers={}, timeout=timeout)
        match answer:
            case Answer(status=200, body=body):
                return _object(body)
            case Answer(status=status):
                return Transient("sandbox_has_no_service_account", detail=f"{status} {answer.excerpt}")
            case Unknown(detail=detail):  # asking for the account is no sending: nothing can have been taken
                return Transient("sandbox_unreachable", detail=detail)
        return answer

    return Fcm(
        FcmOptions(endpoint_url=base, concurrency=options.fcm.concurrency, tag_worker=True), name=NAME, account=account
    )


def desktop(options: ProviderOptions) -> WebPush:
    """Web Push with the real encryption, posted to the sandbox's relay in place of the endpoint."""
    relay = URL(f"{_url(options)}/webpush/relay")
    key_file = options.webpush.vapid_private_key_file
    key = load_key(key_file) if key_file else ec.generate_private_key(ec.SECP256R1())

    def route(subscription: Subscription) -> Route:
        endpoint = parse_endpoint(subscription.endpoint, None)
        return Route(relay, str(relay.origin()), {"X-Sandbox-Endpoint": str(endpoint)})

    return WebPush(
        WebPushOptions(concurrency=options.webpush.concurrency, tag_requests=True),
        name=NAME,
        vapid=Vapid(key, options.webpush.vapid_subject),
        route=route,
    )


def _url(options: ProviderOptions) -> str:
    url = options.sandbox.url
    if not url or not url.startswith(("http://", "https://")) or not URL(url).host:
        raise SettingsInvalid(
            "NOTIFIER_SANDBOX_URL: the provider sandbox needs the sandbox's URL (for example http://127.0.0.1:8025)."
        )
    return url.rstrip("/")


def _object(body: bytes) -> Mapping[str, Any] | Transient:
    try:
        account = orjson.loads(body)
    except ValueError as error:
        return Transient("sandbox_has_no_service_account", detail=str(error))
    return account if isinstance(account, dict) else Transient("sandbox_has_no_service_account")
