"""Messages of Amazon SNS as it posts them to an HTTPS endpoint: are they genuine?

docs.aws.amazon.com/sns, "Verifying the signatures of Amazon SNS messages": the signature (version 1:
SHA-1, 2: SHA-256, both RSA with PKCS #1 v1.5) is over some of the fields, and its certificate stands
at an address that the message itself gives. So that address is believed only if it is SNS's own in
the region of the topic, and the topic only if the operator has named it.
"""

from __future__ import annotations

import asyncio
import re
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from yarl import URL

from notifier.channels.http import Answer, Http
from notifier.domain.errors import BadJson, EventForged, Unavailable

#: SNS repeats a message for an hour (its limit for HTTPS), each time with the first moment; and our clock may be
#: ten minutes off.
OLDEST, NEWEST = timedelta(minutes=75), timedelta(minutes=15)

#: Certificates kept, and for how long; and how many requests may wait for one to be fetched.
KEPT = 16
KEPT_SECONDS = 86_400
MOST_WAITING = 8
FETCH_TIMEOUT = timedelta(seconds=5)
SMALLEST_KEY_BITS = 2048

_TOPIC = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z0-9-]{3,30}):[0-9]{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?", re.ASCII
)
_CERTIFICATE = re.compile(
    r"https://(sns\.[a-z0-9-]{3,}\.amazonaws\.com(?:\.cn)?)/SimpleNotificationService-[0-9a-f]+\.pem", re.ASCII
)
_ONE_LINE = re.compile(r"[^\r\n]*")

NOTIFICATION, SUBSCRIPTION, UNSUBSCRIPTION = "Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"
#: What is signed, in this order; a field that is not there is left out.
_SIGNED = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    SUBSCRIPTION: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    UNSUBSCRIPTION: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_HASHES = {"1": hashes.SHA1, "2": hashes.SHA256}

#: Gets what stands at a URL. Unavailable if nobody answers, EventForged if there is nothing of the kind.
Fetch = Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class SnsMessage:
    """A genuine message from one of our topics. `subscribe_url` is what confirms a subscription."""

    type: str
    topic: str
    text: str
    subscribe_url: str | None


class Sns:
    """Reads messages of these topics. With a `certificate` (PEM), that one is believed and none is fetched."""

    def __init__(self, topics: Sequence[str], *, fetch: Fetch, certificate: bytes | None = None) -> None:
        self._hosts = {topic: host_of(topic) for topic in topics}
        self._fetch = fetch
        self._pinned = None if certificate is None else key_of(certificate)
        self._keys: OrderedDict[str, tuple[float, RSAPublicKey]] = OrderedDict()
        self._fetching = asyncio.Lock()
        self._waiting = 0

    async def read(self, body: bytes, *, now: datetime) -> SnsMessage:
        """The message, if it is genuine; EventForged if not, Unavailable if that cannot be found out just now.

        The cheap questions come first: a stranger costs neither a signature nor a fetch.
        """
        fields = _fields(body)
        type, topic = fields.get("Type", ""), fields.get("TopicArn", "")
        if type not in _SIGNED or fields.get("SignatureVersion") not in _HASHES:
            raise EventForged("This is no signed message of SNS. (Raw message delivery must be off.)")
        if topic not in self._hosts:
            raise EventForged("This topic is not one of ours. NOTIFIER_SES_EVENTS_TOPICS names them.")
        _check_time(fields.get("Timestamp", ""), now)
        data = _signed(fields, type)
        key = self._pinned or await self._key(fields.get("SigningCertURL", ""), self._hosts[topic])
        try:
            signature = b64decode(fields.get("Signature", ""), validate=True)
            key.verify(signature, data, PKCS1v15(), _HASHES[fields["SignatureVersion"]]())
        except (InvalidSignature, ValueError):
            raise EventForged("The signature does not fit the message.") from None
        return SnsMessage(type, topic, fields["Message"], fields.get("SubscribeURL"))

    async def confirm(self, message: SnsMessage) -> None:
        """Tell SNS that we want what it offers, by the URL that it gave; only SNS's own is called."""
        url = message.subscribe_url or ""
        parts = urlsplit(url)
        asked = parse_qs(parts.query)
        is_right = asked.get("Action") == ["ConfirmSubscription"] and asked.get("TopicArn") == [message.topic]
        if url != f"https://{self._hosts[message.topic]}/?{parts.query}" or not is_right:
            raise EventForged("This is not where SNS confirms a subscription to the topic.")
        await self._fetch(url)

    async def _key(self, url: str, host: str) -> RSAPublicKey:
        match = _CERTIFICATE.fullmatch(url)
        # The pattern alone would take a bucket `sns` in an old S3 region (sns.s3-eu-west-1.amazonaws.com).
        if match is None or match[1] != host:
            raise EventForged("The certificate is not at SNS's address in the region of the topic.")
        if (key := self._kept(url)) is not None:
            return key
        if self._waiting >= MOST_WAITING:
            raise Unavailable("Too many certificates are being fetched; try again.", retry_after=5)
        self._waiting += 1
        try:
            async with self._fetching:
                if (key := self._kept(url)) is not None:
                    return key
                try:
                    key = key_of(await self._fetch(url))
                except ValueError:
                    raise EventForged("There is no certificate at the address of the certificate.") from None
        finally:
            self._waiting -= 1
        self._keys[url] = (time.monotonic() + KEPT_SECONDS, key)
        while len(self._keys) > KEPT:
            self._keys.popitem(last=False)
        return key

    def _kept(self, url: str) -> RSAPublicKey | None:
        until, key = self._keys.get(url, (0.0, None))
        return key if until > time.monotonic() else None


def host_of(topic: str) -> str:
    """Where SNS answers in the region of a topic; ValueError if the text names no topic."""
    match = _TOPIC.fullmatch(topic)
    if match is None:
        raise ValueError(f"{topic!r} is no ARN of an SNS topic")
    return f"sns.{match[2]}.amazonaws.com{'.cn' if match[1] == 'aws-cn' else ''}"


def key_of(certificate: bytes) -> RSAPublicKey:
    """The public key of a certificate (PEM); ValueError if it is none, or has no RSA key that is long enough."""
    try:
        key = x509.load_pem_x509_certificate(certificate).public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError(f"has a key of a kind that we do not know: {error}") from None
    if not isinstance(key, RSAPublicKey) or key.key_size < SMALLEST_KEY_BITS:
        raise ValueError(f"has no RSA key of {SMALLEST_KEY_BITS} bits or more")
    return key


class Fetcher:
    """Fetches over HTTPS: certificates are checked, redirects are not followed, bodies are short, time is too."""

    def __init__(self) -> None:
        self._http = Http(connections=2)

    async def __call__(self, url: str) -> bytes:
        answer = await self._http.request("GET", URL(url, encoded=True), headers={}, timeout=FETCH_TIMEOUT)
        if not isinstance(answer, Answer) or not answer.is_whole or answer.status >= 500 or answer.status == 429:
            raise Unavailable("SNS does not answer just now; try again.", retry_after=5)
        if answer.status != 200:
            raise EventForged("SNS knows nothing at the address that the message gives.")
        return answer.body

    async def close(self) -> None:
        await self._http.close()


def _fields(body: bytes) -> dict[str, str]:
    try:
        told: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadJson("The body is not JSON.") from None
    if not isinstance(told, dict):
        raise EventForged("This is no message of SNS.")
    return {name: value for name, value in told.items() if isinstance(value, str)}


def _check_time(timestamp: str, now: datetime) -> None:
    try:
        at = datetime.fromisoformat(timestamp)
        is_near = now - OLDEST <= at <= now + NEWEST
    except (ValueError, TypeError):  # no time, or one without an offset
        raise EventForged("The message has no time.") from None
    if not is_near:
        raise EventForged("The message is too old, or from the future.")


def _signed(fields: dict[str, str], type: str) -> bytes:
    """What the signature is over. Only `Message` may have line breaks: else a text could pass for two fields."""
    names = [name for name in _SIGNED[type] if name in fields]
    if missing := {*_SIGNED[type]} - {*names, "Subject"}:
        raise EventForged(f"The message has no {min(missing)}.")
    if any(name != "Message" and not _ONE_LINE.fullmatch(fields[name]) for name in names):
        raise EventForged("A field has a line break.")
    return "".join(f"{name}\n{fields[name]}\n" for name in names).encode()
