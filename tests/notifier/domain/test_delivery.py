"""Which state may follow which, and what decides: an attempt's outcome, or the moment a row waits for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.delivery import BORN, FOLLOWS, UNFINISHED, WAITING, Standing, Status, after_attempt, when_due
from notifier.domain.notification import OnUnknown
from notifier.domain.outcome import AddressGone, Outcome, Permanent, Sent, Throttled, Transient, Unknown
from tests.builders import HOUR, NOW, SECOND, a_standing

HINT_LIFE = timedelta(seconds=5)
WAITS = st.timedeltas(timedelta(0), 3 * HOUR)
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.just(Sent("id")),
    st.builds(Transient, st.just("refused"), WAITS),
    st.builds(Transient, st.just("deferred"), is_outage=st.booleans(), is_deferral=st.just(True)),
    st.builds(Throttled, st.just("slow_down"), WAITS),
    st.just(Permanent("no")),
    st.just(AddressGone("gone")),
    st.just(Unknown("reset")),
)


@st.composite
def standings(draw: st.DrawFn, *statuses: Status) -> Standing:
    most, status = draw(st.integers(1, 10)), draw(st.sampled_from(statuses))
    return Standing(
        status=status,
        attempt=draw(st.integers(1, most)),
        max_attempts=most,
        unknowns=draw(st.integers(0, 1)),
        expires_at=NOW + draw(st.timedeltas(-HOUR, HOUR)),
        on_unknown=draw(st.sampled_from(OnUnknown)),
        is_called=draw(st.booleans()),
        is_sent_to_some=status is not Status.SCHEDULED and draw(st.booleans()),
        tries=draw(st.integers(0, 100)),
    )


CLAIMED = standings(Status.SENDING)
DUE = standings(Status.SCHEDULED, Status.QUEUED, Status.RETRYING, Status.SENDING, Status.UNKNOWN)


def test_the_table_of_states_names_every_state_and_every_delivery_can_come_to_an_end() -> None:
    assert set(FOLLOWS) == set(Status)
    ends = {status for status in Status if status not in UNFINISHED}
    for start in BORN:
        reached, edge = {start}, {start}
        while edge:
            edge = {after for status in edge for after in FOLLOWS[status]} - reached
            reached |= edge
        assert reached & ends


def test_only_what_no_provider_has_can_be_cancelled() -> None:
    assert {status for status, after in FOLLOWS.items() if Status.CANCELLED in after} == WAITING


# -- after an attempt --


@given(outcome=OUTCOMES, standing=CLAIMED, some=st.booleans(), seed=st.integers())
def test_every_step_after_an_attempt_is_in_the_table(
    outcome: Outcome, standing: Standing, some: bool, seed: int
) -> None:
    step = after_attempt(outcome, standing, now=NOW, rng=Random(seed), sent_to_some=some)
    assert step.status in FOLLOWS[Status.SENDING]
    assert step.reason


@given(outcome=OUTCOMES, standing=CLAIMED, seed=st.integers())
def test_no_attempt_is_due_at_or_after_the_expiry(outcome: Outcome, standing: Standing, seed: int) -> None:
    step = after_attempt(outcome, standing, now=NOW, rng=Random(seed))
    assert step.due_at is None or NOW <= step.due_at < standing.expires_at


@given(outcome=OUTCOMES, standing=CLAIMED, seed=st.integers())
def test_nothing_is_tried_again_that_has_used_up_its_attempts(outcome: Outcome, standing: Standing, seed: int) -> None:
    step = after_attempt(outcome, standing, now=NOW, rng=Random(seed))
    if step.due_at is not None and step.counts:
        assert standing.attempt < standing.max_attempts


@given(standing=CLAIMED, seed=st.integers())
def test_being_told_to_slow_down_uses_up_no_attempt(standing: Standing, seed: int) -> None:
    last = replace(standing, attempt=standing.max_attempts, expires_at=NOW + HOUR)
    step = after_attempt(Throttled("slow_down"), last, now=NOW, rng=Random(seed))
    assert (step.status, step.counts) == (Status.RETRYING, False)


@given(standing=CLAIMED, seed=st.integers(), life=st.timedeltas(3 * SECOND, 24 * HOUR), is_outage=st.booleans())
def test_what_is_deferred_uses_up_no_attempt_and_is_tried_again_while_it_lives(
    standing: Standing, seed: int, life: timedelta, is_outage: bool
) -> None:
    last = replace(standing, attempt=standing.max_attempts, expires_at=NOW + life)
    deferral = Transient("deferred", is_outage=is_outage, is_deferral=True)
    step = after_attempt(deferral, last, now=NOW, rng=Random(seed))
    assert (step.status, step.reason, step.counts) == (Status.RETRYING, "deferred", False)
    assert step.due_at is not None
    assert NOW < step.due_at < NOW + life


def test_the_waits_of_what_is_deferred_grow_with_its_tries_and_not_with_its_attempts() -> None:
    deferral = Transient("deferred", is_outage=False, is_deferral=True)
    waits = []
    for tries in (1, 2, 3, 6, 12):
        standing = a_standing(attempt=1, tries=tries, expires_at=NOW + 24 * HOUR)
        steps = [after_attempt(deferral, standing, now=NOW, rng=Random(n), first_wait=SECOND) for n in range(50)]
        waits.append(max(step.due_at - NOW for step in steps if step.due_at))
    assert waits == sorted(waits)
    assert waits[0] <= SECOND
    assert waits[1] <= 2 * SECOND
    assert 30 * SECOND <= waits[2] <= 34 * SECOND
    assert waits[4] > 1200 * SECOND


def test_a_deferral_that_has_no_time_left_ends_as_expired_and_says_so() -> None:
    standing = a_standing(attempt=8, tries=40, expires_at=NOW + SECOND)
    step = after_attempt(Transient("deferred", is_outage=False, is_deferral=True), standing, now=NOW, rng=Random(7))
    assert (step.status, step.reason, step.due_at) == (Status.EXPIRED, "no_time_to_retry:deferred", None)


@given(standing=CLAIMED, seed=st.integers())
def test_a_held_delivery_is_never_tried_again_once_its_fate_is_unknown(standing: Standing, seed: int) -> None:
    held = replace(standing, on_unknown=OnUnknown.HOLD)
    step = after_attempt(Unknown("reset"), held, now=NOW, rng=Random(seed))
    assert (step.status, step.due_at) == (Status.UNKNOWN, None)


def test_an_unknown_is_tried_again_once_and_only_once() -> None:
    first = after_attempt(Unknown("reset"), a_standing(), now=NOW, rng=Random(7))
    second = after_attempt(Unknown("reset"), a_standing(attempt=2, unknowns=1), now=NOW, rng=Random(7))
    assert first.status is second.status is Status.UNKNOWN
    assert first.due_at is not None
    assert second.due_at is None


@given(outcome=OUTCOMES, standing=CLAIMED, seed=st.integers())
def test_what_one_device_has_is_never_said_to_have_failed(outcome: Outcome, standing: Standing, seed: int) -> None:
    step = after_attempt(outcome, standing, now=NOW, rng=Random(seed), sent_to_some=True)
    assert step.status in (Status.SENT, Status.RETRYING)


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [
        (Sent("id"), Status.SENT, "accepted"),
        (Permanent("no"), Status.FAILED, "no"),
        (AddressGone("gone"), Status.FAILED, "gone"),
        (Transient("refused"), Status.RETRYING, "refused"),
        (Throttled("slow_down"), Status.RETRYING, "slow_down"),
        (Unknown("reset"), Status.UNKNOWN, "reset"),
        (Transient("refused", 2 * HOUR), Status.EXPIRED, "no_time_to_retry:refused"),
    ],
)
def test_each_outcome_leads_to_its_state(outcome: Outcome, status: Status, reason: str) -> None:
    step = after_attempt(outcome, a_standing(), now=NOW, rng=Random(7))
    assert (step.status, step.reason) == (status, reason)


def test_the_last_refusal_says_that_the_attempts_are_used_up() -> None:
    step = after_attempt(Transient("refused"), a_standing(attempt=8), now=NOW, rng=Random(7))
    assert (step.status, step.reason) == (Status.FAILED, "attempts_used_up:refused")


# -- when its moment has come --


@given(standing=DUE, seed=st.integers())
def test_every_step_of_a_due_row_is_in_the_table_or_leaves_it_alone(standing: Standing, seed: int) -> None:
    step = when_due(standing, now=NOW, rng=Random(seed), hint_life=HINT_LIFE)
    assert step.status is standing.status or step.status in FOLLOWS[standing.status]


@given(standing=DUE, seed=st.integers())
def test_nothing_is_due_again_after_its_expiry_or_at_once(standing: Standing, seed: int) -> None:
    step = when_due(standing, now=NOW, rng=Random(seed), hint_life=HINT_LIFE)
    assert step.due_at is None or NOW <= step.due_at <= standing.expires_at
    assert step.status is not Status.QUEUED or standing.expires_at > NOW


@given(standing=DUE, seed=st.integers())
def test_what_has_expired_is_over_at_its_next_step(standing: Standing, seed: int) -> None:
    dead = replace(standing, expires_at=NOW)
    step = when_due(dead, now=NOW, rng=Random(seed), hint_life=HINT_LIFE)
    assert step.status not in UNFINISHED
    assert step.due_at is None


@given(standing=DUE, seed=st.integers())
def test_a_row_that_one_device_has_does_not_expire_unsaid(standing: Standing, seed: int) -> None:
    sent_to_some = replace(standing, is_sent_to_some=True)
    step = when_due(sent_to_some, now=NOW, rng=Random(seed), hint_life=HINT_LIFE)
    assert step.status not in (Status.EXPIRED, Status.FAILED, Status.UNKNOWN)


def test_a_lease_that_ended_in_the_call_leaves_its_fate_unknown() -> None:
    step = when_due(a_standing(is_called=True), now=NOW, rng=Random(7), hint_life=HINT_LIFE)
    assert (step.status, step.reason) == (Status.UNKNOWN, "worker_lost")
    assert step.due_at is not None


def test_a_lease_that_ended_before_the_call_is_simply_hinted_again() -> None:
    step = when_due(a_standing(is_called=False), now=NOW, rng=Random(7), hint_life=HINT_LIFE)
    assert (step.status, step.reason, step.due_at) == (Status.QUEUED, "worker_lost_before_call", NOW + HINT_LIFE)


@given(attempt=st.integers(2, 7), seed=st.integers())
def test_a_delivery_whose_workers_die_again_and_again_waits_and_parts_from_those_beside_it(
    attempt: int, seed: int
) -> None:
    """It may be what kills them, and those that were claimed with it must not fail with it."""
    standing = a_standing(attempt=attempt, is_called=False)
    first, second = (when_due(standing, now=NOW, rng=Random(seed + n), hint_life=HINT_LIFE) for n in (0, 1))
    assert (first.status, first.reason) == (Status.RETRYING, "worker_lost_before_call")
    assert first.due_at is not None
    assert NOW <= first.due_at < standing.expires_at
    assert first.due_at != second.due_at


def test_one_that_has_no_time_to_wait_is_hinted_again_at_once() -> None:
    standing = a_standing(attempt=2, is_called=False, expires_at=NOW + timedelta(microseconds=1))
    step = when_due(standing, now=NOW, rng=Random(7), hint_life=HINT_LIFE)
    assert step.status is Status.QUEUED


def test_workers_that_die_before_every_call_use_up_the_attempts() -> None:
    step = when_due(a_standing(attempt=8, is_called=False), now=NOW, rng=Random(7), hint_life=HINT_LIFE)
    assert (step.status, step.reason) == (Status.FAILED, "attempts_used_up:worker_lost_before_call")


@pytest.mark.parametrize("status", sorted(WAITING))
def test_an_expiry_says_in_which_state_it_waited(status: Status) -> None:
    step = when_due(a_standing(status=status, expires_at=NOW), now=NOW, rng=Random(7), hint_life=HINT_LIFE)
    assert (step.status, step.reason) == (Status.EXPIRED, f"expired_while_{status}")


def test_a_hint_is_never_given_a_longer_life_than_the_delivery_has() -> None:
    standing = a_standing(status=Status.QUEUED, expires_at=NOW + SECOND)
    assert when_due(standing, now=NOW, rng=Random(7), hint_life=HINT_LIFE).due_at == NOW + SECOND
