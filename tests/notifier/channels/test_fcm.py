"""FCM: what its answers mean, and tokens fetched for real (a signed assertion for an access token)."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from notifier.channels.options import FcmOptions
from notifier.channels.push import tokens
from notifier.channels.push.fcm import BY_ERROR_CODE, BY_STATUS, SCOPE, Fcm
from notifier.channels.push.tokens import AccessTokens
from notifier.domain.content import PushContent
from notifier.domain.errors import SettingsInvalid
from notifier.domain.outcome import AddressGone, Outcome, Permanent, Sent, Throttled, Transient, Unknown
from tests.notifier.channels.google import a_google
from tests.notifier.channels.servers import (
    SECOND,
    TAG,
    a_push,
    a_service_account,
    raw_server,
    read_request,
    reset,
    unused_port,
)

FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"


def an_error(code: str, message: str = "because", **violation: str) -> dict[str, Any]:
    details: list[dict[str, Any]] = [{"@type": FCM_ERROR, "errorCode": code}]
    if violation:
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]})
    return {"error": {"code": 400, "message": message, "status": "X", "details": details}}


async def test_a_message_is_sent_with_a_fetched_token_to_the_accounts_project(tmp_path: Path) -> None:
    async with a_google() as google:
        fcm = google.fcm(tmp_path, tag_worker=True)
        assert await fcm.send(a_push(device="phone-7"), timeout=5 * SECOND) == Sent("projects/acme-push/messages/1")
        await fcm.close()
    assert google.paths == ["/v1/projects/acme-push/messages:send"]
    [claims] = google.token_requests
    assert claims["iss"] == "notifier@acme-push.iam.gserviceaccount.com"
    assert claims["scope"] == SCOPE
    message = google.messages[0]["message"]
    assert message["token"] == "phone-7"
    assert message["notification"] == {"title": "Payment received", "body": "12.50 EUR"}
    assert message["data"]["delivery_id"] == "42"
    assert message["data"]["worker_pid"] == str(os.getpid())
    assert message["android"]["notification"]["tag"] == TAG


@pytest.mark.parametrize(("code", "expected"), BY_ERROR_CODE.items(), ids=str)
async def test_each_error_code_means_what_the_table_says(tmp_path: Path, code: str, expected: Outcome) -> None:
    async with a_google(statuses=[404 if code == "UNREGISTERED" else 400], body=an_error(code)) as google:
        outcome = await google.send_one(tmp_path)
    assert type(outcome) is type(expected)
    assert outcome.reason == expected.reason
    assert getattr(outcome, "retry_after", None) == getattr(expected, "retry_after", None)


@pytest.mark.parametrize(("held", "expected"), BY_STATUS, ids=str)
async def test_each_status_without_a_code_means_what_the_table_says(
    tmp_path: Path, held: range, expected: Outcome
) -> None:
    async with a_google(statuses=[held.start] * 2, body="<html>hello") as google:
        outcome = await google.send_one(tmp_path)
    assert type(outcome) is type(expected)
    assert outcome.reason == expected.reason


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (an_error("INVALID_ARGUMENT", "The registration token is not a valid FCM registration token"), AddressGone),
        (an_error("INVALID_ARGUMENT", "Request contains an invalid argument.", field="message.token"), AddressGone),
        (an_error("INVALID_ARGUMENT", "Invalid value", field="message.data[0].value"), Permanent),
        (an_error("INVALID_ARGUMENT", "Invalid value", field="message.token_other"), Permanent),
        (an_error("INVALID_ARGUMENT"), Permanent),
    ],
)
async def test_a_token_is_given_up_only_if_the_answer_names_it(
    tmp_path: Path, body: dict[str, Any], kind: type[Outcome]
) -> None:
    async with a_google(statuses=[400], body=body) as google:
        assert isinstance(await google.send_one(tmp_path), kind)


async def test_a_404_that_is_not_unregistered_does_not_cost_the_token(tmp_path: Path) -> None:
    async with a_google(statuses=[404], body="<html>not here") as google:
        assert isinstance(await google.send_one(tmp_path), Permanent)


@pytest.mark.parametrize("status", [429, 503, 500])
async def test_retry_after_is_kept_and_a_quota_waits_a_minute_at_least(tmp_path: Path, status: int) -> None:
    async with a_google(statuses=[status] * 2, body={}, headers={"Retry-After": "90"}) as google:
        outcome = await google.send_one(tmp_path)
    assert isinstance(outcome, Throttled | Transient)
    assert outcome.retry_after == 90 * SECOND
    async with a_google(statuses=[429], body={}, headers={"Retry-After": "5"}) as google:
        throttled = await google.send_one(tmp_path)
    assert isinstance(throttled, Throttled)
    assert throttled.retry_after == 60 * SECOND


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"name": "proj', b"{}", b"[]", b"null", b'{"name": 7}', b'{"name": ""}', b"\xff"]
)
async def test_a_200_that_makes_no_sense_is_unknown(tmp_path: Path, body: bytes) -> None:
    async with a_google(statuses=[200], body=body) as google:
        assert isinstance(await google.send_one(tmp_path), Unknown)


@pytest.mark.parametrize(
    "body",
    [{"error": "no"}, {"error": {"details": "no"}}, {"error": {"details": 7}}, ["no"], {"error": None},
     {"error": {"details": ["no", {"errorCode": 7}]}}, {"error": {"message": 7, "details": [{"fieldViolations": 7}]}}],
)  # fmt: skip
async def test_an_error_of_an_unknown_shape_is_read_by_its_status(tmp_path: Path, body: Any) -> None:
    async with a_google(statuses=[400], body=json.dumps(body)) as google:
        assert isinstance(await google.send_one(tmp_path), Permanent)


async def test_text_that_has_no_utf_8_is_refused_for_good_before_any_call(tmp_path: Path) -> None:
    async with a_google() as google:
        fcm = google.fcm(tmp_path)
        outcome = await fcm.send(a_push(PushContent("half a \ud83d pair", "B")), timeout=5 * SECOND)
        await fcm.close()
    assert isinstance(outcome, Permanent)
    assert google.paths == []


async def test_a_401_fetches_a_new_token_and_tries_once_more(tmp_path: Path) -> None:
    async with a_google(accepts="token-2") as google:
        assert isinstance(await google.send_one(tmp_path), Sent)
    assert (len(google.paths), google.tokens_given) == (2, 2)


async def test_a_401_that_stays_is_transient_after_two_calls(tmp_path: Path) -> None:
    async with a_google(accepts="never") as google:
        outcome = await google.send_one(tmp_path)
    assert isinstance(outcome, Transient)
    assert outcome.reason == "credentials_refused"
    assert len(google.paths) == 2


async def test_many_sends_at_once_fetch_one_token(tmp_path: Path) -> None:
    async with a_google(token_delay=0.1) as google:
        fcm = google.fcm(tmp_path)
        outcomes = await asyncio.gather(*(fcm.send(a_push(), timeout=5 * SECOND) for _ in range(20)))
        await fcm.close()
    assert all(isinstance(outcome, Sent) for outcome in outcomes)
    assert len(google.token_requests) == 1


async def test_the_loop_goes_on_while_a_token_is_fetched(tmp_path: Path) -> None:
    async with a_google(token_delay=0.3) as google:
        fcm = google.fcm(tmp_path)
        task, beats = asyncio.create_task(fcm.send(a_push(), timeout=5 * SECOND)), 0
        while not task.done():
            await asyncio.wait([task], timeout=0.01)
            beats += 1
        await fcm.close()
    assert beats > 10


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, '{"error": "invalid_grant"}'),
        (403, "<html>"),
        (302, ""),
        (200, "<html>"),
        (200, "{}"),
        (200, "[]"),
        (200, "null"),
    ],
)
async def test_a_token_endpoint_that_fails_is_transient_and_is_left_alone_for_a_moment(
    tmp_path: Path, status: int, body: str
) -> None:
    async with a_google(token_status=status, token_body=body) as google:
        fcm = google.fcm(tmp_path)
        for _ in range(3):
            outcome = await fcm.send(a_push(), timeout=5 * SECOND)
            assert isinstance(outcome, Transient)
            assert outcome.reason == "token_unavailable"
        await fcm.close()
    assert google.paths == []
    assert len(google.token_requests) == 1


async def test_a_token_endpoint_that_cannot_be_reached_is_transient(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    path.write_text(json.dumps(a_service_account(f"http://127.0.0.1:{await unused_port()}/token")))
    fcm = Fcm(FcmOptions(service_account_file=path))
    outcome = await fcm.send(a_push(), timeout=10 * SECOND)
    await fcm.close()
    assert isinstance(outcome, Transient)


async def test_a_token_endpoint_that_hangs_does_not_outlast_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "TIMEOUT", 0.5 * SECOND)
    async with a_google(token_delay=5) as google:
        fcm = google.fcm(tmp_path)
        outcome = await fcm.send(a_push(), timeout=0.2 * SECOND)
        await fcm.close()
    assert isinstance(outcome, Transient)
    assert outcome.reason == "token_timeout"


async def test_a_token_is_renewed_in_the_background_before_its_end(tmp_path: Path) -> None:
    async with a_google(lifetime=3600) as google:
        now = 0.0
        held = AccessTokens(google.fcm(tmp_path)._project.tokens._credentials, clock=lambda: now)  # type: ignore[union-attr]
        assert await held.get() == "token-1"
        now = 3600 - tokens.EARLY.total_seconds() - 5
        assert await held.get() == "token-1"
        assert google.tokens_given == 1
        now += 10
        assert await held.get() == "token-1"
        await held.close()
        assert await held.get() == "token-2"
        now += 2 * 3600
        assert await held.get() == "token-3"


async def test_a_reset_after_the_request_is_unknown_and_a_refused_connection_is_not(tmp_path: Path) -> None:
    async def slam(reader: Any, writer: Any) -> None:
        await read_request(reader)
        reset(writer)

    async with a_google() as google:
        path = tmp_path / "account.json"
        path.write_text(json.dumps(a_service_account(f"{google.url}/token")))
        async with raw_server(slam) as port:
            fcm = Fcm(FcmOptions(service_account_file=path, endpoint_url=f"http://127.0.0.1:{port}"))
            assert isinstance(await fcm.send(a_push(), timeout=5 * SECOND), Unknown)
            await fcm.close()
        fcm = Fcm(FcmOptions(service_account_file=path, endpoint_url=f"http://127.0.0.1:{await unused_port()}"))
        assert isinstance(await fcm.send(a_push(), timeout=5 * SECOND), Transient)
        await fcm.close()


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "rubbish",
        "[]",
        "{}",
        '{"project_id": "x"}',
        '{"project_id": "x", "private_key": "y", "client_email": "z", "token_uri": "https://x.example"}',
    ],
)
def test_a_service_account_that_is_none_is_refused_with_the_settings_name(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "account.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsInvalid, match="NOTIFIER_FCM_SERVICE_ACCOUNT_FILE"):
        Fcm(FcmOptions(service_account_file=path))


def test_an_unset_service_account_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="NOTIFIER_FCM_SERVICE_ACCOUNT_FILE"):
        Fcm(FcmOptions())
