"""The browsers that the sandbox plays: subscriptions it gives out, and the keys to read what is pushed to them.

A subscription's keys follow from its id and one secret, so that a million of them cost no memory and outlive a
restart; only the ids that were given out are kept.
"""

from __future__ import annotations

import hmac
import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from notifier.sandbox.google_oauth import write_secret

#: The order of the group of P-256 (SEC 2 §2.4.2): private keys are 1 … order - 1.
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ID = re.compile(r"[A-Za-z0-9._~+-]{1,120}", re.ASCII)
_RESERVED = frozenset({"subscriptions", "relay"})
MOST_AT_ONCE = 100_000


class BadSubscription(ValueError):
    """What was asked for cannot be given out."""


class CannotDecrypt(ValueError):
    """The body is not encrypted for this subscription (RFC 8291), or not well."""


@dataclass(frozen=True, slots=True)
class _Keys:
    private: ec.EllipticCurvePrivateKey
    public: bytes
    auth: bytes


class Browsers:
    """Every subscription of one sandbox."""

    def __init__(self, data_dir: Path) -> None:
        secret = data_dir / "webpush-secret"
        if not secret.exists():
            write_secret(secret, os.urandom(32))
        self._secret = secret.read_bytes()
        #: Id → the applicationServerKey that it was made for; None: any sender may push.
        self._issued: dict[str, str | None] = {}
        self._file = (data_dir / "subscriptions.ndjson").open("a+b")
        self._file.seek(0)
        for line in self._file:
            if line.endswith(b"\n"):
                self._issued.update(dict(orjson.loads(line)))

    def issue(self, base: str, *, id: str | None, count: int | None, sender: str | None) -> list[dict[str, Any]]:
        """New subscriptions as `PushSubscription.toJSON()` has them; with `count` their ids are `id-1` … `id-count`."""
        if count is not None and not 0 < count <= MOST_AT_ONCE:
            raise BadSubscription(f"count must be 1 to {MOST_AT_ONCE}")
        id = id if id is not None else os.urandom(12).hex()
        ids = [id] if count is None else [f"{id}-{number}" for number in range(1, count + 1)]
        if not _ID.fullmatch(ids[-1]) or id in _RESERVED:
            raise BadSubscription("id must be 1 to 120 letters, digits, dots, dashes, `_`, `~` or `+`")
        self._keep(ids, sender)
        return [self._as_json(base, each) for each in ids]

    def _keep(self, ids: Iterable[str], sender: str | None) -> None:
        given = dict.fromkeys(ids, sender)
        self._file.write(orjson.dumps(list(given.items())) + b"\n")
        self._file.flush()
        self._issued.update(given)

    def _as_json(self, base: str, id: str) -> dict[str, Any]:
        keys = self._keys(id)
        return {
            "endpoint": f"{base}/webpush/{id}",
            "expirationTime": None,
            "keys": {"p256dh": _packed(keys.public), "auth": _packed(keys.auth)},
        }

    def is_issued(self, id: str) -> bool:
        return id in self._issued

    def sender_of(self, id: str) -> str | None:
        """The only VAPID key that may push to `id`; None if any may."""
        return self._issued.get(id)

    def decrypt(self, id: str, body: bytes) -> bytes:
        """The plaintext that was pushed to `id`: aes128gcm (RFC 8188), one record, keys by RFC 8291 §3.4."""
        salt, size, length = body[:16], int.from_bytes(body[16:20], "big"), body[20] if len(body) > 20 else 0
        theirs, record = body[21 : 21 + length], body[21 + length :]
        if length != 65 or size < 18 or not 17 < len(record) <= size:
            raise CannotDecrypt("no aes128gcm header with a P-256 key and one record behind it")
        keys = self._keys(id)
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), theirs)
        except ValueError as error:
            raise CannotDecrypt("the sender's key is no point on P-256") from error
        secret = keys.private.exchange(ec.ECDH(), point)
        material = _hkdf(keys.auth, secret, b"WebPush: info\x00" + keys.public + theirs, 32)
        key = _hkdf(salt, material, b"Content-Encoding: aes128gcm\x00", 16)
        nonce = _hkdf(salt, material, b"Content-Encoding: nonce\x00", 12)
        try:
            padded = AESGCM(key).decrypt(nonce, record, None).rstrip(b"\x00")
        except InvalidTag as error:
            raise CannotDecrypt("not encrypted for this subscription") from error
        if not padded.endswith(b"\x02"):
            raise CannotDecrypt("the last record has no delimiter 0x02")
        return padded[:-1]

    def _keys(self, id: str) -> _Keys:
        wide = hmac.digest(self._secret, b"key " + id.encode(), "sha512")
        private = ec.derive_private_key(int.from_bytes(wide[:40], "big") % (_ORDER - 1) + 1, ec.SECP256R1())
        public = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return _Keys(private, public, hmac.digest(self._secret, b"auth " + id.encode(), "sha256")[:16])

    def close(self) -> None:
        self._file.close()


def _packed(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _hkdf(salt: bytes, material: bytes, info: bytes, length: int) -> bytes:
    return hmac.digest(hmac.digest(salt, material, "sha256"), info + b"\x01", "sha256")[:length]
