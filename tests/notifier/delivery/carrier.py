"""A provider that does what a test says, and remembers what it was asked: the stand-in for the world outside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from notifier.channels.contract import Message
from notifier.domain.notification import Channel
from notifier.domain.outcome import Outcome, Sent
from tests.running import eventually

Answer = Callable[[Message], Outcome | Awaitable[Outcome]]


class Carrier:
    """Answers each message by `answer`, and holds all calls while `gate` is closed."""

    def __init__(self, channel: Channel = Channel.EMAIL, *, name: str = "carrier", concurrency: int = 10) -> None:
        self.name = name
        self.channel = channel
        self.concurrency = concurrency
        self.answer: Answer = lambda message: Sent(f"id-{message.delivery_id}")
        self.gate = asyncio.Event()
        self.gate.set()
        self.messages: list[Message] = []
        self.timeouts: list[timedelta] = []
        self.at_once = 0
        self.most_at_once = 0

    async def send(self, message: Message, *, timeout: timedelta) -> Outcome:
        self.messages.append(message)
        self.timeouts.append(timeout)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)  # no answer comes in the same step
            await self.gate.wait()
            answer = self.answer(message)
            return await answer if isinstance(answer, Awaitable) else answer
        finally:
            self.at_once -= 1

    async def close(self) -> None:
        """Nothing is open."""

    def always(self, outcome: Outcome) -> None:
        """Answer everything alike."""
        self.answer = lambda _: outcome

    async def reached(self, count: int = 1) -> None:
        """Wait until it has been called so often."""

        async def has_been() -> bool:
            return len(self.messages) >= count

        await eventually(has_been, what=f"{count} calls of {self.name}, which has had {len(self.messages)}")

    @property
    def called(self) -> list[int]:
        """Which deliveries it was called for, in order."""
        return [message.delivery_id for message in self.messages]


def raising(error: Exception) -> Answer:
    """An answer that is none: our own code is wrong."""

    def fail(_: Message) -> Outcome:
        raise error

    return fail


async def never(_: Message) -> Outcome:
    """A call that hangs, whatever timeout it was given."""
    await asyncio.Event().wait()
    raise AssertionError
