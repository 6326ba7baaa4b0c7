"""A worker process that ends does not wait long for a parent that reads no more (F27 stops real ones under load)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import billiard.pool
import pytest
from celery import Celery


def test_a_process_that_ends_waits_two_seconds_for_its_parent(monkeypatch: pytest.MonkeyPatch, app: Celery) -> None:
    assert app.conf.task_acks_late  # so what the parent has not read comes again, and the row decides
    slept: list[float] = []
    monkeypatch.setattr(billiard.pool, "time", SimpleNamespace(sleep=slept.append))
    worker: Any = billiard.pool.Worker
    ending = SimpleNamespace(on_ready_counter=SimpleNamespace(value=0))
    assert not worker._ensure_messages_consumed(ending, completed=1)
    assert sum(slept) == pytest.approx(2)
