"""Celery's configuration: queues, limits, serializer, and the house each process opens.

Run as `python -m workers POOL` or `celery -A workers.app worker -Q v1.urgent.email,…`.
"""

from __future__ import annotations

from typing import Any

import billiard.pool
from celery import signals

from notifier import bootstrap
from notifier.queues import celery_app
from notifier.settings import load
from workers import broker, watch
from workers.schedule import schedule

settings = load()
broker.mend(settings.broker)

#: Celery's own limits on a task, a last resort: provider calls have shorter ones of their own.
SOFT_LIMIT_SECONDS = int(settings.lease * 0.5) or 1
HARD_LIMIT_SECONDS = int(settings.lease * 0.8) or 2

app = celery_app(
    settings.broker,
    imports=["workers.tasks"],
    # The row decides, so a message may come twice; losing one is mended by the sweeper.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_soft_time_limit=SOFT_LIMIT_SECONDS,
    task_time_limit=HARD_LIMIT_SECONDS,
    worker_max_tasks_per_child=100_000,
    worker_max_memory_per_child=512_000,  # KiB
    worker_eta_task_limit=100,  # we send none; a forged one must not pin memory
    worker_enable_remote_control=settings.worker_remote_control,
    worker_send_task_events=settings.worker_remote_control,
    worker_soft_shutdown_timeout=settings.shutdown_grace,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    beat_schedule=schedule(settings),
    beat_max_loop_interval=min(1.0, settings.sweep_every),
)


watch.add_to(app, settings)

# billiard 4.3 lets a child that ends wait 30 s for its parent to have read what it said last. A parent that was told
# to stop may have thrown the job away before the child had said that it took it, and then reads nothing (celery's
# AsynPool.flush): every second restart under load took half a minute. All that is unread is that a hint is done.
billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20  # of 0.1 s each


@signals.setup_logging.connect
def _logging(**_: Any) -> None:
    bootstrap.prepare()


@signals.worker_process_init.connect
def _open(**_: Any) -> None:
    from workers import house  # not before the fork: it opens an event loop

    house.open(settings, app)


@signals.worker_process_shutdown.connect
def _close(**_: Any) -> None:
    from workers import house

    house.close()
