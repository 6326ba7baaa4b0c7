"""A phone notification in FCM's words, and how much of it there may be."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.channels.push.compose import LIMIT_BYTES, compose, size_bytes
from notifier.domain.content import PushContent
from notifier.domain.notification import Priority
from notifier.domain.recipient import Device
from tests.notifier.channels.servers import PUSH, TAG, a_message

NOW = datetime(2026, 10, 1, tzinfo=UTC)
PHONE = Device("token-1", "android")


def test_life_tag_and_priority_reach_every_platform() -> None:
    assert compose(a_message(PUSH, PHONE, ttl=timedelta(seconds=300)), now=NOW) == {
        "token": "token-1",
        "notification": {"title": "Payment received", "body": "12.50 EUR"},
        "data": {"order": "991", "url": "https://acme.example/p/1", "delivery_id": "42", "attempt": "1"},
        "android": {"ttl": "300s", "priority": "HIGH", "notification": {"tag": TAG}},
        "apns": {
            "headers": {
                "apns-expiration": str(int(NOW.timestamp()) + 300),
                "apns-priority": "10",
                "apns-collapse-id": TAG,
            }
        },
        "webpush": {
            "headers": {"TTL": "300", "Urgency": "high", "Topic": TAG},
            "notification": {"tag": TAG},
            "fcm_options": {"link": "https://acme.example/p/1"},
        },
    }


def test_bulk_is_gentle_to_batteries() -> None:
    made = compose(a_message(PUSH, PHONE, priority=Priority.BULK))
    assert made["android"]["priority"] == "NORMAL"
    assert made["apns"]["headers"]["apns-priority"] == "5"
    assert made["webpush"]["headers"]["Urgency"] == "normal"


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [(timedelta(days=60), 2_419_200), (timedelta(seconds=90.9), 90), (timedelta(0), 1), (timedelta(seconds=-5), 1)],
)
def test_the_life_is_between_a_second_and_four_weeks(ttl: timedelta, seconds: int) -> None:
    assert compose(a_message(PUSH, PHONE, ttl=ttl))["android"]["ttl"] == f"{seconds}s"


def test_our_own_fields_win_over_the_templates() -> None:
    content = PushContent(
        "T", "B", url="app://x", image="https://x.example/i.png", data={"delivery_id": "7", "url": "no"}
    )
    made = compose(a_message(content, PHONE), worker_pid=99)
    assert made["data"] == {"delivery_id": "42", "attempt": "1", "worker_pid": "99", "url": "app://x"}
    assert made["notification"]["image"] == "https://x.example/i.png"
    assert "fcm_options" not in made["webpush"]


@given(
    st.text(max_size=200), st.text(max_size=200), st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=5)
)
def test_the_size_at_intake_is_never_less_than_what_is_sent(title: str, body: str, data: dict[str, str]) -> None:
    content = PushContent(title, body, url="https://acme.example/", data=data)
    size = size_bytes(content)
    made = compose(a_message(content, PHONE, delivery_id=2**63 - 1, attempt=50), worker_pid=4_194_304)
    sent = {"notification": made["notification"], "data": made["data"]}
    assert size >= len(json.dumps(sent, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


def test_a_message_over_the_limit_is_seen_to_be() -> None:
    assert size_bytes(PushContent("T", "x" * LIMIT_BYTES)) > LIMIT_BYTES > size_bytes(PUSH)
