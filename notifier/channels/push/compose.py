"""A phone notification in FCM's words (HTTP v1, projects.messages)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from notifier.channels.contract import Message
from notifier.channels.json_bytes import json_bytes
from notifier.domain.content import PushContent
from notifier.domain.notification import Priority
from notifier.domain.recipient import Device

#: What FCM takes, notification and data together.
LIMIT_BYTES = 4096

#: The longest that FCM keeps a message for a phone that is off: four weeks.
LONGEST_TTL = timedelta(weeks=4)

#: The longest that our own data fields can become.
_OURS = {"delivery_id": "9" * 19, "attempt": "999", "worker_pid": "9" * 10}

_ANDROID_PRIORITY = {Priority.URGENT: "HIGH", Priority.BULK: "NORMAL"}
_APNS_PRIORITY = {Priority.URGENT: "10", Priority.BULK: "5"}
_URGENCY = {Priority.URGENT: "high", Priority.BULK: "normal"}


def size_bytes(content: PushContent) -> int:
    """How much of LIMIT_BYTES the message will take: as JSON, with our own fields at their longest."""
    return len(json_bytes({"notification": _notification(content), "data": {**_data(content), **_OURS}}))


def compose(message: Message, *, now: datetime | None = None, worker_pid: int | None = None) -> dict[str, Any]:
    """The `message` of an FCM v1 request.

    Life and tag travel with it: past its `ttl` no phone shows it, and a repeat replaces the first on
    the screen (`notification.tag` on Android, `apns-collapse-id` on iOS, `Topic` in browsers).
    """
    content, target = message.content, message.target
    assert isinstance(content, PushContent)
    assert isinstance(target, Device)
    seconds = life_seconds(message.ttl)
    ours = {"delivery_id": str(message.delivery_id), "attempt": str(message.attempt)}
    if worker_pid is not None:
        ours["worker_pid"] = str(worker_pid)
    expires = int((now or datetime.now(UTC)).timestamp()) + seconds
    webpush: dict[str, Any] = {
        "headers": {"TTL": str(seconds), "Urgency": _URGENCY[message.priority], "Topic": message.tag},
        "notification": {"tag": message.tag},
    }
    if content.url and content.url.startswith("https://"):  # FCM refuses any other link
        webpush["fcm_options"] = {"link": content.url}
    return {
        "token": target.token,
        "notification": _notification(content),
        "data": {**_data(content), **ours},
        "android": {
            "ttl": f"{seconds}s",
            "priority": _ANDROID_PRIORITY[message.priority],
            "notification": {"tag": message.tag},
        },
        "apns": {
            "headers": {
                "apns-expiration": str(expires),
                "apns-priority": _APNS_PRIORITY[message.priority],
                "apns-collapse-id": message.tag,
            }
        },
        "webpush": webpush,
    }


def life_seconds(ttl: timedelta) -> int:
    """Whole seconds of life for a provider: at least one, at most four weeks."""
    return max(1, int(min(ttl, LONGEST_TTL).total_seconds()))


def _notification(content: PushContent) -> dict[str, str]:
    shown = {"title": content.title, "body": content.body}
    return {**shown, "image": content.image} if content.image else shown


def _data(content: PushContent) -> dict[str, str]:
    return {**content.data, "url": content.url} if content.url else dict(content.data)
