"""How long a notification may live: what was asked for, its template's if nothing was, and never already over."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.domain.delivery import Status
from notifier.domain.errors import ExpiryInvalid
from notifier.templating import Template
from tests.builders import HOUR, MINUTE, NOW, SECOND, the_catalogue
from tests.notifier.intake.checks import checked, field_of

#: No deadline: a machine may be busy.
quickly = settings(max_examples=60)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("ask", "expires_at"),
    [
        ({}, NOW + DAY),
        ({"send_at": NOW + HOUR}, NOW + HOUR + DAY),
        ({"send_at": NOW - HOUR}, NOW + DAY),
        ({"expires_in": SECOND}, NOW + SECOND),
        ({"expires_in": 2 * HOUR, "send_at": NOW + HOUR}, NOW + 2 * HOUR),
        ({"expires_at": NOW + MINUTE}, NOW + MINUTE),
    ],
)
def test_a_notification_has_the_life_that_was_asked_for_or_its_templates(
    ask: dict[str, Any], expires_at: datetime
) -> None:
    """The template's begins when it is to be sent, what was asked for when it was asked."""
    assert checked(**ask).notification.expires_at == expires_at


@pytest.mark.parametrize("template", list(the_catalogue()), ids=lambda template: template.name)
def test_each_template_has_a_life_of_its_own(template: Template) -> None:
    made = checked(template=template.name, channels=None, data=template.example_data())
    assert made.notification.expires_at == NOW + template.expires_in


@pytest.mark.parametrize(
    ("ask", "field", "says"),
    [
        ({"expires_at": NOW - SECOND}, "expires_at", "lies in the past"),
        ({"expires_at": NOW}, "expires_at", "lies in the past"),
        ({"expires_in": timedelta(0)}, "expires_in", "lies in the past"),
        ({"expires_in": HOUR, "send_at": NOW + HOUR}, "expires_in", "is not before the expiry"),
        ({"expires_at": NOW + HOUR, "send_at": NOW + 2 * HOUR}, "expires_at", "is not before the expiry"),
    ],
)
def test_what_would_be_dead_before_it_is_sent_is_refused(ask: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(ExpiryInvalid, match=says) as error:
        checked(**ask)
    assert field_of(error) == ("body", field)


@quickly
@given(
    send_in=st.none() | st.timedeltas(-DAY, 300 * DAY),
    life=st.none() | st.timedeltas(timedelta(microseconds=1), 30 * DAY),
)
def test_whatever_is_accepted_can_still_be_sent(send_in: timedelta | None, life: timedelta | None) -> None:
    try:
        made = checked(send_at=None if send_in is None else NOW + send_in, expires_in=life)
    except ExpiryInvalid:
        return
    (delivery,) = made.deliveries
    assert delivery.due_at is not None
    assert NOW < delivery.due_at <= delivery.expires_at == made.notification.expires_at
    if send_in is not None and send_in > timedelta(0):
        assert (delivery.status, delivery.due_at) == (Status.SCHEDULED, NOW + send_in)
    else:
        assert delivery.status is Status.QUEUED
