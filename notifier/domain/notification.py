"""What is sent, over which channel, how soon: the words everything else uses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Channel(StrEnum):
    EMAIL = "email"
    PUSH = "push"
    DESKTOP = "desktop"


class Priority(StrEnum):
    URGENT = "urgent"
    BULK = "bulk"


class Mode(StrEnum):
    """Whether a notification may leave the house: `test` ones only ever reach the sandbox."""

    LIVE = "live"
    TEST = "test"


class OnUnknown(StrEnum):
    """What to do when the provider may or may not have a message: try once more, or leave it."""

    RETRY = "retry"
    HOLD = "hold"


@dataclass(frozen=True, slots=True, order=True)
class Lane:
    """Priority × channel. Each lane has one queue; a row carries its lane and the worker checks it."""

    priority: Priority
    channel: Channel

    @property
    def queue(self) -> str:
        """Name of the lane's queue. The version changes when the meaning of a hint does."""
        return f"v1.{self.priority}.{self.channel}"

    @classmethod
    def parse(cls, text: str) -> Lane:
        """Read `urgent.email`; ValueError for anything that is not a lane."""
        priority, _, channel = text.partition(".")
        return cls(Priority(priority), Channel(channel))

    def __str__(self) -> str:
        return f"{self.priority}.{self.channel}"


LANES: tuple[Lane, ...] = tuple(Lane(priority, channel) for priority in Priority for channel in Channel)
