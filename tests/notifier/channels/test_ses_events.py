"""SES's JSON → what it proves of a delivery: codes only, and never more than it says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.channels.email.ses_events import SesEvents, parse
from notifier.channels.email.sns import Sns
from notifier.domain.delivery import Status
from notifier.domain.feedback import ProviderEvent
from tests.notifier.channels.test_sns import Aws
from tests.sns import SUBSCRIBE_URL, TOPIC, a_notification, a_subscription, an_event, the_signer


def read(kind: str, **fields: Any) -> ProviderEvent:
    event = parse(json.dumps(an_event(kind, 42, **fields)))
    assert event is not None
    return event


@pytest.mark.parametrize(
    ("kind", "part", "status", "code", "suppresses"),
    [
        ("Send", {}, "sent", "send", None),
        ("DeliveryDelay", {"delayType": "MailboxFull"}, "sent", "delivery_delay", None),
        ("Delivery", {}, "delivered", "delivery", None),
        ("Bounce", {}, "bounced", "bounce:permanent:general", "bounced"),
        (
            "Bounce",
            {"bounceSubType": "OnAccountSuppressionList"},
            "bounced",
            "bounce:permanent:on_account_suppression_list",
            "bounced",
        ),
        (
            "Bounce",
            {"bounceType": "Transient", "bounceSubType": "MailboxFull"},
            "bounced",
            "bounce:transient:mailbox_full",
            None,
        ),
        (
            "Bounce",
            {"bounceType": "Undetermined", "bounceSubType": "Undetermined"},
            "bounced",
            "bounce:undetermined:undetermined",
            None,
        ),
        ("Complaint", {}, "complained", "complaint:abuse", "complained"),
        ("Complaint", {"complaintFeedbackType": None}, "complained", "complaint:other", "complained"),
        ("Complaint", {"complaintFeedbackType": "not-spam"}, "delivered", "complaint:not_spam", None),
        ("Reject", {"reason": "Bad content"}, "bounced", "reject", None),
    ],
)
def test_what_each_event_proves(
    kind: str, part: dict[str, Any], status: str, code: str, suppresses: str | None
) -> None:
    event = read(kind, **part)
    assert (event.status, event.code, event.suppresses) == (status, code, suppresses)
    assert (event.delivery_id, event.attempt, event.message_id) == (42, 1, "m-1")
    assert event.reported_at == datetime(2026, 1, 5, 12, 0, 1, tzinfo=UTC)


def test_whom_it_is_about_is_told_and_stands_nowhere_else() -> None:
    event = read("Bounce", address="Ada <Ada@Example.com>")
    assert event.addresses == ("Ada@Example.com",)
    assert event.diagnosis == "5.1.1"
    assert "ada" not in f"{event.code}{event.diagnosis}{event.message_id}".lower()


def test_what_is_no_code_is_other() -> None:
    event = read("Bounce", bounceSubType="<ada@example.com> unknown")
    assert event.code == "bounce:permanent:other"


def test_the_classic_form_says_the_same_and_is_found_by_the_message_id_that_we_gave() -> None:
    """docs.aws.amazon.com/ses: the headers hold the Message-ID of the original; tags there are none."""
    told = an_event("Bounce", 42)
    told["notificationType"] = told.pop("eventType")
    del told["mail"]["tags"]
    assert parse(json.dumps(told)) is None
    told["mail"]["headers"] = [
        {"name": "From", "value": "x"},
        {"name": "Message-ID", "value": f"<{'0123456789abcdef' * 2}.4711@acme.example>"},
    ]
    event = parse(json.dumps(told))
    assert event is not None
    assert (event.delivery_id, event.attempt, event.status) == (4711, None, Status.BOUNCED)


@pytest.mark.parametrize("kind", ["Open", "Click", "Rendering Failure", "Subscription", "Other", "", None, 5])
def test_what_tells_nothing_of_its_fate_is_passed_over(kind: Any) -> None:
    assert parse(json.dumps(an_event("Delivery", 42) | {"eventType": kind})) is None


@pytest.mark.parametrize("tags", [{}, {"delivery_id": []}, {"delivery_id": ["x"]}, {"delivery_id": ["1" * 19]}, None])
def test_a_mail_of_somebody_else_is_passed_over(tags: Any) -> None:
    told = an_event("Delivery", 42)
    told["mail"]["tags"] = tags
    assert parse(json.dumps(told)) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(mail=_JSON, part=_JSON, kind=st.sampled_from(["Bounce", "Complaint", "Delivery", "Send", "Reject"]))
async def test_a_genuine_message_that_is_no_event_we_know_breaks_nothing(mail: Any, part: Any, kind: str) -> None:
    told = {"eventType": kind, kind.lower(): part, "mail": mail}
    events = SesEvents(Sns((TOPIC,), fetch=Aws().fetch))
    await events.read(the_signer().event(told), now=datetime.now(UTC))


async def test_a_subscription_is_confirmed_and_its_end_is_not() -> None:
    events = SesEvents(Sns((TOPIC,), fetch=(aws := Aws()).fetch))
    for type in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        body = the_signer().signed(a_subscription(Type=type))
        assert await events.read(body, now=datetime.now(UTC)) is None
    assert aws.asked[1:] == [SUBSCRIBE_URL], "the second would subscribe again (its SubscribeURL does)"


async def test_what_is_not_json_inside_a_genuine_message_is_passed_over() -> None:
    events = SesEvents(Sns((TOPIC,), fetch=Aws().fetch))
    text = "Successfully validated SNS topic for Amazon SES event publishing."
    assert await events.read(the_signer().signed(a_notification(text)), now=datetime.now(UTC)) is None
