"""What people would see: the last mails, phone notifications and desktop notifications.

Kept as they came, and read only when somebody looks, so that a mass sending pays next to nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

from notifier.sandbox.plan import Call, Provider

CHANNELS = {Provider.SES: "email", Provider.SMTP: "email", Provider.FCM: "push", Provider.WEBPUSH: "desktop"}
KEPT = 200
KEPT_BYTES = 32 << 20


class Content(Protocol):
    """Something to look at. `tag` is what makes a later one take its place on the screen; None: nothing does."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def tag(self) -> str | None: ...

    def shown(self) -> Mapping[str, Any]: ...


@dataclass(slots=True)
class Note:
    """A phone or desktop notification. `text` is None when it is encrypted for keys that we do not have."""

    text: Mapping[str, Any]
    size_bytes: int
    tag: str | None = None

    def shown(self) -> Mapping[str, Any]:
        return self.text


class Item:
    """One thing in the inbox, with the call that brought it. `replaced` counts the repeats it took the place of."""

    def __init__(self, seq: int, call: Call, content: Content, replaced: int) -> None:
        self.seq = seq
        self.call = call
        self.content = content
        self.replaced = replaced

    @property
    def received(self) -> datetime:
        return self.call.received

    @cached_property
    def shown(self) -> Mapping[str, Any]:
        """The content as a person reads it."""
        return self.content.shown()

    def as_json(self) -> dict[str, Any]:
        call = self.call
        return {
            "seq": self.seq,
            "received": call.received,
            "provider": call.provider,
            "delivery_id": call.delivery_id,
            "attempt": call.attempt,
            "address": call.address,
            "target": call.target,
            "replaced": self.replaced,
            **self.shown,
        }


class Inbox:
    """The last KEPT items of each channel, at most KEPT_BYTES of them."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._items: dict[str, dict[object, Item]] = {channel: {} for channel in ("email", "push", "desktop")}
        self._sizes = dict.fromkeys(self._items, 0)
        self.version = 0

    def show(self, seq: int, call: Call, content: Content) -> None:
        """Put one on top. One with the same tag at the same address disappears, as it does on a screen."""
        channel = CHANNELS[call.provider]
        items = self._items[channel]
        key: object = (call.address, content.tag) if content.tag else seq
        previous = items.pop(key, None)
        if previous:
            self._sizes[channel] -= previous.content.size_bytes
        items[key] = Item(seq, call, content, previous.replaced + 1 if previous else 0)
        self._sizes[channel] += content.size_bytes
        self.version += 1
        while len(items) > KEPT or (self._sizes[channel] > KEPT_BYTES and len(items) > 1):
            oldest = items.pop(next(iter(items)))
            self._sizes[channel] -= oldest.content.size_bytes

    def newest_first(self, channel: str) -> Iterator[Item]:
        """The items of `email`, `push` or `desktop`."""
        return reversed(list(self._items[channel].values()))

    def mail(self, seq: int) -> Item | None:
        """The mail with this number in the ledger, if it is still here."""
        return self._items["email"].get(seq)

    def as_json(self) -> dict[str, Any]:
        return {channel: [item.as_json() for item in self.newest_first(channel)] for channel in self._items}
