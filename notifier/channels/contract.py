"""What a provider must be, and the message it is handed. Fits on a card."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, runtime_checkable

from notifier.domain.content import Content
from notifier.domain.notification import Channel, Priority
from notifier.domain.outcome import Outcome
from notifier.domain.recipient import Target


@dataclass(frozen=True, slots=True)
class Message:
    """One attempt of one delivery at one target, rendered.

    `tag` is 32 lower-case hex digits, the same for each attempt of the same delivery (or for each
    notification with the same collapse key): a provider uses it so that a repeat replaces the
    first on the screen. `ttl` is the life the message has left; after it, nobody wants it.
    """

    delivery_id: int
    attempt: int
    tag: str
    target: Target
    content: Content
    priority: Priority
    ttl: timedelta


class Provider(Protocol):
    """Carries the messages of one channel. Knows nothing of rows, queues or retries."""

    name: str
    channel: Channel
    #: How many calls it makes well at once; callers hold no more than this in flight.
    concurrency: int

    async def send(self, message: Message, *, timeout: timedelta) -> Outcome:
        """Try once. Return what came of it within `timeout`; raise only if our own code is wrong."""
        ...

    async def close(self) -> None:
        """Give back connections. The provider is not used afterwards."""
        ...


@runtime_checkable
class Metered(Protocol):
    """A provider that tells how fast it may be asked."""

    async def rate(self) -> float | None:
        """Calls a second that the account allows; None if that cannot be learned now."""
        ...


@runtime_checkable
class HasDestinations(Protocol):
    """A provider behind whose name stand several servers, each of which throttles for itself."""

    def destination(self, target: Target) -> str:
        """A short name of what serves `target`, the same for all that it serves. Cheap, and never raises."""
        ...
