"""Lanes as queues, the envelope of a hint, and publishing: Celery as producer only.

A hint names deliveries to claim, and nothing more: losing, repeating, delaying or forging one
changes nothing but latency. So publishing is best effort and never makes a caller wait: it
happens on a thread of its own, and when the broker is away hints are dropped and counted. The
sweeper makes new ones.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from typing import Any

from celery import Celery
from kombu import Producer, Queue

from notifier import brokers
from notifier.domain.notification import LANES, Lane, Priority
from notifier.domain.origin import Origin
from notifier.observe import logs, metrics

#: Raised when the meaning of a hint changes. A worker leaves envelopes it does not know to a newer one.
ENVELOPE = 1
#: Deliveries one hint names at most.
HINT_SIZE = 100
CONTROL_QUEUE = "v1.control"
#: How far the clocks of two machines may be apart. Celery compares a message's `expires` with the reader's own clock:
#: with less than this, a worker whose clock runs ahead would throw away every hint it gets.
CLOCKS_APART = timedelta(minutes=30)
QUEUES = (*(lane.queue for lane in LANES), CONTROL_QUEUE)
#: Hints waiting for the publisher at most; beyond that the sweeper will do.
_WAITING = 10_000
#: After a failure the broker is left alone for so long, so that a dead one costs one timeout, not one per hint.
_PAUSE_SECONDS = 1.0

log = logs.get(__name__)

#: Who asked for a hint's deliveries: requests in the order of its ids, each with how many of them are its own.
Requests = tuple[tuple[Origin | None, int], ...]


class HintNotUnderstood(Exception):
    """The message is not a hint that this release knows. It is dropped; the sweeper makes another."""


@dataclass(frozen=True, slots=True)
class Hint:
    """Deliveries of one lane that are ready to be claimed. `hinted_at` is the sender's clock, for the timeline only.

    `requests` is for logs and traces, and empty if nobody knows: a hint of the sweeper, the walker or an older release.
    """

    lane: Lane
    ids: tuple[int, ...]
    hinted_at: float
    by: str
    requests: Requests = ()

    def message(self) -> dict[str, Any]:
        """The task's keyword arguments."""
        told = {"v": ENVELOPE, "lane": str(self.lane), "ids": list(self.ids), "at": self.hinted_at, "by": self.by}
        if not self.requests:
            return told
        named = [(origin and origin.request_id, origin and origin.traceparent, n) for origin, n in self.requests]
        return told | {"requests": [list(each) for each in named]}

    def origins(self) -> dict[int, Origin]:
        """The request that each delivery comes from, by its id, as far as it is known."""
        spread = (origin for origin, count in self.requests for _ in range(count))
        return {id: origin for id, origin in zip(self.ids, spread, strict=False) if origin is not None}

    @classmethod
    def parse(cls, message: Mapping[str, Any]) -> Hint:
        """Read a message; fields added by a newer release are passed over."""
        if (version := message.get("v")) != ENVELOPE:
            raise HintNotUnderstood(f"envelope version {version if type(version) is int else type(version).__name__}")
        try:
            ids = tuple(int(id) for id in message["ids"])[:HINT_SIZE]
            at = float(message.get("at", 0.0))
            datetime.fromtimestamp(at, UTC)  # must be a moment: it is written down with what becomes of the hint
            by = "".join(char for char in str(message.get("by", ""))[:16] if char.isprintable())
            hint = cls(Lane.parse(str(message["lane"])), ids, at, by, _requests(message.get("requests"), len(ids)))
        except (KeyError, TypeError, ValueError, OverflowError, OSError, RecursionError) as error:
            raise HintNotUnderstood(type(error).__name__) from error
        if not all(0 <= id < 1 << 63 for id in ids):
            raise HintNotUnderstood("ids out of range")
        return hint


def _requests(told: object, size: int) -> Requests:
    """What a message says of requests, () if it makes no sense: a hint is good without, so it is never left for it."""
    if not isinstance(told, list) or len(told) > size:
        return ()
    found = []
    for each in told:
        if not (isinstance(each, list) and len(each) == 3 and type(each[2]) is int and each[2] > 0):
            return ()
        found.append((Origin.read(each[0], each[1]), each[2]))
    return tuple(found) if sum(count for _, count in found) == size else ()


def hints(
    born: Iterable[tuple[int, Lane]], *, by: str, size: int = HINT_SIZE, origins: Mapping[int, Origin] | None = None
) -> list[Hint]:
    """Hints for deliveries given as (id, lane): by lane, `size` to a hint at most, ids in order, urgent first.

    `origins` has the requests that asked for them, by id. Requests that were committed together share hints as before,
    for a message each would cost more than the commit; so a hint tells of each of its requests.
    """
    by_lane: dict[Lane, list[int]] = {}
    for id, lane in born:
        by_lane.setdefault(lane, []).append(id)
    at = time.time()
    return [
        Hint(lane, tuple(group), at, by, _runs(group, origins or {}))
        for lane in sorted(by_lane, key=LANES.index)
        for group in _batched(sorted(by_lane[lane]), min(size, HINT_SIZE))
    ]


def _runs(ids: Sequence[int], origins: Mapping[int, Origin]) -> Requests:
    if not any(id in origins for id in ids):
        return ()
    return tuple((origin, len(list(run))) for origin, run in groupby(ids, key=origins.get))


def celery_app(broker_url: str, **settings: Any) -> Celery:
    """A Celery application with what producer and worker must agree on."""
    broker = brokers.broker(broker_url, queues=QUEUES)
    app = Celery("notifier", set_as_current=False)
    app.conf.update(
        broker_url=broker.url,
        broker_use_ssl=broker.tls,
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        # Without a key of its own each queue would be bound to the default one's: RabbitMQ keeps bindings.
        task_queues=[Queue(name, routing_key=name, queue_arguments=dict(broker.queue_arguments)) for name in QUEUES],
        task_default_queue=CONTROL_QUEUE,
        task_default_delivery_mode="persistent" if broker.is_persistent else "transient",
        task_create_missing_queues=False,
        # A half-open connection hung a publish for 60 s without these.
        broker_connection_timeout=brokers.CONNECT_SECONDS,
        broker_transport_options=dict(broker.options),
        **settings,
    )
    return app


class Publisher:
    """Sends hints from a thread of its own. `publish` returns at once, whatever the broker does."""

    def __init__(self, app: Celery, *, life: Mapping[Priority, timedelta]) -> None:
        self._app = app
        self._life = life
        self._watcher = brokers.Watcher(app)
        self._counts_exactly = brokers.counts_exactly(app)
        self._waiting: queue.Queue[Hint | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._paused_until = 0.0
        #: The thread's own. Celery's pool, once closed by force, refused every later publish for good.
        self._producer: Producer | None = None

    def publish(self, hints: Sequence[Hint]) -> None:
        """Hand hints to the thread. When too many wait already, the rest is dropped, and counted."""
        self._start()
        for position, hint in enumerate(hints):
            try:
                self._waiting.put_nowait(hint)
            except queue.Full:
                metrics.HINTS_LOST.labels("backlog").inc(len(hints) - position)
                return

    def depth(self, lane: Lane) -> int | None:
        """Messages waiting in the lane's queue, or None when the broker does not answer."""
        if time.monotonic() < self._paused_until:
            return None
        try:
            return self._watcher.depth(lane.queue)
        except Exception as error:
            self._failed(error)
            return None

    def is_empty(self, depth: int | None) -> bool:
        """Whether a queue of this depth is surely empty: hints that are not in it and not taken are lost.

        Not while hints of ours are still on their way to it.
        """
        return depth == 0 and self._counts_exactly and not self._waiting.unfinished_tasks

    def close(self, *, timeout: float = 2.0) -> None:
        """Publish what still waits, for at most `timeout` seconds, and stop."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            give_up = time.monotonic() + timeout
            try:
                self._waiting.put(None, timeout=timeout)
            except queue.Full:
                return  # the broker hangs and nothing moves; the thread is a daemon and goes with the process
            thread.join(max(0.0, give_up - time.monotonic()))
        self._watcher.close()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="publisher", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while (hint := self._waiting.get()) is not None:
            self._try_to_send(hint)
            self._waiting.task_done()
        self._waiting.task_done()
        self._disconnect(politely=True)

    def _try_to_send(self, hint: Hint) -> None:
        if time.monotonic() < self._paused_until:
            metrics.HINTS_LOST.labels("broker").inc()
            return
        try:
            self._send(hint)
        except Exception as error:  # whatever the broker's client raises, the thread must go on
            metrics.HINTS_LOST.labels("broker").inc()
            self._failed(error)
            self._disconnect()

    def _send(self, hint: Hint) -> None:
        if self._producer is None:
            connection = brokers.connected(self._app.connection_for_write())
            self._producer = self._app.amqp.Producer(connection, auto_declare=False)
        self._app.send_task(
            "deliver",
            kwargs=hint.message(),
            queue=hint.lane.queue,
            # The sweeper hints the row again after its life: what is older by far is not worth a claim.
            expires=datetime.fromtimestamp(hint.hinted_at, UTC) + self._life[hint.lane.priority] + CLOCKS_APART,
            ignore_result=True,
            retry=False,
            confirm_timeout=brokers.ANSWER_SECONDS,
            producer=self._producer,
        )
        metrics.HINTS.labels(str(hint.lane), hint.by).inc()

    def _disconnect(self, *, politely: bool = False) -> None:
        """Let go of the connection; the next hint makes a new one. No farewell to a broker that may hang."""
        producer, self._producer = self._producer, None
        if producer is not None:
            connection: Any = producer.connection
            if politely:
                connection.release()
            else:
                connection.collect()

    def _failed(self, error: Exception) -> None:
        self._paused_until = time.monotonic() + _PAUSE_SECONDS
        log.warning("broker_unreachable", error=type(error).__name__)


def _batched(ids: Sequence[int], size: int) -> Iterator[list[int]]:
    iterator = iter(ids)
    while batch := list(islice(iterator, size)):
        yield batch
