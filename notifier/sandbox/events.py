"""What SES reports later of a mail, as SNS would post it: signed, by a certificate of this sandbox's own.

Nobody but who pins that certificate (`events.pem` in the data directory) has a reason to believe it.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from notifier.sandbox.google_oauth import kept_key, write_secret
from notifier.sandbox.plan import Call
from notifier.sandbox.recipients import name_in

log = logging.getLogger("notifier.sandbox")

TOPIC = "arn:aws:sns:eu-west-1:000000000000:sandbox"
#: What follows `Send`, by simulated recipient; for all others it is a Delivery.
STORIES = {
    "bounced": ("Bounce",),
    "gone": ("Bounce",),
    "unregistered": ("Bounce",),
    "complaint": ("Delivery", "Complaint"),
}
#: Posts at once, tries of each, and seconds between two tries.
AT_ONCE, TRIES, WAIT = 16, 5, 1.0


class Events:
    """Posts what becomes of mails to `url`; to nobody if there is none."""

    def __init__(self, data_dir: Path, url: str | None) -> None:
        self._url = url
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        if url is not None:
            self._key = kept_key(data_dir / "events-key.pem")
            write_secret(data_dir / "events.pem", _certificate(self._key))

    def report(self, call: Call, message_id: str) -> None:
        """Tell in a while what became of a mail that was taken."""
        if self._url is None or call.delivery_id is None:
            return
        task = asyncio.get_running_loop().create_task(self._tell(self._url, call, message_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Tell nothing more."""
        for task in (left := list(self._tasks)):
            task.cancel()
        if left:
            await asyncio.wait(left)
        if self._session is not None:
            await self._session.close()

    async def _tell(self, url: str, call: Call, message_id: str) -> None:
        for kind in ("Send", *STORIES.get(name_in(call.provider, call.address) or "", ("Delivery",))):
            body = self._signed(_event(kind, call, message_id))
            async with self._places:
                await self._post(url, body)

    async def _post(self, url: str, body: bytes) -> None:
        """Until it is taken or refused for good, as SNS does it."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        for _ in range(TRIES):
            with suppress(aiohttp.ClientError, TimeoutError):
                headers = {"Content-Type": "text/plain; charset=UTF-8"}
                async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                    if answer.status != 429 and answer.status < 500:
                        if answer.status >= 300:
                            log.warning("an event was refused with %s", answer.status)
                        return
            await asyncio.sleep(WAIT)
        log.warning("an event was not taken")

    def _signed(self, event: dict[str, Any]) -> bytes:
        fields = {
            "Message": orjson.dumps(event).decode(),
            "MessageId": str(uuid4()),
            "Timestamp": _now(),
            "TopicArn": TOPIC,
            "Type": "Notification",
        }
        text = "".join(f"{name}\n{value}\n" for name, value in fields.items())
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return orjson.dumps(fields | {"SignatureVersion": "2", "Signature": b64encode(signature).decode()})


def _event(kind: str, call: Call, message_id: str) -> dict[str, Any]:
    person = {"emailAddress": call.address}
    parts: dict[str, dict[str, Any]] = {
        "Delivery": {"recipients": [call.address]},
        "Bounce": {
            "bounceType": "Permanent",
            "bounceSubType": "General",
            "bouncedRecipients": [person | {"status": "5.1.1"}],
        },
        "Complaint": {"complaintFeedbackType": "abuse", "complainedRecipients": [person]},
    }
    tags = {"delivery_id": [call.delivery_id], "attempt": [str(call.attempt)] if call.attempt is not None else []}
    mail = {
        "timestamp": call.received.isoformat(),
        "messageId": message_id,
        "destination": [call.address],
        "tags": tags,
    }
    return {"eventType": kind, "mail": mail, kind.lower(): {"timestamp": _now()} | parts.get(kind, {})}


def _certificate(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "notifier sandbox")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(x509.random_serial_number())
    built = built.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=365))
    return built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
