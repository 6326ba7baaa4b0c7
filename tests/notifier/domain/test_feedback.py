"""What reports add up to: the same in every order, however often, and always a path in the state table."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.delivery import ENDED, FOLLOWS, UNFINISHED, Status
from notifier.domain.feedback import ProviderEvent, is_about, path
from notifier.domain.notification import Channel
from tests.builders import NOW

S = Status
REPORTS = [S.SENT, S.DELIVERED, S.BOUNCED, S.COMPLAINED]
EVENT = ProviderEvent("ses", Channel.EMAIL, 42, S.DELIVERED, "delivery", NOW, attempt=1, message_id="m-1")


def after(status: Status, reports: list[Status]) -> Status:
    for reported in reports:
        for step in path(status, reported):
            assert step in FOLLOWS[status]
            status = step
    return status


@given(start=st.sampled_from(Status), reports=st.lists(st.sampled_from(REPORTS), max_size=6), data=st.data())
def test_in_whatever_order_reports_come_they_add_up_to_the_same(
    start: Status, reports: list[Status], data: st.DataObject
) -> None:
    other = data.draw(st.permutations(reports * 2))
    assert after(start, reports) == after(start, list(other))


@given(start=st.sampled_from(Status), reported=st.sampled_from(REPORTS))
def test_a_report_leads_along_the_table_or_nowhere(start: Status, reported: Status) -> None:
    steps = path(start, reported)
    assert all(step in FOLLOWS[before] for before, step in pairwise((start, *steps)))
    assert not steps or steps[-1] is reported


@pytest.mark.parametrize("start", [S.UNKNOWN, S.SENDING, S.QUEUED, S.RETRYING])
def test_any_report_proves_that_it_was_sent_and_nothing_more_is_tried(start: Status) -> None:
    """F3: the worker died after the provider's answer; the row may be `sending` still, or about to be tried again."""
    for reported in REPORTS:
        assert after(start, [reported]) is reported


@pytest.mark.parametrize("start", sorted(ENDED - {S.UNKNOWN, S.SENT, S.DELIVERED, S.BOUNCED}))
def test_what_is_over_stays_as_it_ended(start: Status) -> None:
    assert {after(start, [reported]) for reported in REPORTS} == {start}


def test_what_was_never_tried_is_not_led_anywhere() -> None:
    assert path(S.SCHEDULED, S.DELIVERED) == ()
    assert S.SCHEDULED in UNFINISHED


@pytest.mark.parametrize(
    ("changes", "attempt", "message_id", "ours"),
    [
        ({}, 1, "m-1", True),
        ({}, 1, None, True),  # its answer was lost, so nobody knows the name
        ({}, 1, "m-2", False),  # another installation's delivery 42, from the same account
        ({}, 2, "m-2", True),  # the first attempt's, whose answer was lost
        ({"attempt": 2}, 2, "m-2", False),
        ({"attempt": 3}, 2, None, False),
        ({"attempt": 0}, 2, None, True),  # SES does not say (0 is not said)
        ({"attempt": None}, 1, "m-1", True),
        ({"attempt": None}, 1, "m-2", False),
        ({"message_id": None}, 1, "m-2", True),
        ({}, 0, None, False),  # never tried
        ({"channel": Channel.PUSH}, 1, "m-1", False),
    ],
)
def test_whose_report_it_is(changes: dict[str, object], attempt: int, message_id: str | None, ours: bool) -> None:
    event = replace(EVENT, **changes)  # type: ignore[arg-type]  # any of its fields
    assert is_about(event, channel=Channel.EMAIL, attempt=attempt, message_id=message_id) is ours


@pytest.mark.parametrize(
    ("status", "is_permanent", "why"),
    [
        (S.SENT, False, None),
        (S.DELIVERED, False, None),
        (S.BOUNCED, False, None),
        (S.BOUNCED, True, "bounced"),
        (S.COMPLAINED, False, "complained"),
    ],
)
def test_a_permanent_bounce_and_a_complaint_end_it_for_the_address(
    status: Status, is_permanent: bool, why: str | None
) -> None:
    assert replace(EVENT, status=status, is_permanent=is_permanent).suppresses == why
