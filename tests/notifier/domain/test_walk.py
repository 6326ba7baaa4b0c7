"""A whole life of a delivery by the rules alone: whatever happens to it, it comes to an end it may come to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.delivery import FOLLOWS, UNFINISHED, Standing, Status, Step, after_attempt, when_due
from notifier.domain.notification import OnUnknown
from notifier.domain.outcome import Outcome, Transient, Unknown
from tests.builders import MINUTE, NOW, SECOND, a_standing
from tests.notifier.domain.test_delivery import OUTCOMES

LEASE = timedelta(seconds=60)
#: What befalls a worker: it dies before the call, or in it; or the provider answers.
Fate = Outcome | str
FATES: st.SearchStrategy[list[Fate]] = st.lists(
    st.one_of(OUTCOMES, st.sampled_from(["dies_before_call", "dies_in_call"])), min_size=1, max_size=30
)


@dataclass
class Walk:
    """A row, the clock, and the path it has gone."""

    row: Standing
    now: datetime
    due_at: datetime | None
    rng: Random
    path: list[Status] = field(default_factory=list)
    claims: int = 0
    retried_unknowns: int = 0

    def go(self, fates: list[Fate]) -> None:
        """Until nothing is left to be done; the fates begin again when they have run out."""
        self.path = [self.row.status]
        turn = 0
        while self.due_at is not None:
            if self.row.status is Status.QUEUED and self.row.expires_at > self.now:
                self.claim(fates[turn % len(fates)])
                turn += 1
                assert turn < 5_000, "it never ends"
            else:
                self.now = max(self.now, self.due_at)
                self.sweep()

    def claim(self, fate: Fate) -> None:
        assert self.row.attempt < self.row.max_attempts, "a claim that the statement would refuse"
        self.take(Step(Status.SENDING, "claimed", self.now + LEASE))
        self.claims += 1
        self.row = replace(self.row, attempt=self.row.attempt + 1, is_called=fate != "dies_before_call")
        self.row = replace(self.row, tries=self.claims)
        if not isinstance(fate, str):
            self.now += SECOND
            self.take(after_attempt(fate, self.row, now=self.now, rng=self.rng))

    def sweep(self) -> None:
        step = when_due(self.row, now=self.now, rng=self.rng, hint_life=5 * SECOND)
        if self.row.status is Status.UNKNOWN and step.status is Status.QUEUED:
            self.retried_unknowns += 1
        self.take(step)

    def take(self, step: Step) -> None:
        was = self.row.status
        assert step.status is was or step.status in FOLLOWS[was], f"{was} → {step.status}"
        if step.status is Status.UNKNOWN and was is Status.SENDING:
            self.row = replace(self.row, unknowns=self.row.unknowns + 1)
        if not step.counts:
            self.row = replace(self.row, attempt=self.row.attempt - 1)
        self.row, self.due_at = replace(self.row, status=step.status), step.due_at
        self.path.append(step.status)


def a_walk(fates: list[Fate], *, on_unknown: OnUnknown, most: int, life: timedelta, seed: int) -> Walk:
    born = a_standing(
        status=Status.QUEUED,
        attempt=0,
        max_attempts=most,
        expires_at=NOW + life,
        on_unknown=on_unknown,
        is_called=False,
    )
    walk = Walk(born, NOW, NOW + 5 * SECOND, Random(seed))
    walk.go(fates)
    return walk


@given(
    fates=FATES,
    on_unknown=st.sampled_from(OnUnknown),
    most=st.integers(1, 10),
    life=st.timedeltas(SECOND, 20 * MINUTE),
    seed=st.integers(),
)
def test_every_life_ends_in_a_state_that_is_an_end(
    fates: list[Fate], on_unknown: OnUnknown, most: int, life: timedelta, seed: int
) -> None:
    walk = a_walk(fates, on_unknown=on_unknown, most=most, life=life, seed=seed)
    assert walk.row.status not in UNFINISHED
    assert walk.row.attempt <= most
    assert walk.retried_unknowns <= (1 if on_unknown is OnUnknown.RETRY else 0)


@given(fates=FATES, most=st.integers(1, 10), life=st.timedeltas(SECOND, 20 * MINUTE), seed=st.integers())
def test_a_held_delivery_is_never_claimed_again_after_an_unknown(
    fates: list[Fate], most: int, life: timedelta, seed: int
) -> None:
    walk = a_walk(fates, on_unknown=OnUnknown.HOLD, most=most, life=life, seed=seed)
    assert Status.UNKNOWN not in walk.path[:-1]


@given(most=st.integers(1, 10), seed=st.integers())
def test_a_provider_that_loses_every_answer_is_called_twice_at_most(most: int, seed: int) -> None:
    walk = a_walk([Unknown("reset")], on_unknown=OnUnknown.RETRY, most=most, life=20 * MINUTE, seed=seed)
    assert walk.claims <= 2
    assert walk.row.status is Status.UNKNOWN


@given(most=st.integers(1, 10), life=st.timedeltas(4 * SECOND, 1440 * MINUTE), seed=st.integers())
def test_what_is_deferred_for_all_its_life_expires_and_never_fails(most: int, life: timedelta, seed: int) -> None:
    deferral = Transient("deferred", is_outage=False, is_deferral=True)
    walk = a_walk([deferral], on_unknown=OnUnknown.RETRY, most=most, life=life, seed=seed)
    assert walk.row.status is Status.EXPIRED
    assert walk.claims <= 200


@given(most=st.integers(1, 10), seed=st.integers())
def test_workers_that_die_between_deferrals_still_use_up_the_attempts(most: int, seed: int) -> None:
    deferral = Transient("deferred", is_outage=False, is_deferral=True)
    fates: list[Fate] = [deferral, "dies_before_call"]
    walk = a_walk(fates, on_unknown=OnUnknown.RETRY, most=most, life=1440 * MINUTE, seed=seed)
    assert walk.row.status is Status.FAILED
    assert walk.row.attempt == most
