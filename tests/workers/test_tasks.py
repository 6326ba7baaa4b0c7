"""Tasks are doors: two lines each, open to what a newer release may say."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from notifier.queues import CONTROL_QUEUE
from notifier.settings import Settings


def ours(app: Celery) -> dict[str, Callable[..., Any]]:
    """The functions of our own tasks by name."""
    return {name: task.run for name, task in app.tasks.items() if not name.startswith("celery.")}


def test_there_are_these_tasks_and_no_other(app: Celery) -> None:
    assert set(ours(app)) == {"deliver", "sweep", "walk", "clean_up"}


def test_a_task_has_a_docstring_and_one_statement(app: Celery) -> None:
    """What it does lives in `notifier`, where it can be tested without a broker."""
    for function in ours(app).values():
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
        assert isinstance(definition, ast.FunctionDef)
        assert ast.get_docstring(definition)
        assert len(definition.body) == 2


def test_a_task_takes_any_keyword_and_needs_none(app: Celery) -> None:
    """A newer release may say more than this one knows: its message must not fail here."""
    for function in ours(app).values():
        (parameter,) = inspect.signature(function).parameters.values()
        assert parameter.kind is inspect.Parameter.VAR_KEYWORD


def test_no_task_is_tried_again_by_celery(app: Celery) -> None:
    for name in ours(app):
        task = app.tasks[name]
        assert not getattr(task, "autoretry_for", ())
        assert task.ignore_result


def test_a_message_may_come_twice_and_none_is_lost_with_its_worker(app: Celery) -> None:
    conf = app.conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1


def test_a_task_ends_before_a_lease_does(app: Celery) -> None:
    lease = Settings.model_fields["lease"].default
    assert 0 < app.conf.task_soft_time_limit < app.conf.task_time_limit < lease


def test_a_worker_waits_for_its_broker_as_long_as_it_takes(app: Celery) -> None:
    assert app.conf.broker_connection_retry_on_startup
    assert app.conf.broker_connection_max_retries is None


def test_nobody_commands_a_worker_through_the_broker_unless_asked(app: Celery) -> None:
    assert not app.conf.worker_enable_remote_control
    assert not app.conf.worker_send_task_events


@pytest.mark.parametrize("name", ["result_backend", "task_routes", "task_annotations"])
def test_what_would_bring_results_or_other_queues_in_is_not_set(name: str, app: Celery) -> None:
    assert not app.conf[name]


def test_what_beat_asks_for_is_a_task_that_there_is_in_a_queue_that_is_read(app: Celery) -> None:
    for entry in app.conf.beat_schedule.values():
        assert entry["task"] in ours(app)
        assert entry["options"]["queue"] == CONTROL_QUEUE
