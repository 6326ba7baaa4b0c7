"""Which lanes each pool serves, in what order; what beat asks for; and how Celery is set up."""

from __future__ import annotations

import os
import time
from datetime import timedelta

import pytest

from notifier.brokers import ANSWER_SECONDS
from notifier.queues import CLOCKS_APART, CONTROL_QUEUE
from notifier.settings import PREFIX, Settings, load
from workers.pools import pools
from workers.schedule import schedule

URGENT = ("v1.urgent.email", "v1.urgent.push", "v1.urgent.desktop")
BULK = ("v1.bulk.email", "v1.bulk.push", "v1.bulk.desktop")


def settings(**values: str) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            patch.delenv(name)
        for name, value in values.items():
            patch.setenv(f"{PREFIX}{name.upper()}", value)
        load.cache_clear()
        try:
            return load()
        finally:
            load.cache_clear()


def test_urgent_serves_urgent_lanes_only_and_bulk_helps_it_and_reads_it_first() -> None:
    """That is what isolates urgent: no bulk message can ever hold up the urgent pool."""
    made = pools(settings())
    assert {name: pool.queues for name, pool in made.items()} == {
        "urgent": URGENT,
        "bulk": URGENT + BULK,
        "control": (CONTROL_QUEUE,),
    }
    assert all(pool.name == name for name, pool in made.items())


def test_each_pool_has_the_processes_that_were_set() -> None:
    made = pools(settings(urgent_concurrency="3", bulk_concurrency="5", control_concurrency="2"))
    assert [made[name].concurrency for name in ("urgent", "bulk", "control")] == [3, 5, 2]


@pytest.mark.parametrize("every", [1.0, 0.5, 30.0])
def test_beat_asks_for_a_sweep_that_expires_though_not_by_clocks_that_are_apart(every: float) -> None:
    entry = schedule(settings(sweep_every=str(every)))["sweep"]
    assert (entry["task"], entry["schedule"].run_every) == ("sweep", timedelta(seconds=every))
    assert entry["options"] == {
        "queue": CONTROL_QUEUE,
        "expires": 2 * every + CLOCKS_APART.total_seconds(),
        "confirm_timeout": ANSWER_SECONDS,
    }


def test_beats_rounds_go_by_a_clock_that_nobody_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's own `now` is the wall's clock: set back, it would be the next round's turn only much later."""
    every = schedule(settings(sweep_every="1"))["sweep"]["schedule"]
    began, passed = every.now(), time.monotonic() + 1.5
    assert not every.is_due(began).is_due
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: passed)
    assert every.is_due(began).is_due


@pytest.mark.parametrize(("every", "walks"), [("1", 1.0), ("0.5", 0.5), ("30", 1.0)])
def test_beat_asks_for_a_walk_at_least_once_a_second(every: str, walks: float) -> None:
    """However seldom it sweeps: a campaign's start and its pace are felt within a second or two."""
    entry = schedule(settings(sweep_every=every))["walk"]
    assert (entry["task"], entry["schedule"].run_every) == ("walk", timedelta(seconds=walks))
    assert entry["options"] == {
        "queue": CONTROL_QUEUE,
        "expires": 2 * walks + CLOCKS_APART.total_seconds(),
        "confirm_timeout": ANSWER_SECONDS,
    }
