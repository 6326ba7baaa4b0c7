"""What kombu's SQS transport gets wrong, set right: a queue that is never read again, a core that spins for nothing.

A hint that SQS was not told is done comes again, as any hint may.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kombu.transport import SQS, virtual
from vine import promise

from notifier.observe import logs, metrics
from workers import broker

log = logs.get(__name__)

#: How long until a worker whose processes are all busy looks again. kombu 5.6 looks at once, and again, for ever: a
#: full worker burned a core.
FULL_SECONDS = 0.05
#: How long a queue that could not be read is left alone. kombu asks at once when nobody listens there.
PAUSE_SECONDS = 1.0

_AsKombuHasIt: Any = SQS.Channel  # the stubs leave out most of it


class Channel(_AsKombuHasIt):  # type: ignore[misc]
    """Reads its queues until it is closed, whatever an answer is."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        # kombu keeps these in the class: processes that are forked would share their parent's sockets, and a worker
        # that connects anew would go on with queues that are gone.
        self._queue_cache: dict[str, str] = {}
        self._predefined_queue_clients: dict[str, Any] = {}
        self._predefined_queue_async_clients: dict[str, Any] = {}
        super().__init__(*arguments, **named)

    def sqs(self, queue: str | None = None) -> Any:  # noqa: ARG002  # kombu makes a client for each predefined queue
        return super().sqs()

    def asynsqs(self, queue: str | None = None) -> Any:  # noqa: ARG002
        return super().asynsqs()

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        try:
            super().basic_ack(delivery_tag, multiple)
        except Exception:
            virtual.QoS.ack(self.qos, delivery_tag)  # or its place in the prefetch window were lost for good
            raise

    def _schedule_queue(self, queue: str) -> None:
        if queue not in self._active_queues:
            return
        if not self.qos.can_consume():
            self._later(FULL_SECONDS, queue)
            return
        try:
            self._ask(queue)
        except Exception as error:  # no credentials, no such queue: it may be there later
            self._failed(queue, error)

    def _ask(self, queue: str) -> None:
        url = self._new_queue(queue)
        self._get_from_sqs(
            queue_name=self.canonical_queue_name(queue),
            queue_url=url,
            count=self._get_message_estimate(),
            connection=self.asynsqs(),
            callback=promise(partial(self._answered, queue, url), on_error=partial(self._failed, queue)),
        )

    def _answered(self, queue: str, url: str, answer: Any) -> None:
        if queue not in self._active_queues:
            return  # closed meanwhile; what came after all is hidden until it is worth nothing
        if not isinstance(answer, dict):
            # For kombu, what is no answer (a 503, nobody who listens) is an empty list.
            self._failed(queue, None)
            return
        broker.on_poll()
        for message in answer.get("Messages") or ():
            self._take(queue, url, message)
        self._loop1(queue)

    def _take(self, queue: str, url: str, message: dict[str, Any]) -> None:
        """Hand one on. One that is no message at all is dropped, and counted, as with Redis."""
        before = set(self.qos._delivered)
        try:
            self.connection._callbacks[queue](self._message_to_python(message, queue, url))
        except broker.UNREADABLE as error:
            for tag in set(self.qos._delivered) - before:
                virtual.QoS.ack(self.qos, tag)
            metrics.HINTS_LOST.labels("unreadable").inc()
            log.warning("message_unreadable", error=type(error).__name__)
            self.sqs().delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def _failed(self, queue: str, error: BaseException | None) -> None:
        """After an error kombu never reads the queue again (a 4xx: throttled, a token that has expired)."""
        log.warning("queue_unreadable", queue=queue, error=type(error).__name__ if error else None)
        self._later(PAUSE_SECONDS, queue)

    def _later(self, seconds: float, queue: str) -> None:
        then: Callable[[str], None] = self._schedule_queue
        self.hub.call_later(seconds, then, queue)


def mend() -> None:
    """Let every SQS channel of this process do as above."""
    SQS.Transport.Channel = Channel
