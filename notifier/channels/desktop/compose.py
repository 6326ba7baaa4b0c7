"""A desktop notification as the service worker gets it: one JSON object."""

from __future__ import annotations

from notifier.channels.json_bytes import json_bytes
from notifier.domain.content import DesktopContent

#: The most that fits one record of a push message: 4096 − 86 (header) − 17 (delimiter, tag). RFC 8291 §4
LIMIT_BYTES = 3993

_LONGEST_TAG = "f" * 32


def compose(content: DesktopContent, *, tag: str) -> bytes:
    """`{"title", "body", "url", "icon", "tag", "data"}`, without what is not set.

    `tag` is for the Notifications API: a notification with the same tag replaces the first.
    """
    shown = {"title": content.title, "body": content.body, "url": content.url, "icon": content.icon, "tag": tag}
    payload = {key: value for key, value in shown.items() if value is not None}
    return json_bytes({**payload, "data": dict(content.data)})


def size_bytes(content: DesktopContent) -> int:
    """How much of LIMIT_BYTES the message will take."""
    return len(compose(content, tag=_LONGEST_TAG))
