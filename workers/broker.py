"""What kombu's Redis transport gets wrong when Redis goes away, set right."""

from __future__ import annotations

from kombu.transport import redis, virtual


class QoS(redis.QoS):
    """Counts a message as done even if Redis could not be told.

    kombu 5.6 keeps its place in the prefetch window instead. A worker whose children were all busy while Redis
    was away (a bulk pool under load, always) then had no place left, and never asked for a message again: "Couldn't
    ack" was its last word (celery#8030, celery#10205). What Redis was not told it may deliver again, as any hint.
    """

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


def mend() -> None:
    """Let every Redis channel of this process count as above."""
    redis.Channel.QoS = QoS
