"""Firebase Cloud Messaging, HTTP v1: projects.messages.send.

Errors are Google's: `error.code`, `error.status`, and in `details` an FcmError with the `errorCode`
(firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from random import getrandbits
from time import time_ns
from typing import Any

import orjson

from notifier.sandbox.desk import Desk
from notifier.sandbox.google_oauth import PROJECT, Account
from notifier.sandbox.http import Answer, Request
from notifier.sandbox.inbox import Note
from notifier.sandbox.plan import Call, Ending, Provider, Refusal, key_of, number
from notifier.sandbox.spoil import garbage_status

#: What a message may weigh: notification and data.
LIMIT_BYTES = 4096

_FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"

#: By errorCode: HTTP status, canonical status, words.
ERRORS: dict[str, tuple[int, str, str]] = {
    "UNREGISTERED": (404, "NOT_FOUND", "Requested entity was not found."),
    "SENDER_ID_MISMATCH": (403, "PERMISSION_DENIED", "SenderId mismatch"),
    "QUOTA_EXCEEDED": (429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Messages' of this project."),
    "UNAVAILABLE": (503, "UNAVAILABLE", "The service is currently unavailable."),
    "INTERNAL": (500, "INTERNAL", "Internal error encountered."),
    "INVALID_ARGUMENT": (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "THIRD_PARTY_AUTH_ERROR": (401, "UNAUTHENTICATED", "Auth error from APNS or Web Push Service"),
}
#: Errors of the API in front of FCM: they have no errorCode.
API_ERRORS: dict[str, tuple[int, str, str]] = {
    "UNAUTHENTICATED": (
        401,
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
    ),
    "PERMISSION_DENIED": (403, "PERMISSION_DENIED", "Permission denied on resource project."),
    "NOT_FOUND": (404, "NOT_FOUND", "Requested entity was not found."),
}
#: What a fault script means that gives a status and no error.
_BY_STATUS = {status: code for code, (status, _, _) in ERRORS.items()} | {401: "UNAUTHENTICATED"}


class Fcm:
    """FCM of one sandbox."""

    def __init__(self, desk: Desk, account: Account) -> None:
        self._desk = desk
        self._account = account

    def send(self, request: Request) -> Answer:
        """POST /v1/projects/{project}/messages:send"""
        received = datetime.now(UTC)
        scheme, _, token = (request.header(b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not self._account.is_good(token):
            return _refused(Refusal(error="UNAUTHENTICATED"))
        project = request.path[len("/v1/projects/") : -len("/messages:send")]
        if project != PROJECT:
            return _refused(Refusal(error="PERMISSION_DENIED"))
        try:
            body = request.json()
        except ValueError:
            return _refused(Refusal(error="INVALID_ARGUMENT", message="Invalid JSON payload received."))
        message = body.get("message") if isinstance(body, dict) else None
        if not isinstance(message, dict):
            return _refused(Refusal(error="INVALID_ARGUMENT"), violation="message")
        if refused := _problem_of(message):
            return refused
        name = f"projects/{project}/messages/0:{time_ns() // 1000}%{getrandbits(64):016x}"
        if body.get("validate_only"):
            return Answer.of({"name": f"projects/{project}/messages/fake_message_id"})
        return self._carry(message, name, received)

    def _carry(self, message: dict[str, Any], name: str, received: datetime) -> Answer:
        data = message.get("data") or {}
        call = Call(
            Provider.FCM,
            message["token"],
            key_of(Provider.FCM, message["token"]),
            received,
            data.get("delivery_id"),
            number(data.get("attempt")),
            number(data.get("worker_pid")),
            "message",
        )
        plan = self._desk.plan(call)
        answer = _refused(plan.refusal) if plan.refusal else Answer.of({"name": name})
        answer.headers["Vary"] = "Origin, X-Origin, Referer"
        answer.plan = plan
        status = garbage_status(plan, answer.status) if plan.ending is Ending.GARBAGE else answer.status
        seq = self._desk.enter(call, plan, status=status, message_id=name, content=_note(message, data))
        answer.seqs = (seq,)
        return answer


def _problem_of(message: dict[str, Any]) -> Answer | None:
    """FCM's own refusal of a message that is not well made; None if it is."""
    token = message.get("token")
    if not token:
        return _refused(Refusal(error="INVALID_ARGUMENT", message="Recipient of the message is not set."))
    if not isinstance(token, str):
        return _refused(Refusal(error="INVALID_ARGUMENT"), violation="message.token")
    for part in ("data", "notification", "android", "apns", "webpush"):
        if not isinstance(message.get(part) or {}, dict):
            return _refused(Refusal(error="INVALID_ARGUMENT"), violation=f"message.{part}")
    data, notification = message.get("data") or {}, message.get("notification") or {}
    for index, (key, value) in enumerate(data.items()):
        if not isinstance(value, str):
            words = f"Invalid value at 'message.data[{index}].value' (TYPE_STRING), {value}"
            return _refused(Refusal(error="INVALID_ARGUMENT", message=words), violation=f"message.data[{index}].value")
        if key in ("from", "message_type", "collapse_key") or key.startswith(("google.", "gcm.")):
            words = f"Invalid data payload key: {key}"
            return _refused(Refusal(error="INVALID_ARGUMENT", message=words))
    if len(orjson.dumps({"notification": notification, "data": data})) > LIMIT_BYTES:
        words = "Message too big: notification and data may have 4096 bytes."
        return _refused(Refusal(error="INVALID_ARGUMENT", message=words))
    return None


def _note(message: dict[str, Any], data: Mapping[str, str]) -> Note:
    """What the phone shows: the notification; a repeat with the same tag takes its place."""
    notification = message.get("notification") or {}
    android = message.get("android") or {}
    shown = {
        "title": notification.get("title"),
        "body": notification.get("body"),
        "image": notification.get("image"),
        "url": data.get("url"),
        "data": data,
        "ttl": android.get("ttl"),
        "priority": android.get("priority"),
    }
    match android.get("notification"):
        case {"tag": str(tag)} if tag:
            return Note(shown, LIMIT_BYTES, tag)
    return Note(shown, LIMIT_BYTES)


def _refused(refusal: Refusal, *, violation: str | None = None) -> Answer:
    asked = refusal.status or 400
    code = refusal.error or _BY_STATUS.get(asked, "INTERNAL" if asked >= 500 else "INVALID_ARGUMENT")
    message, headers = refusal.message, {}
    if code == "INVALID_TOKEN":
        code = "INVALID_ARGUMENT"
        message = message or "The registration token is not a valid FCM registration token"
    status, canonical, words = ERRORS.get(code) or API_ERRORS.get(code) or (500, code, "Refused.")
    details: list[dict[str, Any]] = [{"@type": _FCM_ERROR, "errorCode": code}] if code in ERRORS else []
    if violation:
        # A body that does not fit the schema is refused in front of FCM, and has no errorCode.
        field = {"field": violation, "description": message or words}
        details = [{"@type": _BAD_REQUEST, "fieldViolations": [field]}]
    status = refusal.status or status
    error: dict[str, Any] = {"code": status, "message": message or words, "status": canonical}
    if details:
        error["details"] = details
    if refusal.retry_after is not None:
        headers["Retry-After"] = refusal.retry_after
    if code == "UNAUTHENTICATED":
        headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'
    return Answer(status, orjson.dumps({"error": error}), "application/json; charset=UTF-8", headers)
