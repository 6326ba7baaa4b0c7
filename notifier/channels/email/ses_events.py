"""What SES reports through SNS: JSON → ProviderEvent.

docs.aws.amazon.com/ses, "Contents of event data that Amazon SES publishes to Amazon SNS" (`eventType`, by a
configuration set, with our tags) and "… notification contents" (`notificationType`, of an identity, without
tags: there the delivery is read from the Message-ID that we had given, if headers are included).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parseaddr
from typing import Any

import orjson

from notifier.channels.email.sns import NOTIFICATION, SUBSCRIPTION, Sns
from notifier.domain.delivery import Status
from notifier.domain.feedback import ProviderEvent
from notifier.domain.notification import Channel
from notifier.observe import logs

log = logs.get(__name__)

_ID = re.compile(r"[0-9]{1,18}", re.ASCII)
#: `compose.message_id` of `compose.mail_tag`.
_MESSAGE_ID = re.compile(r"<?[0-9a-f]{32}\.([0-9]{1,18})@", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)
_DIAGNOSIS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", re.ASCII)

Fields = Mapping[str, Any]


class SesEvents:
    """Reads what SNS posts; answers its question whether we want to hear more."""

    def __init__(self, sns: Sns) -> None:
        self._sns = sns

    async def read(self, body: bytes, *, now: datetime) -> ProviderEvent | None:
        """What a genuine message reports of a delivery of ours; None if nothing. Errors as `Sns.read`."""
        message = await self._sns.read(body, now=now)
        if message.type == SUBSCRIPTION:
            await self._sns.confirm(message)
            log.info("ses_events_subscribed")
            return None
        if message.type != NOTIFICATION:
            log.warning("ses_events_unsubscribed", remedy="subscribe the endpoint to the topic again")
            return None
        try:
            event = parse(message.text)
        except (ValueError, TypeError, LookupError, AttributeError) as error:  # genuine, but not what we know
            log.warning("ses_event_unreadable", error=type(error).__name__)
            return None
        return event


def parse(text: str) -> ProviderEvent | None:
    """The event; None if it is about no delivery of ours, or tells nothing of its fate (opened, clicked)."""
    told = orjson.loads(text)
    kind = told.get("eventType") or told.get("notificationType")
    reader = _READERS.get(kind)
    if reader is None:
        return None
    mail = told["mail"]
    id, attempt = _delivery(mail)
    if id is None:
        return None
    part = told.get(kind[:1].lower() + kind[1:]) or {}
    told_of: dict[str, Any] = reader(part)
    moment = datetime.fromisoformat(part.get("timestamp") or mail["timestamp"])
    message_id = mail.get("messageId")
    return ProviderEvent(
        provider="ses",
        channel=Channel.EMAIL,
        delivery_id=id,
        attempt=attempt,
        message_id=message_id if isinstance(message_id, str) and len(message_id) <= 200 else None,
        reported_at=moment,
        **told_of,
    )


def _sent(code: str) -> Callable[[Fields], dict[str, Any]]:
    return lambda _: {"status": Status.SENT, "code": code}


def _delivered(_: Fields) -> dict[str, Any]:
    return {"status": Status.DELIVERED, "code": "delivery"}


def _bounced(bounce: Fields) -> dict[str, Any]:
    """Permanent: no such mailbox, or SES itself sends nothing there. Transient: full, too large, an auto-reply."""
    people = bounce.get("bouncedRecipients") or ()
    statuses = [str(one.get("status", "")) for one in people]
    return {
        "status": Status.BOUNCED,
        "code": f"bounce:{_word(bounce.get('bounceType'))}:{_word(bounce.get('bounceSubType'))}",
        "is_permanent": bounce.get("bounceType") == "Permanent",
        "addresses": _addresses(people),
        "diagnosis": next((status for status in statuses if _DIAGNOSIS.fullmatch(status)), None),
    }


def _complained(complaint: Fields) -> dict[str, Any]:
    kind = _word(complaint.get("complaintFeedbackType") or complaint.get("complaintSubType"))
    if kind == "not_spam":  # the reader has taken it out of the spam folder
        return {"status": Status.DELIVERED, "code": "complaint:not_spam"}
    people = complaint.get("complainedRecipients") or ()
    return {"status": Status.COMPLAINED, "code": f"complaint:{kind}", "addresses": _addresses(people)}


def _rejected(_: Fields) -> dict[str, Any]:
    """SES had taken it, and then found a virus: no fault of the address."""
    return {"status": Status.BOUNCED, "code": "reject"}


_READERS: Mapping[Any, Callable[[Fields], dict[str, Any]]] = {
    "Send": _sent("send"),
    "DeliveryDelay": _sent("delivery_delay"),
    "Delivery": _delivered,
    "Bounce": _bounced,
    "Complaint": _complained,
    "Reject": _rejected,
}


def _delivery(mail: Fields) -> tuple[int | None, int | None]:
    """Our delivery's id and attempt, by tags or by the Message-ID that the mail had when we gave it away."""
    tags = mail.get("tags") or {}
    id, attempt = (_number((tags.get(name) or [None])[0]) for name in ("delivery_id", "attempt"))
    if id is None:
        for header in mail.get("headers") or ():
            if str(header.get("name", "")).lower() == "message-id":
                match = _MESSAGE_ID.match(str(header.get("value", "")))
                id = int(match[1]) if match else None
    return id, attempt


def _number(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and _ID.fullmatch(text) else None


def _addresses(people: Any) -> tuple[str, ...]:
    """Whom it is about: bare, as SES gives them, or out of `Ada <ada@example.com>`."""
    found = (parseaddr(str(one.get("emailAddress", "")))[1] for one in people)
    return tuple(address for address in found if "@" in address and len(address) <= 320)


def _word(text: Any) -> str:
    """`OnAccountSuppressionList` → `on_account_suppression_list`; what is no word of a code is `other`."""
    if not isinstance(text, str) or not _WORD.fullmatch(text):
        return "other"
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower().replace("-", "_")
