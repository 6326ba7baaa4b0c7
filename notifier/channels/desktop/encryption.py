"""Message encryption for Web Push (RFC 8291: aes128gcm with a key agreed with the browser)."""

from __future__ import annotations

import binascii
import hmac
import os
import re
from base64 import urlsafe_b64decode

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from notifier.domain.errors import AddressInvalid
from notifier.domain.recipient import Subscription

RECORD_SIZE = 4096

_BASE64URL = re.compile(r"[A-Za-z0-9_+/-]+={0,2}", re.ASCII)


def validate_subscription(subscription: Subscription) -> None:
    """AddressInvalid unless `p256dh` is a point on P-256 and `auth` has 16 bytes. The endpoint is not looked at."""
    _keys(subscription)


def encrypt(plaintext: bytes, subscription: Subscription) -> bytes:
    """The body of a push request: header and one record. AddressInvalid if the keys are none."""
    browser_key, auth = _keys(subscription)
    return encrypt_with(
        plaintext, browser_key, auth, ephemeral=ec.generate_private_key(ec.SECP256R1()), salt=os.urandom(16)
    )


def encrypt_with(
    plaintext: bytes,
    browser_key: ec.EllipticCurvePublicKey,
    auth: bytes,
    *,
    ephemeral: ec.EllipticCurvePrivateKey,
    salt: bytes,
) -> bytes:
    """`encrypt` with its two random values given, so that it can be held against RFC 8291 appendix A."""
    ours, theirs = _raw(ephemeral.public_key()), _raw(browser_key)
    secret = ephemeral.exchange(ec.ECDH(), browser_key)
    key_material = _hkdf(auth, secret, b"WebPush: info\x00" + theirs + ours, 32)
    key = _hkdf(salt, key_material, b"Content-Encoding: aes128gcm\x00", 16)
    nonce = _hkdf(salt, key_material, b"Content-Encoding: nonce\x00", 12)
    record = AESGCM(key).encrypt(nonce, plaintext + b"\x02", None)
    return salt + RECORD_SIZE.to_bytes(4, "big") + len(ours).to_bytes(1, "big") + ours + record


def _keys(subscription: Subscription) -> tuple[ec.EllipticCurvePublicKey, bytes]:
    point, auth = _decoded(subscription.p256dh, "p256dh"), _decoded(subscription.auth, "auth")
    if len(auth) != 16:
        raise AddressInvalid("keys.auth must be 16 bytes, base64url (RFC 8291 §3.2).")
    if len(point) != 65 or point[0] != 4:
        raise AddressInvalid("keys.p256dh must be an uncompressed P-256 point of 65 bytes, base64url (RFC 8291 §3.1).")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point), auth
    except ValueError:
        raise AddressInvalid("keys.p256dh is not a point on the curve P-256.") from None


def _decoded(text: str, name: str) -> bytes:
    if not _BASE64URL.fullmatch(text):
        raise AddressInvalid(f"keys.{name} is not base64url.")
    try:
        bare = text.rstrip("=").replace("+", "-").replace("/", "_")
        return urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except binascii.Error:
        raise AddressInvalid(f"keys.{name} is not base64url.") from None


def _raw(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _hkdf(salt: bytes, key_material: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA-256 (RFC 5869) for up to 32 bytes: one round."""
    return hmac.digest(hmac.digest(salt, key_material, "sha256"), info + b"\x01", "sha256")[:length]
