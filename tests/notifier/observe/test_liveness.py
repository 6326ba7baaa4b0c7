"""Who is alive, who hangs, and who only waits for a broker."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from notifier.observe import liveness
from notifier.observe.liveness import Children, Liveness, Sign


class Clock:
    """`time`, as far as liveness reads it."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + 1_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(liveness, "time", clock)
    return clock


def test_who_gives_signs_is_alive_and_who_gives_none_hangs(clock: Clock) -> None:
    role = Liveness(limit=60, does="tick")
    clock.now += 59
    assert role.verdict() == (True, "tick 59 s ago")
    clock.now += 2
    assert role.verdict() == (False, "hangs: last tick 61 s ago, and 60 s is the limit")
    role.sign()
    assert role.verdict()[0]


def test_the_last_sign_is_told_as_a_date_and_none_was_before_the_first(clock: Clock) -> None:
    role = Liveness(limit=60, does="tick")
    assert role.signed_at is None
    role.sign()
    clock.now += 7
    assert role.signed_at == 1_001_000


def test_a_worker_whose_processes_are_all_busy_may_be_silent_for_as_long_as_a_task(clock: Clock) -> None:
    role = Liveness(limit=60, does="look", is_busy=lambda: True, busy_limit=48)
    clock.now += 107
    assert role.verdict()[0]
    clock.now += 2
    assert not role.verdict()[0]


@pytest.fixture
def watched() -> Iterator[Liveness]:
    """A role that gives no sign, and whose broker is away until a test says otherwise."""
    role = Liveness(limit=0.3, does="look", broker_answers=lambda: is_there[0])
    is_there = [False]
    role.is_there = is_there  # type: ignore[attr-defined]
    yield role
    role.close()


def test_who_waits_for_a_broker_is_alive_until_some_time_after_it_is_back(
    watched: Liveness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "LOOK_SECONDS", 0.02)
    watched.watch()
    time.sleep(0.6)
    is_alive, says = watched.verdict()
    assert is_alive, says
    assert says.startswith("the broker is away")
    watched.is_there[0] = True  # type: ignore[attr-defined]
    give_up = time.monotonic() + 10
    while watched.verdict()[0]:
        assert time.monotonic() < give_up, "it never reconnects, and nobody says so"
        time.sleep(0.02)
    assert watched.verdict()[1].startswith("hangs")


def test_each_child_must_turn(tmp_path: Path, clock: Clock) -> None:
    children = Children(tmp_path)
    role = Liveness(limit=60, does="look", children=children)
    children.born(os.getpid())
    children.born(1)
    sign = Sign(tmp_path)
    clock.now += 50
    assert role.verdict()[0], "it has as long as any other to give its first sign"
    sign.give()
    role.sign()
    clock.now += 20
    assert role.verdict() == (False, "1 of 2 processes hang: no turn of their loop for 70 s")
    children.gone(1)
    assert role.verdict()[0], "it was replaced"
    clock.now += 50
    role.sign()
    assert role.verdict() == (False, "1 of 1 processes hang: no turn of their loop for 70 s")
    children.gone(os.getpid())
    sign.close()
    assert not list(tmp_path.iterdir())
