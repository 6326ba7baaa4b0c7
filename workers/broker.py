"""What kombu's Redis transport gets wrong when Redis goes away, or holds what it should not, set right.

(For SQS: `workers/sqs.py`.)
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty
from typing import Any

from celery.worker.consumer.delayed_delivery import DelayedDelivery
from kombu.transport import redis, virtual
from redis.exceptions import ResponseError

from notifier import brokers
from notifier.observe import logs, metrics

log = logs.get(__name__)


class QoS(redis.QoS):
    """Takes a message on, and counts it as done, even if Redis could not be told.

    kombu 5.6 keeps its place in the prefetch window instead. A worker whose children were all busy while Redis
    was away (a bulk pool under load, always) then had no place left, and never asked for a message again: "Couldn't
    ack" was its last word (celery#8030, celery#10205). What Redis was not told it may deliver again, as any hint.
    """

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message that was read. A full Redis does not write it down, and kombu's worker would end there.

        ("Unrecoverable error: OutOfMemoryError".) A hint that nobody has noted and that is lost is made again.
        """
        try:
            super().append(message, delivery_tag)
        except ResponseError as error:
            log.warning("message_not_noted", error=type(error).__name__)
            virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue=requeue)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise


#: What to do when the broker has answered a read, with a message or without: a sign that queues are read.
on_poll: Callable[[], None] = lambda: None  # noqa: E731

_read_one: Any = redis.Channel._brpop_read  # type: ignore[attr-defined]  # the stubs leave it out

#: What kombu and Celery raise over a string that is no message: no JSON, no UTF-8, no envelope, brackets in brackets
#: until Python's stack ends, an encoding that nobody knows, a body that is no text.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError, ArithmeticError)


def _read_one_or_drop_it(channel: redis.Channel, **options: Any) -> Any:
    """Read one message. One that is no message at all is dropped, and counted.

    kombu 5.6 raises out of the worker's loop instead, and the worker ends ("Unrecoverable error"): whoever could
    write ten stray strings to a queue stopped ten workers. BRPOP has taken the string out already. If it had
    been given a place in the prefetch window before Celery stumbled over it, that is given back: a control pool,
    which has one, would never have asked for a message again.
    """
    qos: Any = channel.qos
    before = set(qos._delivered)
    try:
        read = _read_one(channel, **options)
    except Empty:
        on_poll()
        raise
    except UNREADABLE as error:
        for tag in set(qos._delivered) - before:
            qos.reject(tag, requeue=False)
        metrics.HINTS_LOST.labels("unreadable").inc()
        log.warning("message_unreadable", error=type(error).__name__)
        read = True
    on_poll()
    return read


def mend(url: str) -> None:
    """Let every channel of this process do as above, or as its broker needs it."""
    if url.startswith(brokers.SQS):
        from workers import sqs  # its client takes a while to import

        sqs.mend()
    redis.Channel.QoS = QoS
    redis.Channel._brpop_read = _read_one_or_drop_it  # type: ignore[attr-defined]
    # Celery would make 28 queues for delays as soon as one of ours is a quorum queue. We delay nothing in a broker.
    DelayedDelivery.include_if = lambda *_: False  # type: ignore[method-assign]
