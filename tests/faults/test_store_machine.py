"""Thousands of schedules of claims, crashes, late results, sweeps and cancellations, all drawn by Hypothesis.

`NOTIFIER_TEST_SEED` chooses other schedules for the long run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from notifier.domain.notification import Lane, OnUnknown
from notifier.store.database import Database
from tests.faults import store_checks
from tests.faults.store_world import LANES_IN_USE, PEOPLE, Answer, Work, World

T = TypeVar("T")

PICK = st.integers(0, 11)
OFTEN_NOT = st.sampled_from([False, False, False, True])
VERBS = st.sampled_from(["pause", "resume"] * 4 + ["cancel", "cancel_halfway"])
SECONDS = st.sampled_from([1, 6, 31, 61, 400])
#: Rounds in which everything comes to rest, each long enough for a lease and most retries.
ROUNDS = 60
#: In the first of them the provider is as it was.
MOODY = 4


class StoreMachine(RuleBasedStateMachine):
    """A store, whatever happens to it. Each rule is one thing that may happen; the checks follow each."""

    #: One loop and one pool for all runs: opening them costs more than a run.
    runner: ClassVar[asyncio.Runner]
    store: ClassVar[Database]
    eye: ClassVar[asyncpg.Connection]

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.store, self.eye)
        self.runner.run(self.world.empty())

    # -- what callers do --

    @rule(
        lane=st.sampled_from(LANES_IN_USE[:2]),
        on_unknown=st.sampled_from(OnUnknown),
        life=st.sampled_from([3, 70, 3600]),
        max_attempts=st.sampled_from([1, 2, 4]),
        send_in=st.sampled_from([0, 0, 0, 2]),
        count=st.integers(1, 3),
    )
    def accept(self, **asked: Any) -> None:
        self.runner.run(self.world.accept(**asked))

    @precondition(lambda self: len(self.world.campaigns) < 2)
    @rule(on_unknown=st.sampled_from(OnUnknown))
    def plan_a_campaign(self, on_unknown: OnUnknown) -> None:
        self.runner.run(self.world.plan(on_unknown))

    @precondition(lambda self: self.world.notifications)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        self.runner.run(self.world.cancel(one(self.world.notifications, pick)))

    @precondition(lambda self: self.world.campaigns)
    @rule(pick=PICK, verb=VERBS)
    def change_a_campaign(self, pick: int, verb: str) -> None:
        self.runner.run(self.world.change(one(self.world.campaigns, pick), verb))

    @precondition(lambda self: self.world.has_failures)
    @rule(life=st.sampled_from([None, 70, 3600]))
    def replay_dead_letters(self, life: int | None) -> None:
        self.runner.run(self.world.replay(life))

    # -- what the control pool does --

    @precondition(lambda self: self.world.campaigns)
    @rule(pick=PICK, killed=OFTEN_NOT)
    def walk(self, pick: int, killed: bool) -> None:
        self.runner.run(self.world.walk(one(self.world.campaigns, pick), killed=killed))

    @rule(with_hints=st.booleans(), early=st.booleans(), killed=OFTEN_NOT)
    def sweep(self, **how: bool) -> None:
        self.runner.run(self.world.sweep(**how))

    # -- what becomes of hints --

    @precondition(lambda self: self.world.hints)
    @rule(pick=PICK, repeated=OFTEN_NOT, killed=OFTEN_NOT)
    def deliver_a_hint(self, pick: int, repeated: bool, killed: bool) -> None:
        lane, ids = self._hint(pick, stays=repeated)
        self.runner.run(self.world.claim(lane, ids, killed=killed))

    @precondition(lambda self: self.world.hints)
    @rule(pick=PICK, answer=st.sampled_from(Answer))
    def deliver_a_hint_to_its_end(self, pick: int, answer: Answer) -> None:
        lane, ids = self._hint(pick, stays=False)
        self.runner.run(self.world.deliver(lane, ids, answer))

    @precondition(lambda self: self.world.hints)
    @rule(pick=PICK)
    def lose_a_hint(self, pick: int) -> None:
        self._hint(pick, stays=False)

    @precondition(lambda self: self.world.hints)
    @rule(pick=PICK, lane=st.sampled_from(LANES_IN_USE))
    def forge_a_hint(self, pick: int, lane: Lane) -> None:
        _, ids = self._hint(pick, stays=True)
        self.runner.run(self.world.claim(lane, [*ids, *ids, 1 << 60]))

    @precondition(lambda self: self.world.hints)
    @rule(pick=PICK)
    def deliver_a_hint_to_two_at_once(self, pick: int) -> None:
        self.runner.run(self.world.claim_at_once(*self._hint(pick, stays=False)))

    @precondition(lambda self: self.world.hints and self.world.notifications)
    @rule(pick=PICK, other=PICK)
    def deliver_a_hint_while_somebody_cancels(self, pick: int, other: int) -> None:
        lane, ids = self._hint(pick, stays=False)
        self.runner.run(self.world.claim_meets_cancel(lane, ids, one(self.world.notifications, other)))

    @precondition(lambda self: self.world.hints)
    @rule(pick=PICK)
    def find_no_budget(self, pick: int) -> None:
        self.runner.run(self.world.put_off(*self._hint(pick, stays=False)))

    # -- what a worker does --

    @precondition(lambda self: any(work.is_begun is None for work in self.world.works))
    @rule(pick=PICK, count=st.integers(1, 3))
    def begin_calls(self, pick: int, count: int) -> None:
        claimed = [work for work in self.world.works if work.is_begun is None]
        self.runner.run(self.world.begin(apart(some(claimed, pick, count))))

    @precondition(lambda self: any(work.is_begun and not work.is_over for work in self.world.works))
    @rule(pick=PICK, answer=st.sampled_from(Answer))
    def call(self, pick: int, answer: Answer) -> None:
        self.world.call(one([work for work in self.world.works if work.is_begun and not work.is_over], pick), answer)

    @precondition(lambda self: any(work.is_over for work in self.world.works))
    @rule(pick=PICK, count=st.integers(1, 3), killed=OFTEN_NOT)
    def record(self, pick: int, count: int, killed: bool) -> None:
        over = some([work for work in self.world.works if work.is_over], pick, count)
        self.runner.run(self.world.record(apart(over), killed=killed))

    @precondition(lambda self: any(work.is_over for work in self.world.works))
    @rule(pick=PICK)
    def record_while_the_sweeper_gives_up(self, pick: int) -> None:
        over = [work for work in self.world.works if work.is_over]
        self.runner.run(self.world.sweep_meets_record(one(over, pick)))

    @precondition(lambda self: self.world.works)
    @rule(pick=PICK)
    def die(self, pick: int) -> None:
        self.world.works.remove(one(self.world.works, pick))

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: int) -> None:
        self.runner.run(self.world.passes(seconds))

    # -- what must hold --

    @invariant()
    def holds(self) -> None:
        self.runner.run(store_checks.after_a_step(self.world))

    def teardown(self) -> None:
        """Everything heals and comes to its end; those who overslept report what they know, too."""
        self.runner.run(self._heal())
        self.runner.run(store_checks.after_a_step(self.world))
        self.runner.run(store_checks.at_rest(self.world))

    async def _heal(self) -> None:
        world = self.world
        for campaign in world.campaigns:
            await world.change(campaign, "resume")
        for number in range(ROUNDS):
            for row in await self.eye.fetch("SELECT id FROM campaigns WHERE due_at IS NOT NULL ORDER BY id"):
                await world.walk(UUID(str(row["id"])))
            await world.sweep(early=True)
            for lane, ids in world.hints:
                await world.claim(lane, ids)
            world.hints.clear()
            await self._work(moody=number < MOODY)
            if await self._is_quiet():
                return
            await world.passes(61)
        raise AssertionError(f"I2: after {ROUNDS} rounds there is still something to be done")

    async def _work(self, *, moody: bool) -> None:
        """Every worker goes on where it stood; the provider takes what it is given, or does as it likes."""
        world = self.world
        while claimed := [work for work in world.works if work.is_begun is None]:
            await world.begin(apart(claimed))
        for work in world.works:
            if work.is_begun and not work.is_over:
                world.call(work, world.rng.choice(list(Answer)) if moody else Answer.ACCEPTS)
        while world.works:
            await world.record(apart(world.works))

    async def _is_quiet(self) -> bool:
        waiting = "SELECT count(*) FROM deliveries WHERE due_at IS NOT NULL"
        walking = "SELECT count(*) FROM campaigns WHERE due_at IS NOT NULL"
        return not await self.eye.fetchval(f"SELECT ({waiting}) + ({walking})")

    def _hint(self, pick: int, *, stays: bool) -> tuple[Lane, tuple[int, ...]]:
        hints = self.world.hints
        return hints[pick % len(hints)] if stays else hints.pop(pick % len(hints))


def one(some: Sequence[T], pick: int) -> T:
    return some[pick % len(some)]


def some(all: Sequence[T], pick: int, count: int) -> Sequence[T]:
    """`count` neighbours of a sequence at most, from one that is picked."""
    first = pick % len(all)
    return all[first : first + count]


def apart(works: Sequence[Work]) -> Sequence[Work]:
    """The first of each delivery: two attempts at one are in the hands of two workers, and in no statement together."""
    return list({work.claim.id: work for work in reversed(works)}.values())


Drive = Callable[[type[StoreMachine], settings], None]


@pytest.fixture
def drive(store_url: str) -> Iterator[Drive]:
    """Runs a machine on a database of its own connections, on a loop of its own."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        StoreMachine.runner = runner
        StoreMachine.store = Database(store_url, pool_size=5, application="machine")
        StoreMachine.eye = runner.run(asyncpg.connect(store_url))
        runner.run(_prepare(StoreMachine.eye))
        yield lambda machine, how: run_state_machine_as_test(machine, settings=how)
        runner.run(StoreMachine.eye.close())
        runner.run(StoreMachine.store.close())


async def _prepare(eye: asyncpg.Connection) -> None:
    """A directory of people with a phone, in an empty database."""
    await eye.execute(
        "TRUNCATE services, notifications, campaigns, campaign_chunks, deliveries, delivery_events, recipients CASCADE"
    )
    await eye.execute(f"INSERT INTO recipients (service_id, id) SELECT 1, generate_series(1, {PEOPLE})")
    await eye.execute(
        "INSERT INTO devices (service_id, token, recipient_id, platform) SELECT 1, 'token-' || id, id, 'android' "
        "FROM recipients"
    )


PROFILE = settings(database=None, stateful_step_count=30, print_blob=True, suppress_health_check=list(HealthCheck))


@pytest.mark.timeout(600)  # takes so long only to make a failure small
def test_no_schedule_of_crashes_breaks_a_promise(drive: Drive) -> None:
    """I2 to I5 and I8 to I12 hold after each step of fifty schedules, which are the same every time."""
    drive(StoreMachine, settings(PROFILE, max_examples=50, derandomize=True))


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_no_schedule_out_of_thousands_breaks_a_promise(drive: Drive) -> None:
    """The same for longer, from the seed in NOTIFIER_TEST_SEED (1 if there is none)."""
    long = seed(int(os.environ.get("NOTIFIER_TEST_SEED", "1")))(type("LongMachine", (StoreMachine,), {}))
    drive(long, settings(PROFILE, max_examples=2000, stateful_step_count=50))
