"""What a worker tells of itself: its tasks, its children that end, and whether it consumes.

Its parent shows them (/metrics, /livez). A worker is alive while its broker's answers come in: each BRPOP is answered
after a second at the latest (each poll of SQS after four), with a message or without, so an old answer means that no
queue is read, whatever else still turns.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from billiard.pool import EX_RECYCLE
from celery import Celery, bootsteps, signals
from celery.worker.components import Pool

from notifier import bootstrap
from notifier.observe import exposition, metrics
from notifier.observe.exposition import Endpoint
from notifier.observe.liveness import Children, Liveness
from notifier.settings import Settings
from workers import ROLE, broker

_endpoint: Endpoint | None = None
_settings: Settings | None = None
_memory_limit_kib = 0
_began: dict[str, float] = {}
_is_stopping = False


class Watch(bootsteps.StartStopStep):
    """Shows a worker's metrics from its first fork on, while there is a broker and while there is none."""

    requires = (Pool,)

    def include_if(self, worker: Any) -> bool:  # noqa: ARG002  # Celery asks
        return exposition.folder() is not None

    def start(self, worker: Any) -> None:
        global _endpoint
        folder = exposition.folder()
        assert folder is not None
        assert _settings is not None
        children = Children(folder)
        self.liveness = Liveness(
            limit=_settings.liveness_limit,
            does="look into the queues",
            broker_answers=lambda: broker_answers(worker.app),
            is_busy=lambda: is_full(worker.consumer),
            busy_limit=worker.app.conf.task_time_limit,
            children=children,
        )
        _tend(worker.pool._pool, children)
        broker.on_poll = self.liveness.sign
        metrics.LAST_POLL.follow(lambda: {(ROLE,): at} if (at := self.liveness.signed_at) else {})
        _endpoint = bootstrap.endpoint(_settings, ROLE, self.liveness)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """RabbitMQ is not asked, it sends: no more is known than that the loop turns, and is connected."""
        connection = worker.consumer.connection
        if connection.transport.driver_type == "amqp":

            def turned() -> None:
                if connection.connected:
                    self.liveness.sign()

            hub.call_repeatedly(1.0, turned)


def add_to(app: Celery, settings: Settings) -> None:
    """Watch this worker."""
    global _settings, _memory_limit_kib
    _settings, _memory_limit_kib = settings, app.conf.worker_max_memory_per_child
    app.steps["worker"].add(Watch)


def broker_answers(app: Celery) -> bool:
    """Whether somebody who connects to the broker now is answered."""
    try:
        with app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            return True
    except Exception:  # whatever its client raises: it does not answer
        return False


def is_full(consumer: Any) -> bool:
    """Whether a consumer asks for no message since all its processes have one."""
    channel = getattr(getattr(consumer, "task_consumer", None), "channel", None)
    qos = getattr(channel, "qos", None)  # with RabbitMQ it is the broker that counts
    return qos is not None and not qos.can_consume()


def _tend(pool: Any, children: Children) -> None:
    """Learn of children that are forked and that end."""

    def born(process: Any) -> None:
        children.born(process.pid)

    def gone(process: Any) -> None:
        children.gone(process.pid)
        exposition.forget(process.pid)
        if not _is_stopping and process.exitcode not in (0, EX_RECYCLE):
            metrics.RESTARTS.labels(ROLE, "killed").inc()

    for process in pool._pool:
        born(process)
    make: Any = pool._create_process_handlers

    def make_and_tend(hub: Any) -> None:
        # Celery makes its handlers anew whenever it has reconnected.
        make(hub)
        up, down = pool.on_process_up, pool.on_process_down
        pool.on_process_up = partial(_both, up, born)
        pool.on_process_down = partial(_both, down, gone)

    pool._create_process_handlers = make_and_tend


def _both(first: Callable[[Any], None], second: Callable[[Any], None], process: Any) -> None:
    first(process)
    second(process)


# -- signals; in a child, but for `worker_shutting_down` --


@signals.worker_shutting_down.connect
def _stopping(**_: Any) -> None:
    global _is_stopping
    _is_stopping = True


@signals.worker_process_init.connect
def _let_go(**_: Any) -> None:
    if _endpoint is not None:
        _endpoint.let_go()


@signals.worker_process_shutdown.connect
def _ended(exitcode: int = 0, **_: Any) -> None:
    if exitcode == EX_RECYCLE:
        # As Celery judges: by the most that the process ever had.
        why = "memory" if _memory_kib() > _memory_limit_kib else "tasks"
        metrics.RESTARTS.labels(ROLE, why).inc()


@signals.task_prerun.connect
def _begins(task_id: str = "", **_: Any) -> None:
    _began[task_id] = time.monotonic()


@signals.task_postrun.connect
def _ends(task_id: str = "", task: Any = None, **_: Any) -> None:
    if (began := _began.pop(task_id, None)) is not None:
        metrics.TASK_SECONDS.labels(task.name).observe(time.monotonic() - began)


@signals.task_failure.connect
def _fails(sender: Any = None, exception: BaseException | None = None, **_: Any) -> None:
    metrics.TASK_ERRORS.labels(sender.name, type(exception).__name__).inc()


def _memory_kib() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most >> 10 if sys.platform == "darwin" else most
