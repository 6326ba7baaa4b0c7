"""Web Push encryption: RFC 8291's own example, and a browser that can read what we write."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.channels.desktop.compose import LIMIT_BYTES, compose, size_bytes
from notifier.channels.desktop.encryption import encrypt, encrypt_with, validate_subscription
from notifier.domain.content import DesktopContent
from notifier.domain.errors import AddressInvalid
from tests.notifier.channels.servers import DESKTOP, TAG, Browser, b64url


def raw(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_the_example_of_rfc_8291_appendix_a_comes_out_byte_for_byte() -> None:
    private = int.from_bytes(raw("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"), "big")
    browser = raw("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4")
    body = encrypt_with(
        b"When I grow up, I want to be a watermelon",
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), browser),
        raw("BTBZMqHH6r4Tts7J_aSIgg"),
        ephemeral=ec.derive_private_key(private, ec.SECP256R1()),
        salt=raw("DGv6ra1nlYgDCS1FRnbzlw"),
    )
    assert b64url(body) == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8w"
        "EqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


@settings(max_examples=30)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=900))
def test_a_browser_reads_what_was_composed(text: str) -> None:
    browser = Browser()
    subscription = browser.subscription("https://push.example/1")
    content = DesktopContent("Hi", text, url="https://acme.example/", data={"order": "991"})
    assert browser.decrypt(encrypt(compose(content, tag=TAG), subscription)) == {
        "title": "Hi",
        "body": text,
        "url": "https://acme.example/",
        "tag": TAG,
        "data": {"order": "991"},
    }


def test_the_largest_message_makes_a_body_of_4096_bytes() -> None:
    content = DesktopContent("Hi", "")
    largest = replace(content, body="x" * (LIMIT_BYTES - size_bytes(content)))
    assert size_bytes(largest) == LIMIT_BYTES
    browser = Browser()
    body = encrypt(compose(largest, tag=TAG), browser.subscription("https://push.example/1"))
    assert len(body) == 4096
    assert browser.decrypt(body)["body"] == largest.body


def test_two_messages_share_no_key_and_no_salt() -> None:
    subscription = Browser().subscription("https://push.example/1")
    first, second = (encrypt(b"same", subscription) for _ in range(2))
    assert first[:16] != second[:16]
    assert first[21:86] != second[21:86]


def test_a_subscription_as_browsers_give_it_is_good() -> None:
    subscription = Browser().subscription("https://push.example/1")
    validate_subscription(subscription)
    validate_subscription(replace(subscription, p256dh=subscription.p256dh + "=", auth=subscription.auth + "=="))


@pytest.mark.parametrize(
    "auth", ["", "AAAA", b64url(bytes(15)), b64url(bytes(17)), "not base64url!", "A" * 21, "é" * 22]
)
def test_an_auth_secret_that_is_not_16_bytes_is_refused(auth: str) -> None:
    with pytest.raises(AddressInvalid, match="auth"):
        validate_subscription(replace(Browser().subscription("https://push.example/1"), auth=auth))


@pytest.mark.parametrize(
    "point",
    [
        b"",
        bytes(65),
        b"\x04" + bytes(64),
        b"\x04" + b"\xff" * 64,
        b"\x02" + bytes(32),
        b"\x04" + bytes(63),
        b"\x06" + bytes(64),
    ],
)
def test_a_key_that_is_no_point_on_the_curve_is_refused(point: bytes) -> None:
    with pytest.raises(AddressInvalid, match="p256dh"):
        validate_subscription(replace(Browser().subscription("https://push.example/1"), p256dh=b64url(point)))


def test_text_with_half_a_surrogate_pair_still_makes_json() -> None:
    content = DesktopContent("half a \ud83d pair", "B")
    assert json.loads(compose(content, tag=TAG))["title"] == content.title
    assert size_bytes(content) == len(compose(content, tag=TAG))


def test_size_bytes_is_what_is_sent() -> None:
    assert size_bytes(DESKTOP) == len(compose(DESKTOP, tag=TAG))
