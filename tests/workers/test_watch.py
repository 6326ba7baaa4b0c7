"""What a worker counts of its tasks and of its children's ends."""

from __future__ import annotations

from typing import Any

import pytest
from billiard.pool import EX_RECYCLE
from celery import Celery, signals
from prometheus_client import REGISTRY

from notifier.queues import celery_app
from workers import watch


def restarts(why: str) -> float:
    return REGISTRY.get_sample_value("notifier_worker_restarts_total", {"pool": "worker", "why": why}) or 0.0


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(("limit", "why"), [(1, "memory"), (1 << 40, "tasks")])
def test_a_child_that_is_recycled_says_why(limit: int, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_memory_limit_kib", limit)
    monkeypatch.setattr(watch, "ROLE", "worker")
    before = restarts(why)
    watch._ended(exitcode=EX_RECYCLE)
    assert restarts(why) == before + 1
    watch._ended(exitcode=0)
    assert restarts(why) == before + 1, "at the end of a worker nobody is replaced"


def test_a_task_is_timed_and_its_error_counted_by_its_type(app: Celery) -> None:
    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    timed = value("notifier_task_seconds_count", task="sweep")
    failed = value("notifier_task_errors_total", task="sweep", type="ZeroDivisionError")
    sweep: Any = app.tasks["sweep"]
    signals.task_prerun.send(sender=sweep, task_id="1", task=sweep)
    signals.task_failure.send(sender=sweep, task_id="1", exception=ZeroDivisionError())
    signals.task_postrun.send(sender=sweep, task_id="1", task=sweep)
    assert value("notifier_task_seconds_count", task="sweep") == timed + 1
    assert value("notifier_task_errors_total", task="sweep", type="ZeroDivisionError") == failed + 1
    assert not watch._began


def test_who_cannot_reach_a_broker_is_told_so() -> None:
    assert not watch.broker_answers(celery_app("redis://127.0.0.1:1/0"))
