"""Who we are, to push services: VAPID (RFC 8292), one signature per origin and half day."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from time import time

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from py_vapid import Vapid02, VapidException

from notifier.domain.errors import SettingsInvalid

#: At most 24 h are allowed (RFC 8292 §2); half of it leaves room for clocks that are wrong.
LIFE = timedelta(hours=12)
#: A header is signed anew this long before its end.
EARLY = timedelta(hours=1)
#: Origins remembered; `*.notify.windows.com` has many, an attacker's subscriptions could have more.
REMEMBERED = 1000


class Vapid:
    """Authorization headers for push services, signed with our key and remembered per origin."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, subject: str, *, clock: Callable[[], float] = time) -> None:
        self._signer = Vapid02(key)
        self._subject = subject
        self._clock = clock
        self._headers: dict[str, tuple[float, str]] = {}
        raw = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        #: What a page gives to `pushManager.subscribe` as `applicationServerKey`.
        self.public_key = urlsafe_b64encode(raw).rstrip(b"=").decode()
        try:
            self.header("https://push.example")
        except VapidException:
            raise SettingsInvalid(
                "NOTIFIER_VAPID_SUBJECT: must be a mailto: or https: address (for example mailto:ops@acme.example)."
            ) from None

    def header(self, origin: str) -> str:
        """`vapid t=…,k=…` for `origin` (scheme, host and port of the endpoint)."""
        now = self._clock()
        until, header = self._headers.get(origin, (0.0, ""))
        if until > now:
            return header
        if len(self._headers) >= REMEMBERED:
            self._headers.clear()
        claims = {"aud": origin, "exp": int(now + LIFE.total_seconds()), "sub": self._subject}
        signed: str = self._signer.sign(claims)["Authorization"]
        self._headers[origin] = (now + (LIFE - EARLY).total_seconds(), signed)
        return signed


def load_key(path: Path | None) -> ec.EllipticCurvePrivateKey:
    """The private key in `path`, PEM, P-256. SettingsInvalid says what is wrong with it."""
    setting = "NOTIFIER_VAPID_PRIVATE_KEY_FILE"
    if path is None:
        raise SettingsInvalid(f"{setting}: is not set, and the provider webpush needs it (a P-256 private key, PEM).")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsInvalid(f"{setting}: {path} is not a readable private key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SettingsInvalid(
            f"{setting}: {path} is not a P-256 key (openssl ecparam -name prime256v1 -genkey -noout)."
        )
    return key
