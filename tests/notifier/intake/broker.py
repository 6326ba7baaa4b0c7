"""A broker in which no worker reads: what was hinted can be seen."""

from __future__ import annotations

import base64
import json
from typing import Any

import redis

from notifier.domain.notification import LANES, Lane
from notifier.embedded.stack import Stack
from notifier.queues import Hint

#: The running service, if there is one, uses database 0.
DATABASE = "/5"


class Broker:
    """An empty database of the private Valkey."""

    def __init__(self, stack: Stack) -> None:
        self.url = stack.start_servers().redis_url.removesuffix("/0") + DATABASE
        self.client = redis.Redis.from_url(self.url)
        self.client.flushdb()

    def messages(self, lane: Lane) -> list[Any]:
        """What waits in a lane's queue, oldest first."""
        raw: Any = self.client.lrange(lane.queue, 0, -1)
        return [json.loads(text) for text in reversed(raw)]

    def published(self) -> list[Hint]:
        """Every hint that waits, as a worker will read it."""
        bodies = [base64.b64decode(message["body"]) for lane in LANES for message in self.messages(lane)]
        return [Hint.parse(json.loads(body)[1]) for body in bodies]

    def close(self) -> None:
        self.client.close()
