"""Who calls us, and what they may do."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from enum import StrEnum

from notifier.domain.notification import Mode
from notifier.domain.tenant import Tenant


class Scope(StrEnum):
    SEND_URGENT = "send:urgent"
    SEND_BULK = "send:bulk"
    CAMPAIGNS = "campaigns"
    RECIPIENTS = "recipients"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """A service that showed a valid key: all it may see is its tenant's."""

    service_id: int
    service: str
    key_id: str
    scopes: frozenset[Scope]
    mode: Mode

    @property
    def tenant(self) -> Tenant:
        """Whose rows this key may see and change."""
        return Tenant(self.service_id, self.mode)

    def may(self, scope: Scope) -> bool:
        """Whether the key carries `scope`; `admin` carries them all."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


#: Live keys of one service at a time: the old one and the new one, while callers change over.
LIVE_KEYS = 2


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at the only moment when it can be read: `text` goes to its owner, `hash` into the table."""

    id: str
    text: str
    hash: bytes


def new_key(mode: Mode) -> NewKey:
    """A fresh key: 8 bytes of public id and 32 of secret, both random."""
    id = f"nk_{mode}_{secrets.token_hex(8)}"
    text = f"{id}.{secrets.token_urlsafe(32)}"
    return NewKey(id, text, key_hash(text))


def key_hash(text: str) -> bytes:
    """SHA-256 is enough here: the secret is 256 random bits, not a password to be guessed."""
    return hashlib.sha256(text.encode()).digest()


def key_id(text: str) -> str | None:
    """The public half of a key, or None if this does not look like one."""
    id, dot, secret = text.partition(".")
    return id if dot and secret and id.startswith("nk_") and len(text) <= 128 else None


def key_fits(text: str, stored: bytes) -> bool:
    """Whether `text` is the key of which `stored` is the hash; takes the same time either way."""
    return hmac.compare_digest(key_hash(text), stored)
