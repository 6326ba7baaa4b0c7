"""Web Push (RFC 8030), encrypted (RFC 8291) and signed (RFC 8292).

The answer means that the push service has the message, not that the browser has shown it. `Topic` is
the delivery's tag, so a repeat takes the first one's place while both wait there (RFC 8030 §5.4).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from yarl import URL

from notifier.channels.contract import Message
from notifier.channels.desktop.compose import compose
from notifier.channels.desktop.encryption import encrypt, validate_subscription
from notifier.channels.desktop.endpoint import (
    AllowedHosts,
    GlobalAddresses,
    check_endpoint,
    parse_endpoint,
    read_allowed_hosts,
)
from notifier.channels.desktop.vapid import Vapid, load_key
from notifier.channels.explained import explained
from notifier.channels.http import Answer, Http
from notifier.channels.options import WebPushOptions
from notifier.domain.content import DesktopContent
from notifier.domain.errors import AddressInvalid, EndpointForbidden
from notifier.domain.notification import Channel, Priority
from notifier.domain.outcome import AddressGone, Outcome, Permanent, Sent, Throttled, Transient, Unknown
from notifier.domain.recipient import Subscription, Target

__all__ = ["Route", "WebPush", "check_endpoint", "classify", "validate_subscription"]

MINUTE = timedelta(minutes=1)

#: The longest that push services keep a message: four weeks.
LONGEST_TTL = timedelta(weeks=4)

#: Headers that push services answer with (RFC 8030 §5.2; WNS; Apple). A 200 with none of them is somebody else's.
MARKS = ("Location", "TTL", "X-WNS-Status", "apns-id")

#: RFC 8030 §8.2 on how urgent a message is to a browser that saves power.
URGENCY = {Priority.URGENT: "high", Priority.BULK: "normal"}

#: What a push service's status means (RFC 8030 §5, §7, §8.4; RFC 8292 §4.2): the first row whose range holds it.
BY_STATUS: tuple[tuple[range, Outcome], ...] = (
    (range(201, 203), Sent()),
    # RFC 8030 knows no 200: see `_is_a_push_service`.
    (range(200, 300), Unknown("answer_malformed")),
    # Not followed (that would be SSRF by the back door), and it would be the same tomorrow.
    (range(300, 400), Permanent("redirected")),
    (range(401, 402), Permanent("vapid_refused")),
    (range(403, 404), Permanent("vapid_refused")),
    (range(404, 405), AddressGone("subscription_unknown")),
    (range(408, 409), Transient("provider_error")),
    (range(410, 411), AddressGone("subscription_gone")),
    (range(413, 414), Permanent("payload_too_large")),
    (range(429, 430), Throttled("rate_exceeded", timedelta(seconds=1))),
    (range(400, 500), Permanent("bad_request")),
    (range(503, 504), Transient("provider_unavailable")),
    (range(500, 600), Transient("provider_error")),
)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a message for a subscription is posted, for which audience it is signed, and with what more headers."""

    url: URL
    audience: str
    headers: Mapping[str, str] = field(default_factory=dict)


class WebPush:
    """Desktop notifications through the push service of each browser.

    `route` finds the way to a subscription; without one it is the subscription's own endpoint.
    """

    channel = Channel.DESKTOP

    def __init__(
        self,
        options: WebPushOptions,
        *,
        name: str = "webpush",
        vapid: Vapid | None = None,
        route: Callable[[Subscription], Route] | None = None,
    ) -> None:
        self.name = name
        self.concurrency = options.concurrency
        self._tag_requests = options.tag_requests
        self._vapid = vapid or Vapid(load_key(options.vapid_private_key_file), options.vapid_subject)
        if route is None:
            allowed = read_allowed_hosts(options.allowed_hosts)
            self._route: Callable[[Subscription], Route] = lambda subscription: _direct(subscription, allowed)
            self._http = Http(connections=options.concurrency, resolver=lambda: GlobalAddresses(allowed))
        else:
            self._route = route
            self._http = Http(connections=options.concurrency)

    @property
    def public_key(self) -> str:
        """`applicationServerKey` for `pushManager.subscribe` in the browser."""
        return self._vapid.public_key

    def destination(self, target: Target) -> str:
        """The push service's host and port: a 429 is the word of that server alone (RFC 8030 §8.4, RFC 6585 §4)."""
        assert isinstance(target, Subscription)
        return target.endpoint.partition("://")[2].partition("/")[0].lower().removesuffix(":443")

    async def send(self, message: Message, *, timeout: timedelta) -> Outcome:
        """Post one message. The endpoint is checked again: the list may be shorter than at intake."""
        assert isinstance(message.content, DesktopContent)
        assert isinstance(message.target, Subscription)
        try:
            route = self._route(message.target)
            body = encrypt(compose(message.content, tag=message.tag), message.target)
        except EndpointForbidden as error:
            return Permanent("endpoint_forbidden", error.detail)
        except AddressInvalid as error:
            return Permanent("subscription_invalid", error.detail)
        headers = {
            "Authorization": self._vapid.header(route.audience),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(max(1, int(min(message.ttl, LONGEST_TTL).total_seconds()))),
            "Urgency": URGENCY[message.priority],
            "Topic": message.tag,
            **route.headers,
        }
        if self._tag_requests:
            headers["X-Notifier-Delivery"] = str(message.delivery_id)
            headers["X-Notifier-Attempt"] = str(message.attempt)
            headers["X-Notifier-Worker"] = str(os.getpid())
        answer = await self._http.request("POST", route.url, headers=headers, body=body, timeout=timeout)
        return classify(answer) if isinstance(answer, Answer) else answer

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()


def classify(answer: Answer) -> Outcome:
    """The outcome that BY_STATUS gives for a push service's answer."""
    outcome = next((o for held, o in BY_STATUS if answer.status in held), Unknown("answer_malformed"))
    if isinstance(outcome, Sent) or (answer.status == 200 and _is_a_push_service(answer)):
        return Sent((answer.headers.get("Location") or "")[:500] or None)
    return explained(outcome, f"{answer.status} {answer.excerpt}".strip(), retry_after=answer.retry_after)


def _is_a_push_service(answer: Answer) -> bool:
    """Is this 200 a push service's way to say 201, and not a portal's or a proxy's way to say hello?"""
    return any(mark in answer.headers for mark in MARKS)


def _direct(subscription: Subscription, allowed: AllowedHosts) -> Route:
    url = parse_endpoint(subscription.endpoint, allowed)
    return Route(url, str(url.origin()))
