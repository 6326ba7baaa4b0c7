"""Addresses to which nothing more is sent: remembered by a hash, so that the list names nobody."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime

from notifier.domain.notification import Channel

#: Why an address is on the list, in our own words; callers may give others. `erased` holds for whoever is not in the
#: directory (again), and ends when somebody is registered with that address.
ERASED, BOUNCED, COMPLAINED, BY_CALLER = "erased", "bounced", "complained", "by_caller"

#: Of these the strongest (the last) stays, in whatever order they come; a caller's own word they leave alone.
RANKED = (ERASED, BOUNCED, COMPLAINED)


@dataclass(frozen=True, slots=True)
class Suppression:
    """That nothing more is sent to an address, since when, and why: a short code, never a sentence."""

    reason: str
    created_at: datetime


class Hashes:
    """Makes the hashes that stand for addresses. With a key, who has the table alone cannot try addresses out."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    def of(self, channel: Channel, address: str) -> bytes:
        """What is written for an address. A mail address counts in lower case; tokens and endpoints as they are."""
        return self.all_of(channel, address)[0]

    def all_of(self, channel: Channel, address: str) -> tuple[bytes, ...]:
        """What an address may stand there as: also without the key, if the list was begun before there was one."""
        text = f"{channel}\0{address.lower() if channel is Channel.EMAIL else address}".encode()
        plain = hashlib.sha256(text).digest()
        return (plain,) if self._key is None else (hmac.digest(self._key, text, "sha256"), plain)
