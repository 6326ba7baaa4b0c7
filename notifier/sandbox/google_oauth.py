"""Google's token endpoint, and the service account whose assertions it takes (RFC 7523, RS256).

The account's key is kept in the data directory, and tokens are signed rather than remembered, so both
outlive a restart.
"""

from __future__ import annotations

import binascii
import hmac
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import parse_qs

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from notifier.sandbox.http import Answer, Request

PROJECT = "notifier-sandbox"
EMAIL = f"firebase-adminsdk@{PROJECT}.iam.gserviceaccount.com"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
#: google-auth writes this as audience, whatever the account's `token_uri` is.
GOOGLE = "https://oauth2.googleapis.com/token"
SCOPES = (
    "https://www.googleapis.com/auth/firebase.messaging",
    "https://www.googleapis.com/auth/cloud-platform",
)
TOKEN_LIFE_SECONDS = 3600
#: Google allows an assertion to live an hour, and clocks to be off a little.
SKEW_SECONDS = 60


class InvalidGrant(ValueError):
    """The assertion is not good; the message is Google's `error_description`."""


class Account:
    """The service account, its key, and the tokens that it gets."""

    def __init__(self, data_dir: Path) -> None:
        self._key = kept_key(data_dir / "fcm-key.pem")
        pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._pem = pem.decode()
        self._secret = hmac.digest(pem, b"access tokens", "sha256")
        self._key_id = self._secret.hex()[:40]
        self._good_until: dict[str, float] = {}

    def as_json(self, base: str) -> dict[str, str]:
        """The file that a Google console would give, with this sandbox as token endpoint."""
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": self._key_id,
            "private_key": self._pem,
            "client_email": EMAIL,
            "client_id": "100000000000000000001",
            "auth_uri": f"{base}/o/oauth2/auth",
            "token_uri": f"{base}/token",
            "auth_provider_x509_cert_url": f"{base}/oauth2/v1/certs",
            "client_x509_cert_url": f"{base}/robot/v1/metadata/x509/{EMAIL.replace('@', '%40')}",
            "universe_domain": "googleapis.com",
        }

    def token(self, request: Request, audiences: Collection[str]) -> Answer:
        """POST /token: an assertion that we can verify for an access token."""
        form = parse_qs(request.body.decode("latin-1"))
        if form.get("grant_type") != [GRANT]:
            return _refused("unsupported_grant_type", f"Invalid grant_type: {(form.get('grant_type') or [''])[0]}")
        try:
            scope = self._verify((form.get("assertion") or [""])[0], audiences)
        except InvalidGrant as error:
            return _refused("invalid_grant", str(error))
        if not any(wanted in scope.split() for wanted in SCOPES):
            return _refused("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        said = {"access_token": self._new_token(), "expires_in": TOKEN_LIFE_SECONDS - 1, "token_type": "Bearer"}
        return Answer.of(said, headers={"Cache-Control": "private"})

    def is_good(self, token: str) -> bool:
        """Is this a token of ours that has not run out?"""
        until = self._good_until.get(token)
        if until is None:
            head, _, mark = token.rpartition(".")
            moment = head.removeprefix("ya29.").partition("-")[0]
            if not hmac.compare_digest(self._mark(head).encode(), mark.encode()) or not moment.isdigit():
                return False
            if len(self._good_until) >= 1000:
                self._good_until.clear()
            until = self._good_until[token] = float(moment)
        return until > time()

    def _verify(self, assertion: str, audiences: Collection[str]) -> str:
        """The scope that a good assertion asks for."""
        try:
            signed, _, signature = assertion.rpartition(".")
            header, claims = (orjson.loads(unpacked(part)) for part in signed.split("."))
            self._key.public_key().verify(unpacked(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise InvalidGrant("Invalid JWT Signature.") from None
        except ValueError:
            raise InvalidGrant("Bad Request: the assertion is no JWT.") from None
        if not isinstance(header, dict) or not isinstance(claims, dict) or header.get("alg") != "RS256":
            raise InvalidGrant("Invalid JWT: alg must be RS256.")
        if claims.get("iss") != EMAIL:
            raise InvalidGrant("Invalid grant: account not found")
        if claims.get("aud") not in {*audiences, GOOGLE}:
            raise InvalidGrant("Invalid JWT: Failed audience check.")
        self._check_times(claims.get("iat"), claims.get("exp"))
        return str(claims.get("scope", ""))

    @staticmethod
    def _check_times(issued: Any, expires: Any) -> None:
        now = time()
        if (
            not isinstance(issued, int | float)
            or not isinstance(expires, int | float)
            or issued > now + SKEW_SECONDS
            or expires < now - SKEW_SECONDS
            or expires - issued > TOKEN_LIFE_SECONDS + SKEW_SECONDS
        ):
            raise InvalidGrant(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
                "Check your iat and exp values in the JWT claim."
            )

    def _new_token(self) -> str:
        head = f"ya29.{int(time()) + TOKEN_LIFE_SECONDS}-{os.urandom(12).hex()}"
        return f"{head}.{self._mark(head)}"

    def _mark(self, head: str) -> str:
        return urlsafe_b64encode(hmac.digest(self._secret, head.encode(), "sha256")).rstrip(b"=").decode()


def unpacked(text: str) -> bytes:
    """base64url without padding (RFC 7515 §2); ValueError if it is none."""
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error


def _refused(error: str, description: str) -> Answer:
    return Answer.of({"error": error, "error_description": description}, 400)


def kept_key(path: Path) -> rsa.RSAPrivateKey:
    """The RSA key in a file, made when it is not there."""
    if path.exists():
        key = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError(f"{path} is not an RSA key; remove it, and a new one is made")
        return key
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    write_secret(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return made


def write_secret(path: Path, content: bytes) -> None:
    """A file for its owner only, whole or not at all."""
    half = path.with_suffix(".new")
    half.unlink(missing_ok=True)
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    half.rename(path)
