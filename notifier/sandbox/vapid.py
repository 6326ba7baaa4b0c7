"""Who pushes? VAPID (RFC 8292), seen from the push service."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from time import time

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from notifier.sandbox.google_oauth import unpacked

LONGEST_LIFE_SECONDS = 24 * 3600
SKEW_SECONDS = 60
#: Headers that were verified once; a sender uses one for hours.
REMEMBERED = 1000

_PARAMETER = re.compile(r"\s*([a-z]+)\s*=\s*\"?([A-Za-z0-9._~+/=-]*)\"?\s*(?:,|$)", re.I)


class NoVapid(ValueError):
    """There is no VAPID in the request (401)."""


class BadVapid(ValueError):
    """The VAPID in the request is not good (403)."""


@dataclass(frozen=True, slots=True)
class Sender:
    """A verified signature: whose, for whom, until when."""

    key: str
    audience: str
    expires: float
    subject: str


class Doorkeeper:
    """Checks VAPID headers, each signature once."""

    def __init__(self) -> None:
        self._known: dict[str, Sender] = {}

    def check(self, header: str | None, audiences: Collection[str]) -> Sender:
        """Who sends; NoVapid or BadVapid says what is wrong."""
        if not header:
            raise NoVapid("Authorization is missing")
        sender = self._known.get(header)
        if sender is None:
            sender = _verified(header)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[header] = sender
        now = time()
        if sender.audience not in audiences:
            raise BadVapid(f"aud is {sender.audience!r} and must be one of {sorted(audiences)}")
        if sender.expires <= now:
            raise BadVapid("exp is past")
        if sender.expires > now + LONGEST_LIFE_SECONDS + SKEW_SECONDS:
            raise BadVapid("exp is more than 24 hours away")
        if not sender.subject.startswith(("mailto:", "https:")):
            raise BadVapid("sub must be a mailto: or https: URI")
        return sender


def _verified(header: str) -> Sender:
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "vapid":
        raise NoVapid("Authorization must be `vapid t=…, k=…`")
    parameters = {match[1].lower(): match[2] for match in _PARAMETER.finditer(rest)}
    token, key = parameters.get("t", ""), parameters.get("k", "").rstrip("=")
    try:
        signed, _, mark = token.rpartition(".")
        head, claims = (orjson.loads(unpacked(part)) for part in signed.split("."))
        signature = unpacked(mark)
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unpacked(key))
        if not isinstance(head, dict) or head.get("alg") != "ES256" or len(signature) != 64:
            raise BadVapid("alg must be ES256")
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        point.verify(encode_dss_signature(r, s), signed.encode(), ec.ECDSA(SHA256()))
    except BadVapid:
        raise
    except ValueError as error:
        raise BadVapid("t is no JWT, or k is no P-256 key") from error
    except InvalidSignature as error:
        raise BadVapid("the signature of t does not fit k") from error
    expires = claims.get("exp") if isinstance(claims, dict) else None
    if not isinstance(expires, int | float):
        raise BadVapid("exp is missing")
    return Sender(key, str(claims.get("aud")), float(expires), str(claims.get("sub", "")))
