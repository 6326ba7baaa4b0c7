"""FCM HTTP v1 and Google's token endpoint."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from notifier.domain.recipient import Device, target_key
from notifier.sandbox.fcm import ERRORS
from tests.sandbox.house import SCOPE, House, Reply

FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"


async def test_a_message_with_googles_own_credentials_is_taken(house: House) -> None:
    answer = await house.push("token-1", delivery_id=9)
    assert answer.status == 200
    assert answer.json["name"].startswith("projects/notifier-sandbox/messages/")
    entry = await house.entry()
    assert (entry["provider"], entry["delivery_id"], entry["attempt"], entry["worker_pid"]) == ("fcm", "9", 1, 4711)
    assert (entry["target"], entry["message_id"]) == (target_key(Device("token-1")), answer.json["name"])


async def test_a_token_is_good_after_a_restart_and_a_forged_one_is_not(house: House) -> None:
    token = await house.fcm_token()
    await house.restart()
    assert (await house.push()).status == 200
    head, _, mark = token.rpartition(".")
    late = head.replace("ya29.", "ya29.9")
    for bad in ("", "x", f"{late}.{mark}", f"{head}.{mark[:-2]}", f"{head}."):
        answer = await house.fcm({"token": "token-1"}, token=bad)
        assert (answer.status, answer.json["error"]["status"]) == (401, "UNAUTHENTICATED")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert len(await house.ledger()) == 1


async def test_another_project_is_forbidden(house: House) -> None:
    answer = await house.ask(
        "POST",
        "/v1/projects/other/messages:send",
        json={"message": {"token": "token-1"}},
        headers={"Authorization": f"Bearer {await house.fcm_token()}"},
    )
    assert (answer.status, answer.json["error"]["status"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({}, "Recipient of the message is not set."),
        ({"token": "t", "data": {"n": 5}}, "message.data[0].value"),
        ({"token": "t", "data": {"from": "x"}}, "Invalid data payload key: from"),
        ({"token": "t", "data": {"x": "y" * 4096}}, "too big"),
        ({"token": "t", "android": "high"}, "invalid argument"),
    ],
)
async def test_a_message_that_fcm_does_not_take_is_an_invalid_argument(
    house: House, message: dict[str, Any], words: str
) -> None:
    answer = await house.fcm(message)
    assert (answer.status, answer.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert words in answer.json["error"]["message"]
    assert await house.ledger() == []


async def test_a_message_of_4096_bytes_fits_and_one_more_does_not(house: House) -> None:
    frame = len(json.dumps({"notification": {}, "data": {"x": ""}}, separators=(",", ":")))
    assert (await house.fcm({"token": "t", "data": {"x": "y" * (4096 - frame)}})).status == 200
    assert (await house.fcm({"token": "t", "data": {"x": "y" * (4097 - frame)}})).status == 400


async def test_validate_only_delivers_nothing(house: House) -> None:
    assert (await house.fcm({"token": "t"}, validate_only=True)).status == 200
    assert await house.ledger() == []


@pytest.mark.parametrize("code", ERRORS)
async def test_each_error_code_has_its_status_and_its_detail(house: House, code: str) -> None:
    await house.faults({"provider": "fcm", "action": "status", "error": code, "retry_after": 30})
    answer = await house.push()
    status, canonical, _ = ERRORS[code]
    error = answer.json["error"]
    assert (answer.status, error["code"], error["status"]) == (status, status, canonical)
    assert error["details"] == [{"@type": FCM_ERROR, "errorCode": code}]
    assert answer.headers["Retry-After"] == "30"


async def assertion(house: House, *, key: Any = None, alg: str = "RS256", **claims: Any) -> Reply:
    """Ask for a token with an assertion of our own making."""
    info = (await house.ask("GET", "/fcm/service-account.json")).json
    now = int(time.time())
    said = {"iss": info["client_email"], "aud": info["token_uri"], "scope": SCOPE, "iat": now, "exp": now + 3600}
    parts = [{"alg": alg, "typ": "JWT"}, said | claims]
    signed = b".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    key = key or load_pem_private_key(info["private_key"].encode(), password=None)
    mark = urlsafe_b64encode(key.sign(signed, padding.PKCS1v15(), hashes.SHA256())).rstrip(b"=")
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": (signed + b"." + mark).decode()}
    return await house.ask(
        "POST",
        "/token",
        data=urlencode(form).encode(),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )


async def test_a_good_assertion_gets_a_bearer_token_for_an_hour(house: House) -> None:
    answer = await assertion(house)
    assert answer.status == 200
    assert answer.json["token_type"] == "Bearer"
    assert 3500 < answer.json["expires_in"] <= 3600


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"iss": "mallory@evil.example"}, "invalid_grant"),
        ({"aud": "https://elsewhere.example/token"}, "invalid_grant"),
        ({"iat": int(time.time()) - 7200, "exp": int(time.time()) - 3600}, "invalid_grant"),
        ({"exp": int(time.time()) + 90_000}, "invalid_grant"),
        ({"exp": "tomorrow"}, "invalid_grant"),
        ({"alg": "none"}, "invalid_grant"),
        ({"scope": "https://www.googleapis.com/auth/drive"}, "invalid_scope"),
    ],
)
async def test_an_assertion_that_is_not_good_gets_no_token(house: House, claims: Any, error: str) -> None:
    answer = await assertion(house, **claims)
    assert (answer.status, answer.json["error"]) == (400, error)


async def test_a_strangers_signature_gets_no_token(house: House) -> None:
    answer = await assertion(house, key=rsa.generate_private_key(public_exponent=65537, key_size=2048))
    assert answer.json == {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}


@pytest.mark.parametrize("form", [b"", b"grant_type=password", b"grant_type=%FF"])
async def test_another_grant_is_not_supported(house: House, form: bytes) -> None:
    answer = await house.ask("POST", "/token", data=form)
    assert (answer.status, answer.json["error"]) == (400, "unsupported_grant_type")
