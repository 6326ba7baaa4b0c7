"""The clock asks for rounds in time, and costs next to nothing meanwhile."""

from __future__ import annotations

import pytest
from celery.beat import PersistentScheduler


@pytest.mark.usefixtures("app")
def test_beat_sleeps_even_when_a_round_is_all_but_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's wakes 10 ms early, and then says "at once" until it is time: it ticked a thousand times a round."""
    from workers.beat import Scheduler  # it reads the settings

    monkeypatch.setattr(PersistentScheduler, "tick", lambda _: -0.004)
    assert Scheduler.__new__(Scheduler).tick() > 0
    monkeypatch.setattr(PersistentScheduler, "tick", lambda _: 0.7)
    assert Scheduler.__new__(Scheduler).tick() == 0.7
