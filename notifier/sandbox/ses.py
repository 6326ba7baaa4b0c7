"""Amazon SES, API v2 (REST-JSON): SendEmail, SendBulkEmail, GetAccount.

Signatures are not checked: the keys are worth nothing. A refusal is `x-amzn-ErrorType` and `{"message": …}`
(smithy.io/2.0/aws/protocols/aws-restjson1-protocol, "Operation error serialization").
"""

from __future__ import annotations

from binascii import Error as BadBase64
from binascii import a2b_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import getrandbits
from time import time_ns
from typing import Any

from notifier.sandbox.desk import Desk
from notifier.sandbox.events import Events
from notifier.sandbox.http import Answer, Request
from notifier.sandbox.inbox import Content
from notifier.sandbox.mail import RawMail, SimpleMail, recipients_of, tags_of
from notifier.sandbox.plan import PLAIN, Call, Ending, Plan, Provider, Refusal, key_of, number, strictest
from notifier.sandbox.ses_template import filled
from notifier.sandbox.spoil import garbage_status

MOST_ADDRESSES = 50
LARGEST_BYTES = 40 * 1024 * 1024

#: By error name: HTTP status, words, and what SendBulkEmail calls it.
ERRORS: dict[str, tuple[int, str, str]] = {
    "BadRequestException": (400, "Bad request.", "INVALID_PARAMETER"),
    "MessageRejected": (400, "Message was rejected: simulated by the sandbox.", "MESSAGE_REJECTED"),
    "TooManyRequestsException": (429, "Maximum sending rate exceeded.", "ACCOUNT_THROTTLED"),
    "LimitExceededException": (400, "Daily message quota exceeded.", "ACCOUNT_DAILY_QUOTA_EXCEEDED"),
    "SendingPausedException": (400, "Sending is paused for this account.", "ACCOUNT_SENDING_PAUSED"),
    "AccountSuspendedException": (400, "Sending is suspended for this account.", "ACCOUNT_SUSPENDED"),
    "MailFromDomainNotVerifiedException": (
        400,
        "The MAIL FROM domain is not verified.",
        "MAIL_FROM_DOMAIN_NOT_VERIFIED",
    ),
    "NotFoundException": (404, "The resource does not exist.", "CONFIGURATION_SET_NOT_FOUND"),
    "InternalServiceErrorException": (500, "The service has had an internal error.", "TRANSIENT_FAILURE"),
    "InternalFailure": (500, "The service has had an internal error.", "TRANSIENT_FAILURE"),
    "ServiceUnavailable": (503, "The service is temporarily unavailable.", "TRANSIENT_FAILURE"),
}
_BY_STATUS = {
    400: "BadRequestException",
    403: "AccessDeniedException",
    404: "NotFoundException",
    408: "RequestTimeout",
    429: "TooManyRequestsException",
    500: "InternalServiceErrorException",
}


class BadRequest(ValueError):
    """What SES would answer with BadRequestException."""


@dataclass(slots=True)
class _Mail:
    """One message: to whom, what, and our tags."""

    addresses: list[str]
    content: Content
    tags: Mapping[str, str]
    mode: str


class Ses:
    """SES v2 of one sandbox. `send`, `send_bulk` and `account` answer one request each."""

    def __init__(self, desk: Desk, events: Events) -> None:
        self._desk = desk
        self._events = events

    def send(self, request: Request) -> Answer:
        """POST /v2/email/outbound-emails"""
        received = datetime.now(UTC)
        try:
            mail = _single(_object(request))
        except BadRequest as error:
            return _refused(Refusal(error="BadRequestException", message=str(error)))
        calls = _calls(mail, received)
        plan = strictest(map(self._desk.plan, calls))
        message_id = _message_id()
        answer = _refused(plan.refusal) if plan.refusal else _said({"MessageId": message_id})
        return self._enter(answer, plan, [(calls, plan, mail, message_id)])

    def send_bulk(self, request: Request) -> Answer:
        """POST /v2/email/outbound-bulk-emails: each entry has its own result.

        A hang, reset or nonsense for one entry is one for all: there is but one answer. So is a refusal
        (429, 5xx) that all entries share.
        """
        received = datetime.now(UTC)
        try:
            mails = _bulk(_object(request))
        except BadRequest as error:
            return _refused(Refusal(error="BadRequestException", message=str(error)))
        sendings = []
        for mail in mails:
            calls = _calls(mail, received)
            sendings.append((calls, strictest(map(self._desk.plan, calls)), mail, _message_id()))
        plans = [plan for _, plan, _, _ in sendings]
        whole = next((plan for plan in plans if plan.ending is not Ending.ANSWER), None)
        if whole:
            sendings = [(calls, whole, mail, message_id) for calls, _, mail, message_id in sendings]
        whole = replace(whole or PLAIN, delay=max(plan.delay for plan in plans))
        refusals = [plan.refusal for plan in plans]
        if (first := refusals[0]) and _is_for_all(first) and all(refusal == first for refusal in refusals):
            answer = _refused(first)
        else:
            answer = _said({"BulkEmailEntryResults": [_result(plan, id) for _, plan, _, id in sendings]})
        return self._enter(answer, whole, sendings)

    def account(self, _: Request) -> Answer:
        """GET /v2/email/account. The rate is the one that a fault script sets, if one does."""
        sent = self._desk.ledger.tally.summary()["by_provider"].get("ses", {}).get("accepted", 0)
        rates = [
            fault.spec.per_second for fault in self._desk.faults.faults if fault.spec.provider in ("ses", "*")
        ]  # None where it is no rate
        return _said(
            {
                "DedicatedIpAutoWarmupEnabled": False,
                "EnforcementStatus": "HEALTHY",
                "ProductionAccessEnabled": True,
                "SendingEnabled": True,
                "SendQuota": {
                    "Max24HourSend": 100_000_000.0,
                    "MaxSendRate": next((rate for rate in rates if rate), 5_000.0),
                    "SentLast24Hours": float(sent),
                },
                "SuppressionAttributes": {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]},
            }
        )

    def _enter(self, answer: Answer, plan: Plan, sendings: Sequence[tuple[list[Call], Plan, _Mail, str]]) -> Answer:
        """Write down each address of each message, then let the answer go by `plan`."""
        status = garbage_status(plan, answer.status) if plan.ending is Ending.GARBAGE else answer.status
        seqs: list[int] = []
        for calls, own, mail, message_id in sendings:
            its_status = _status(own.refusal) if own.refusal else status
            for index, call in enumerate(calls):
                seqs.append(
                    self._desk.enter(
                        call,
                        own,
                        status=its_status,
                        message_id=message_id,
                        content=mail.content if index == 0 else None,
                    )
                )
                if own.is_accepted:
                    self._events.report(call, message_id)
        answer.plan, answer.seqs = plan, tuple(seqs) if not plan.is_answered_at_once else ()
        return answer


def _object(request: Request) -> dict[str, Any]:
    try:
        body = request.json()
    except ValueError as error:
        raise BadRequest("The request body is not JSON.") from error
    if not isinstance(body, dict):
        raise BadRequest("The request body is not an object.")
    return body


def _single(body: dict[str, Any]) -> _Mail:
    content = _part(body, "Content")
    sender = str(body.get("FromEmailAddress") or "")
    destination = body.get("Destination") or {}
    addresses = _addresses(destination)
    tags = _tags(body.get("EmailTags"))
    match content:
        case {"Raw": {"Data": str(data)}}:
            raw = _decoded(data)
            addresses = addresses or recipients_of(raw)
            mail = _Mail(addresses, RawMail(raw), {**tags_of(raw), **tags}, "raw")
        case {"Simple": {"Subject": {"Data": str(subject)}, "Body": dict(parts)}}:
            text, html = _text(parts, "Text"), _text(parts, "Html")
            if text is None and html is None:
                raise BadRequest("Body must have Text or Html.")
            mail = _Mail(addresses, SimpleMail(subject, sender, ", ".join(addresses), text, html), tags, "simple")
        case {"Template": dict(template)}:
            subject, text, html = filled(template, {})
            mail = _Mail(addresses, SimpleMail(subject, sender, ", ".join(addresses), text, html), tags, "template")
        case _:
            raise BadRequest("Content must have exactly one of Simple, Raw and Template, with what it requires.")
    if not sender and mail.mode != "raw":
        raise BadRequest("FromEmailAddress is required.")
    _check_addresses(addresses)
    return mail


def _bulk(body: dict[str, Any]) -> list[_Mail]:
    template = _part(_part(body, "DefaultContent"), "Template")
    sender, default_tags = str(body.get("FromEmailAddress") or ""), _tags(body.get("DefaultEmailTags"))
    entries = body.get("BulkEmailEntries")
    if not isinstance(entries, list) or not 0 < len(entries) <= MOST_ADDRESSES or not sender:
        raise BadRequest(f"FromEmailAddress and 1 to {MOST_ADDRESSES} BulkEmailEntries are required.")
    mails = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise BadRequest("BulkEmailEntries must be objects.")
        addresses = _addresses(_part(entry, "Destination"))
        _check_addresses(addresses)
        tags = {**default_tags, **_tags(entry.get("ReplacementTags"))}
        own = (entry.get("ReplacementEmailContent") or {}).get("ReplacementTemplate") or {}
        subject, text, html = filled(template, own)
        headers = {h.get("Name", "").lower(): h.get("Value", "") for h in entry.get("ReplacementHeaders") or ()}
        named = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name.startswith("x-notifier-"))
        mail = SimpleMail(subject, sender, ", ".join(addresses), text, html)
        mails.append(_Mail(addresses, mail, {**tags_of(named.encode()), **tags}, "bulk"))
    return mails


def _part(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if not isinstance(value, dict):
        raise BadRequest(f"{name} is required and must be an object.")
    return value


def _text(parts: Mapping[str, Any], kind: str) -> str | None:
    if parts.get(kind) is None:
        return None
    text = _part(parts, kind).get("Data")
    if not isinstance(text, str):
        raise BadRequest(f"Body.{kind}.Data is required and must be text.")
    return text


def _addresses(destination: Any) -> list[str]:
    if not isinstance(destination, dict):
        raise BadRequest("Destination must be an object.")
    lists = [destination.get(name) or [] for name in ("ToAddresses", "CcAddresses", "BccAddresses")]
    return [_bare(str(address)) for addresses in lists for address in addresses]


def _bare(address: str) -> str:
    return address.rpartition("<")[2].rstrip("> ") if address.endswith(">") else address


def _check_addresses(addresses: Sequence[str]) -> None:
    if not 0 < len(addresses) <= MOST_ADDRESSES:
        raise BadRequest(f"A message must have 1 to {MOST_ADDRESSES} recipients.")
    for address in addresses:
        local, at, domain = address.rpartition("@")
        if not (local and at and domain) or not address.isprintable():
            raise BadRequest("Illegal address")


def _tags(given: Any) -> dict[str, str]:
    return {str(tag.get("Name")): str(tag.get("Value")) for tag in given or () if isinstance(tag, dict)}


def _decoded(data: str) -> bytes:
    try:
        raw = a2b_base64(data, strict_mode=True)
    except (BadBase64, ValueError) as error:  # ValueError: not even ASCII
        raise BadRequest("Raw.Data is not base64.") from error
    if len(raw) > LARGEST_BYTES:
        raise BadRequest("Message length is more than 41943040 bytes long.")
    return raw


def _calls(mail: _Mail, received: datetime) -> list[Call]:
    tags = mail.tags
    return [
        Call(
            Provider.SES,
            address,
            key_of(Provider.SES, address),
            received,
            tags.get("delivery_id"),
            number(tags.get("attempt")),
            number(tags.get("worker_pid")),
            mail.mode,
        )
        for address in mail.addresses
    ]


def _message_id() -> str:
    random = f"{getrandbits(128):032x}"
    parts = (random[:8], random[8:12], random[12:16], random[16:20], random[20:])
    return f"{time_ns() // 1_000_000:016x}-{'-'.join(parts)}-000000"


def _name(refusal: Refusal) -> str:
    status = refusal.status or 400
    return refusal.error or _BY_STATUS.get(status, "ServiceUnavailable" if status > 500 else "BadRequestException")


def _status(refusal: Refusal) -> int:
    return refusal.status or ERRORS.get(_name(refusal), (400,))[0]


def _is_for_all(refusal: Refusal) -> bool:
    return _status(refusal) == 429 or _status(refusal) >= 500


def _result(plan: Plan, message_id: str) -> dict[str, str]:
    if plan.refusal is None:
        return {"Status": "SUCCESS", "MessageId": message_id}
    _, words, status = ERRORS.get(_name(plan.refusal), (400, "Refused.", "FAILED"))
    return {"Status": status, "Error": plan.refusal.message or words}


def _said(said: dict[str, Any]) -> Answer:
    return Answer.of(said, headers={"x-amzn-RequestId": f"{getrandbits(128):032x}"})


def _refused(refusal: Refusal) -> Answer:
    name = _name(refusal)
    _, words, _ = ERRORS.get(name, (400, "Refused.", ""))
    answer = Answer.of({"message": refusal.message or words}, _status(refusal))
    answer.headers = {"x-amzn-RequestId": f"{getrandbits(128):032x}", "x-amzn-ErrorType": name}
    if refusal.retry_after is not None:
        answer.headers["Retry-After"] = refusal.retry_after
    return answer
