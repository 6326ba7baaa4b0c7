"""A push service (RFC 8030), with VAPID (RFC 8292) and message encryption (RFC 8291).

Errors have the shape of Mozilla's autopush, whose numbers are documented
(mozilla-services.github.io/autopush-rs, "Error Codes").
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from random import getrandbits
from typing import Any
from urllib.parse import unquote

import orjson

from notifier.sandbox.browsers import BadSubscription, Browsers, CannotDecrypt
from notifier.sandbox.desk import Desk
from notifier.sandbox.http import Answer, Request
from notifier.sandbox.inbox import Note
from notifier.sandbox.plan import Call, Ending, Provider, Refusal, key_of, number
from notifier.sandbox.spoil import garbage_status
from notifier.sandbox.vapid import BadVapid, Doorkeeper, NoVapid

LIMIT_BYTES = 4096
URGENCIES = frozenset({"very-low", "low", "normal", "high"})
#: What a page may show of a push, when there is nothing to show.
NOTHING = dict.fromkeys(("title", "body", "url", "icon", "tag", "data"))
_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)

#: By status: autopush's errno, its name for it, and words.
ERRORS: dict[int, tuple[int, str, str]] = {
    400: (110, "Bad Request", "Invalid request"),
    401: (109, "Unauthorized", "Request did not validate: missing authorization header"),
    403: (109, "Forbidden", "Request did not validate: the sender may not push to this subscription"),
    404: (102, "Not Found", "No such subscription"),
    410: (106, "Gone", "The subscription is no longer valid"),
    413: (104, "Payload Too Large", "Data payload must be at most 4096 bytes"),
    429: (201, "Too Many Requests", "Too many requests"),
    503: (201, "Service Unavailable", "Use exponential back-off for retries"),
}


class Refused(Exception):
    """The push service says no before anybody asks what should come of the call."""

    def __init__(self, status: int, message: str, errno: int | None = None) -> None:
        self.answer = _refused(Refusal(status=status, message=message), errno=errno)


class WebPush:
    """The push service of one sandbox."""

    def __init__(self, desk: Desk, browsers: Browsers) -> None:
        self._desk = desk
        self._browsers = browsers
        self._doorkeeper = Doorkeeper()

    def subscribe(self, request: Request, base: str) -> Answer:
        """POST /webpush/subscriptions: what a browser's `pushManager.subscribe` gives, one or `count` of them."""
        try:
            asked = request.json() if request.body else {}
            match asked:
                case dict() if asked.keys() <= {"id", "count", "applicationServerKey"}:
                    id, count = asked.get("id"), asked.get("count")
                    sender = asked.get("applicationServerKey")
                case _:
                    raise BadSubscription("send an object with id, count and applicationServerKey, or nothing")
            for value, kind in ((id, str), (count, int), (sender, str)):
                if value is not None and type(value) is not kind:
                    raise BadSubscription("id and applicationServerKey are text, count is a number")
            issued = self._browsers.issue(base, id=id, count=count, sender=sender and sender.rstrip("="))
        except ValueError as error:
            return Answer.of({"message": str(error)}, 400)
        return Answer.of(issued[0] if count is None else {"subscriptions": issued}, 201)

    def push(self, request: Request, base: str, audiences: set[str]) -> Answer:
        """POST /webpush/{id}: a message for one subscription; read, if the subscription is one of ours."""
        id = unquote(request.path.removeprefix("/webpush/"))
        return self._take(request, f"{base}{request.path}", audiences, base, id=id, mode="direct")

    def relay(self, request: Request, base: str, audiences: set[str]) -> Answer:
        """POST /webpush/relay: a message for an endpoint elsewhere, which is not called. Nobody here can read it."""
        endpoint = request.header(b"x-sandbox-endpoint")
        if not endpoint:
            return _refused(Refusal(status=400, message="X-Sandbox-Endpoint is missing"))
        return self._take(request, endpoint, audiences, base, id=None, mode="relay")

    def _take(
        self, request: Request, endpoint: str, audiences: set[str], base: str, *, id: str | None, mode: str
    ) -> Answer:
        received = datetime.now(UTC)
        try:
            ttl, topic = self._check(request, audiences, id)
            text = self._read(request, id)
        except Refused as refused:
            return refused.answer
        details = {"ttl": ttl, "urgency": request.header(b"urgency") or "normal", "topic": topic}
        call = Call(
            Provider.WEBPUSH,
            endpoint,
            key_of(Provider.WEBPUSH, endpoint),
            received,
            request.header(b"x-notifier-delivery"),
            number(request.header(b"x-notifier-attempt")),
            number(request.header(b"x-notifier-worker")),
            mode,
            details,
        )
        plan = self._desk.plan(call)
        message_id = f"{getrandbits(128):032x}"
        if plan.refusal:
            answer = _refused(plan.refusal)
        else:
            answer = Answer(201, b"", "text/plain")
            answer.headers = {"Location": f"{base}/webpush/message/{message_id}", "TTL": str(ttl)}
        answer.plan = plan
        status = garbage_status(plan, answer.status) if plan.ending is Ending.GARBAGE else answer.status
        content = Note({**text, **details}, len(request.body), topic or text.get("tag"))
        location = answer.headers.get("Location")
        answer.seqs = (self._desk.enter(call, plan, status=status, message_id=location, content=content),)
        return answer

    def _check(self, request: Request, audiences: set[str], id: str | None) -> tuple[int, str | None]:
        """TTL and topic of a request that a push service would take; Refused otherwise."""
        try:
            sender = self._doorkeeper.check(request.header(b"authorization"), audiences)
        except NoVapid as error:
            raise Refused(401, str(error)) from None
        except BadVapid as error:
            raise Refused(403, str(error)) from None
        wanted = self._browsers.sender_of(id) if id else None
        if wanted is not None and wanted != sender.key:
            raise Refused(403, "VAPID public key mismatch")
        if len(request.body) > LIMIT_BYTES:
            raise Refused(413, f"Data payload must be at most {LIMIT_BYTES} bytes")
        ttl = request.header(b"ttl")
        if ttl is None:
            raise Refused(400, "Missing TTL header, see: https://www.rfc-editor.org/rfc/rfc8030#section-5.2", 111)
        if not _SECONDS.fullmatch(ttl):
            raise Refused(400, "Invalid TTL header", 112)
        if request.body and request.header(b"content-encoding") != "aes128gcm":
            raise Refused(400, "Content-Encoding must be aes128gcm", 110)
        if (request.header(b"urgency") or "normal") not in URGENCIES:
            raise Refused(400, "Invalid Urgency header")
        topic = request.header(b"topic")
        if topic is not None and not _TOPIC.fullmatch(topic):
            raise Refused(400, "Invalid Topic header: at most 32 characters of base64url", 113)
        return int(ttl), topic

    def _read(self, request: Request, id: str | None) -> dict[str, Any]:
        """What the browser's page would get."""
        if not request.body:
            return {**NOTHING, "encrypted": False}
        if id is None or not self._browsers.is_issued(id):
            return {**NOTHING, "encrypted": True, "size_bytes": len(request.body)}
        try:
            plain = self._browsers.decrypt(id, request.body)
        except CannotDecrypt as error:
            raise Refused(400, f"Cannot decrypt: {error}", 110) from None
        try:
            said = orjson.loads(plain)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            return {**NOTHING, "body": plain.decode("utf-8", "replace"), "encrypted": False}
        tag = said.get("tag")
        return {name: said.get(name) for name in NOTHING} | {
            "tag": tag if isinstance(tag, str) else None,
            "encrypted": False,
        }


def _refused(refusal: Refusal, *, errno: int | None = None) -> Answer:
    status = refusal.status or 400
    number, name, words = ERRORS.get(status, (999, refusal.error or "Error", "Refused"))
    said = {
        "code": status,
        "errno": errno or number,
        "error": refusal.error or name,
        "message": refusal.message or words,
        "more_info": "https://autopush.readthedocs.io/en/latest/http.html#error-codes",
    }
    answer = Answer.of(said, status)
    if refusal.retry_after is not None:
        answer.headers["Retry-After"] = refusal.retry_after
    if status == 401:
        answer.headers["WWW-Authenticate"] = "vapid"
    return answer
