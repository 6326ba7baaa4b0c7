"""A mail as it came (MIME, or SES's JSON), and what a reader would see of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses
from typing import Any

#: Our headers in a mail, by what they hold.
TAGS = {
    b"x-notifier-delivery": "delivery_id",
    b"x-notifier-attempt": "attempt",
    b"x-notifier-worker": "worker_pid",
}
_TAG_LINES = re.compile(rb"^(X-Notifier-(?:Delivery|Attempt|Worker)):[ \t]*([^\r\n]*?)[ \t]*\r?$", re.I | re.M)


@dataclass(slots=True)
class RawMail:
    """A mail as bytes (RFC 5322). `size_bytes` is what it weighs in the inbox."""

    raw: bytes
    tag: None = None

    @property
    def size_bytes(self) -> int:
        return len(self.raw)

    def shown(self) -> Mapping[str, Any]:
        mail = message_from_bytes(self.raw)
        return {
            "subject": _header(mail, "Subject"),
            "from": _header(mail, "From"),
            "to": _header(mail, "To"),
            "text": _body(mail, "text/plain"),
            "html": _body(mail, "text/html"),
            "message_id": _header(mail, "Message-ID"),
        }


@dataclass(slots=True)
class SimpleMail:
    """A mail as the JSON of SES gives it."""

    subject: str
    sender: str
    to: str
    text: str | None
    html: str | None
    tag: None = None

    @property
    def size_bytes(self) -> int:
        return len(self.subject) + len(self.text or "") + len(self.html or "")

    def shown(self) -> Mapping[str, Any]:
        return {
            "subject": self.subject,
            "from": self.sender,
            "to": self.to,
            "text": self.text,
            "html": self.html,
            "message_id": None,
        }


def head_of(raw: bytes) -> bytes:
    """The header section of a mail."""
    end = raw.find(b"\r\n\r\n")
    head = raw[:end] if end >= 0 else raw
    return head.partition(b"\n\n")[0]


def tags_of(raw: bytes) -> dict[str, str]:
    """delivery_id, attempt and worker_pid out of our headers, as far as they are there."""
    return {TAGS[name.lower()]: value.decode("ascii", "replace") for name, value in _TAG_LINES.findall(head_of(raw))}


def recipients_of(raw: bytes) -> list[str]:
    """The addresses in To, Cc and Bcc."""
    mail = message_from_bytes(head_of(raw) + b"\r\n\r\n")
    fields = [str(value) for name in ("To", "Cc", "Bcc") for value in mail.get_all(name, ())]
    return [address for _, address in getaddresses(fields) if address]


def _header(mail: Message, name: str) -> str:
    value = mail.get(name)
    if value is None:
        return ""
    try:
        text = str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, UnicodeError):
        text = str(value)  # broken on purpose or not: a reader's program shows it as it is
    return re.sub(r"[\r\n]+\s*", " ", text)


def _body(mail: Message, kind: str) -> str | None:
    for part in mail.walk():
        if part.get_content_type() == kind and part.get_content_disposition() != "attachment":
            payload = part.get_payload(decode=True)
            if isinstance(payload, bytes):
                return _decoded(payload, part.get_content_charset() or "utf-8")
    return None


def _decoded(payload: bytes, charset: str) -> str:
    try:
        return payload.decode(charset, "replace")
    except LookupError:
        return payload.decode("utf-8", "replace")
