"""When a delivery that failed for the moment is tried again."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.retry import DOUBLINGS, FIRST_WAIT, next_attempt_at, next_deferral_at
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


# -- what its provider has deferred --

THIRTY = timedelta(seconds=30)
FIRST_WAITS = st.timedeltas(SECOND / 10, 24 * HOUR)


def moments_of_tries(*, life: timedelta, seed: int, first_wait: timedelta) -> list[timedelta]:
    """How old a delivery is at each of its tries, all of which are deferred at once."""
    rng, ages = Random(seed), [timedelta(0)]
    expires_at = NOW + life
    while at := next_deferral_at(len(ages), now=NOW + ages[-1], expires_at=expires_at, rng=rng, first_wait=first_wait):
        ages.append(at - NOW)
    return ages


@given(seed=st.integers(), life=st.timedeltas(SECOND, 72 * HOUR), first=FIRST_WAITS)
def test_every_try_of_what_is_deferred_comes_after_the_last_one_and_before_the_expiry(
    seed: int, life: timedelta, first: timedelta
) -> None:
    ages = moments_of_tries(life=life, seed=seed, first_wait=first)
    assert ages == sorted(ages)
    assert ages[-1] < life


@given(seed=st.integers(), life=st.timedeltas(SECOND, 72 * HOUR), first=FIRST_WAITS)
def test_what_is_deferred_is_tried_until_it_is_about_to_expire(seed: int, life: timedelta, first: timedelta) -> None:
    ages = moments_of_tries(life=life, seed=seed, first_wait=first)
    assert life - ages[-1] <= 9 * SECOND or life < 3 * SECOND


@given(seed=st.integers(), life=st.timedeltas(SECOND, 72 * HOUR), first=FIRST_WAITS)
def test_from_the_third_on_a_deferral_waits_30_seconds_as_long_as_they_fit(
    seed: int, life: timedelta, first: timedelta
) -> None:
    ages = moments_of_tries(life=life, seed=seed, first_wait=first)
    for before, after in pairwise(ages[2:]):
        assert after - before >= THIRTY or life - before <= THIRTY


@given(seed=st.integers(), first=st.timedeltas(SECOND, 5 * SECOND))
def test_a_day_has_no_thousands_of_tries(seed: int, first: timedelta) -> None:
    assert 24 <= len(moments_of_tries(life=24 * HOUR, seed=seed, first_wait=first)) <= 200


@given(seed=st.integers(), opens=st.sampled_from([60, 300]))
def test_a_greylist_of_five_minutes_lets_a_mail_of_ten_through(seed: int, opens: int) -> None:
    ages = moments_of_tries(life=10 * MINUTE, seed=seed, first_wait=SECOND)
    assert [age for age in ages if age >= opens * SECOND]


@given(tries=st.integers(1, 10_000), seed=st.integers(), first=FIRST_WAITS)
def test_no_deferral_waits_for_more_than_half_an_hour_and_half_a_minute(
    tries: int, seed: int, first: timedelta
) -> None:
    far = NOW + timedelta(days=30)
    at = next_deferral_at(tries, now=NOW, expires_at=far, rng=Random(seed), first_wait=first)
    assert at is not None
    assert NOW <= at <= NOW + 30 * MINUTE + THIRTY


@given(tries=st.integers(1, 100), patience=st.timedeltas(SECOND, 2 * HOUR), seed=st.integers())
def test_a_deferral_that_says_how_long_is_not_cut_short(tries: int, patience: timedelta, seed: int) -> None:
    at = next_deferral_at(tries, now=NOW, expires_at=NOW + HOUR, rng=Random(seed), retry_after=patience)
    assert at is None if patience >= HOUR else at is not None and NOW + patience <= at < NOW + HOUR


def test_mails_that_are_deferred_together_do_not_come_back_together() -> None:
    rng = Random(7)
    moments = {next_deferral_at(3, now=NOW, expires_at=NOW + HOUR, rng=rng, first_wait=SECOND) for _ in range(100)}
    assert len(moments) == 100
