"""Firebase Cloud Messaging, HTTP v1: pyfcm's credentials and payload, our own call.

(pyfcm's `send_request` sleeps on Retry-After, retries a POST by itself and takes every 404 for a dead
token.) A token is given up only when FCM says so of the token itself: UNREGISTERED, or an
INVALID_ARGUMENT that names it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any

import orjson
from google.auth.exceptions import GoogleAuthError
from google.oauth2 import service_account
from pyfcm import FCMNotification
from yarl import URL

from notifier.channels.contract import Message
from notifier.channels.explained import explained
from notifier.channels.http import Answer, Http
from notifier.channels.options import FcmOptions
from notifier.channels.push.compose import compose
from notifier.channels.push.tokens import AccessTokens, TokenUnavailable
from notifier.domain.errors import SettingsInvalid
from notifier.domain.notification import Channel
from notifier.domain.outcome import AddressGone, Outcome, Permanent, Sent, Throttled, Transient, Unknown

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
MINUTE = timedelta(minutes=1)
#: A quota may be one device's. The message waits for the minute that FCM asks for; the account slows down.
QUOTA = Throttled("quota_exceeded", MINUTE, rest=timedelta(seconds=1))
CREDENTIALS_REFUSED = "credentials_refused"

#: By `error.details[].errorCode` (firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode).
BY_ERROR_CODE: dict[str, Outcome] = {
    "UNREGISTERED": AddressGone("unregistered"),
    "SENDER_ID_MISMATCH": Permanent("sender_id_mismatch"),
    "INVALID_ARGUMENT": Permanent("invalid_argument"),
    "QUOTA_EXCEEDED": QUOTA,
    "UNAVAILABLE": Transient("provider_unavailable"),
    "INTERNAL": Transient("provider_error"),
    # Our APNs key is missing or wrong at Firebase: for us to mend, and no fault of the token.
    "THIRD_PARTY_AUTH_ERROR": Transient("apns_credentials_refused", MINUTE),
}

#: Without a code that we know: by status, the first row whose range holds it.
BY_STATUS: tuple[tuple[range, Outcome], ...] = (
    (range(200, 300), Unknown("answer_malformed")),
    # An API does not redirect: what answers there is not FCM, and will not be tomorrow.
    (range(300, 400), Permanent("redirected")),
    (range(401, 402), Transient(CREDENTIALS_REFUSED, MINUTE)),
    (range(403, 404), Transient("permission_denied", MINUTE)),
    (range(404, 405), Permanent("not_found")),
    (range(408, 409), Transient("provider_error")),
    (range(429, 430), QUOTA),
    (range(400, 500), Permanent("invalid_argument")),
    (range(500, 600), Transient("provider_error")),
)


@dataclass(frozen=True, slots=True)
class _TokenRefused:
    """FCM refused our access token (401), and with it the message: not taken, so a second call is safe."""

    outcome: Outcome


class Fcm:
    """Push through FCM. `account` gives the service account's JSON when the first message is sent."""

    channel = Channel.PUSH

    def __init__(
        self,
        options: FcmOptions,
        *,
        name: str = "fcm",
        account: Callable[[Http, timedelta], Awaitable[Mapping[str, Any] | Transient]] | None = None,
    ) -> None:
        self.name = name
        self.concurrency = options.concurrency
        self._options = options
        self._worker_pid = os.getpid() if options.tag_worker else None
        self._http = Http(connections=options.concurrency)
        self._fetch_account = account
        self._project: _Project | None = None if account else _read_project(options)

    async def send(self, message: Message, *, timeout: timedelta) -> Outcome:
        """Send once; a second time only after a 401, which is a definite refusal, with a new token."""
        deadline = monotonic() + timeout.total_seconds()
        outcome = await self._try(message, deadline)
        if isinstance(outcome, _TokenRefused):
            outcome = await self._try(message, deadline)
        return outcome.outcome if isinstance(outcome, _TokenRefused) else outcome

    async def _try(self, message: Message, deadline: float) -> Outcome | _TokenRefused:
        """One call, or none if there is no token for it in time."""
        try:
            async with asyncio.timeout(deadline - monotonic()):
                project = await self._the_project(timedelta(seconds=deadline - monotonic()))
                if isinstance(project, Transient):
                    return project
                token = await project.tokens.get()
        except TokenUnavailable as error:
            return Transient("token_unavailable", detail=str(error))
        except TimeoutError:
            return Transient("token_timeout")
        try:
            body = project.payload(compose(message, worker_pid=self._worker_pid))
        except UnicodeEncodeError as error:
            return Permanent("payload_unreadable", str(error))
        answer = await self._http.request(
            "POST",
            project.url,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            body=body,
            timeout=timedelta(seconds=max(deadline - monotonic(), 0.001)),
        )
        if not isinstance(answer, Answer):
            return answer
        outcome = classify(answer)
        if outcome.reason == CREDENTIALS_REFUSED:
            project.tokens.refuse(token)
            return _TokenRefused(outcome)
        return outcome

    async def _the_project(self, timeout: timedelta) -> _Project | Transient:
        if self._project is None:
            assert self._fetch_account
            account = await self._fetch_account(self._http, timeout)
            if isinstance(account, Transient):
                return account
            try:
                # Two first callers may both have fetched; one project is kept, so that one token is.
                self._project = self._project or _Project(account, self._options.endpoint_url)
            except (ValueError, GoogleAuthError) as error:
                return Transient("service_account_invalid", MINUTE, str(error))
        return self._project

    async def close(self) -> None:
        """Close the connections; a token refresh in flight is waited for."""
        if self._project is not None:
            await self._project.tokens.close()
        await self._http.close()


class _Project:
    """A Firebase project: where it is called, with whose token, and what its payload looks like."""

    def __init__(self, account: Mapping[str, Any], endpoint_url: str) -> None:
        """ValueError or GoogleAuthError if `account` is not a service account with a project."""
        if not account.get("project_id"):
            raise ValueError("has no project_id")
        google: Any = service_account.Credentials  # google-auth has no types
        credentials = google.from_service_account_info(account, scopes=[SCOPE])
        self._pyfcm = FCMNotification(credentials=credentials, project_id=account["project_id"])
        self.url = URL(f"{endpoint_url.rstrip('/')}/v1/projects/{account['project_id']}/messages:send", encoded=True)
        self.tokens = AccessTokens(self._pyfcm.credentials)

    def payload(self, message: dict[str, Any]) -> bytes:
        shown = message["notification"]
        body: bytes = self._pyfcm.parse_payload(
            fcm_token=message["token"],
            notification_title=shown["title"],
            notification_body=shown["body"],
            notification_image=shown.get("image"),
            data_payload=message["data"],
            android_config=message["android"],
            apns_config=message["apns"],
            webpush_config=message["webpush"],
        )
        return body


def classify(answer: Answer) -> Outcome:
    """The outcome that the tables above give for FCM's answer."""
    said = _parsed(answer.body)
    if answer.status == 200 and answer.is_whole and isinstance(said.get("name"), str) and said["name"]:
        return Sent(said["name"])
    error = said.get("error")
    error = error if isinstance(error, dict) and answer.status >= 400 else {}
    details = _objects(error.get("details"))
    code = next((detail["errorCode"] for detail in details if isinstance(detail.get("errorCode"), str)), "")
    by_status = next((o for held, o in BY_STATUS if answer.status in held), Unknown("answer_malformed"))
    outcome = BY_ERROR_CODE.get(code, by_status)
    if answer.status == 400 and _names_the_token(error, details):
        outcome = AddressGone("token_invalid")
    return explained(
        outcome,
        f"{answer.status} {code}: {error.get('message') or answer.excerpt}"[:300],
        retry_after=answer.retry_after,
    )


def _names_the_token(error: dict[str, Any], details: list[dict[str, Any]]) -> bool:
    """Is it the token that is invalid? FCM says so in a field violation or, mostly, in words."""
    violations = [violation for detail in details for violation in _objects(detail.get("fieldViolations"))]
    if violations:
        return any(violation.get("field") == "message.token" for violation in violations)
    return "registration token is not a valid" in str(error.get("message", "")).lower()


def _objects(items: Any) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _read_project(options: FcmOptions) -> _Project:
    setting, path = "NOTIFIER_FCM_SERVICE_ACCOUNT_FILE", options.service_account_file
    if path is None:
        raise SettingsInvalid(f"{setting}: is not set, and the provider fcm needs it (a Google service account, JSON).")
    try:
        account = json.loads(path.read_text())
        if not isinstance(account, dict):
            raise ValueError("is not a JSON object")
        return _Project(account, options.endpoint_url)
    except (OSError, ValueError, GoogleAuthError) as error:
        raise SettingsInvalid(f"{setting}: {path} is not a usable service account: {error}") from None
