"""SNS messages with SES events in them, signed by a key of our own as SNS would sign them."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

TOPIC = "arn:aws:sns:eu-west-1:123456789012:ses-events"
CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"
SUBSCRIBE_URL = f"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t0"


class Signer:
    """A key and its certificate."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now = datetime.now(UTC)
        built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.key.public_key())
        built = (
            built.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=9))
        )
        self.certificate = built.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def signed(self, fields: dict[str, str]) -> bytes:
        """The body of a POST: `fields` with a signature of the version that they name."""
        names = ["Message", "MessageId", "SubscribeURL", "Subject", "Timestamp", "Token", "TopicArn", "Type"]
        if fields["Type"] == "Notification":
            names = [name for name in names if name not in ("SubscribeURL", "Token")]
        text = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields)
        algorithm = {"1": hashes.SHA1, "2": hashes.SHA256}[fields["SignatureVersion"]]()
        signature = self.key.sign(text.encode(), PKCS1v15(), algorithm)
        return json.dumps(fields | {"Signature": b64encode(signature).decode()}).encode()

    def event(self, event: dict[str, Any], **changes: str) -> bytes:
        """A notification that brings an SES event."""
        return self.signed(a_notification(json.dumps(event), **changes))


@lru_cache(maxsize=1)
def the_signer() -> Signer:
    """One for all: RSA takes its time."""
    return Signer()


def a_notification(message: str = "{}", **changes: str) -> dict[str, str]:
    """The fields of a notification, just now."""
    return {
        "Type": "Notification",
        "MessageId": str(uuid4()),
        "TopicArn": TOPIC,
        "Subject": "Amazon SES Email Event Notification",
        "Message": message,
        "Timestamp": stamp(datetime.now(UTC)),
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE_URL,
        "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
    } | changes


def a_subscription(**changes: str) -> dict[str, str]:
    """The fields of SNS's question whether we want what a topic brings."""
    asked = a_notification("You have chosen to subscribe to the topic.", Type="SubscriptionConfirmation", Token="t0")
    del asked["Subject"], asked["UnsubscribeURL"]
    return asked | {"SubscribeURL": SUBSCRIBE_URL} | changes


def stamp(moment: datetime) -> str:
    """A moment as SNS writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def an_event(
    kind: str,
    delivery_id: int,
    *,
    attempt: int = 1,
    address: str = "ada@example.com",
    message_id: str = "m-1",
    **part: Any,
) -> dict[str, Any]:
    """An event as SES publishes it by a configuration set, about an attempt of a delivery."""
    people = [{"emailAddress": address, "status": "5.1.1", "diagnosticCode": f"smtp; 550 <{address}> unknown"}]
    parts: dict[str, dict[str, Any]] = {
        "Bounce": {"bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": people},
        "Complaint": {"complaintFeedbackType": "abuse", "complainedRecipients": [{"emailAddress": address}]},
        "Delivery": {"recipients": [address], "smtpResponse": "250 ok"},
    }
    return {
        "eventType": kind,
        "mail": {
            "timestamp": "2026-01-05T12:00:00.000Z",
            "messageId": message_id,
            "destination": [address],
            "tags": {"delivery_id": [str(delivery_id)], "attempt": [str(attempt)], "ses:configuration-set": ["x"]},
        },
        kind[:1].lower() + kind[1:]: {"timestamp": "2026-01-05T12:00:01.000Z"} | parts.get(kind, {}) | part,
    }
