"""When a delivery that failed for the moment is tried again."""

from __future__ import annotations

from datetime import timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.retry import DOUBLINGS, FIRST_WAIT, next_attempt_at
from tests.builders import HOUR, MINUTE, NOW, SECOND

LONGEST = FIRST_WAIT * 2**DOUBLINGS


def test_a_retry_that_cannot_fit_before_the_deadline_is_not_scheduled() -> None:
    asked = 2 * MINUTE
    assert next_attempt_at(1, now=NOW, expires_at=NOW + MINUTE, retry_after=asked, rng=Random(7)) is None


def test_a_retry_at_the_very_deadline_is_too_late() -> None:
    asked = MINUTE
    assert next_attempt_at(1, now=NOW, expires_at=NOW + MINUTE, retry_after=asked, rng=Random(7)) is None


@given(attempts=st.integers(1, 1_000), asked=st.timedeltas(timedelta(0), 60 * MINUTE), seed=st.integers())
def test_a_provider_that_asks_for_patience_gets_it(attempts: int, asked: timedelta, seed: int) -> None:
    at = next_attempt_at(attempts, now=NOW, expires_at=NOW + 24 * HOUR, retry_after=asked, rng=Random(seed))
    assert at is not None
    assert NOW + asked <= at <= NOW + max(asked, LONGEST)


@given(attempts=st.integers(1, 1_000), first=st.timedeltas(SECOND / 10, MINUTE), seed=st.integers())
def test_a_wait_never_exceeds_the_bound_of_its_attempt(attempts: int, first: timedelta, seed: int) -> None:
    far = NOW + timedelta(days=400)
    at = next_attempt_at(attempts, now=NOW, expires_at=far, rng=Random(seed), first_wait=first)
    assert at is not None
    assert NOW <= at <= NOW + first * 2 ** min(attempts - 1, DOUBLINGS)


@given(seed=st.integers(), life=st.timedeltas(timedelta(0), 60 * MINUTE), attempts=st.integers(1, 50))
def test_no_retry_comes_at_or_after_the_expiry(seed: int, life: timedelta, attempts: int) -> None:
    at = next_attempt_at(attempts, now=NOW, expires_at=NOW + life, rng=Random(seed))
    assert at is None or at < NOW + life


def test_deliveries_stopped_by_one_outage_do_not_come_back_together() -> None:
    rng = Random(7)
    moments = [next_attempt_at(4, now=NOW, expires_at=NOW + HOUR, rng=rng) for _ in range(400)]
    waits = sorted(at - NOW for at in moments if at)
    bound = FIRST_WAIT * 2**3
    for quarter in range(4):
        within = [wait for wait in waits if bound * quarter / 4 <= wait < bound * (quarter + 1) / 4]
        assert 60 <= len(within) <= 140, "drawn evenly from zero to the bound"
