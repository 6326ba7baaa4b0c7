"""Product services that call: a steady mix of requests, each asked again with its key until it is answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp

from tests.running import Answer, Running

#: The directory: a mail address and a phone each.
PEOPLE = range(1, 601)
#: Every so often a campaign is planned, to so many.
CAMPAIGN_EVERY_SECONDS = 45.0
CAMPAIGN_PEOPLE = 200
#: Seconds that a caller waits for an answer, and before it asks again.
PATIENCE = 10.0
PAUSE = 0.3
#: Requests in the air at once; more than that are not begun.
AT_ONCE = 200
#: Answers after which the same is asked again with the same key.
_NOT_NOW = {429, 500, 502, 503, 504}


@dataclass
class Load:
    """Calls as product services do, `rate` notifications a second, and keeps what it was told."""

    running: Running
    rng: Random
    browsers: list[dict[str, Any]]
    rate: float = 20.0
    #: By idempotency key: the id that was answered.
    answered: dict[str, str] = field(default_factory=dict)
    campaigns: list[str] = field(default_factory=list)
    #: How often which status came back; "no answer" where the connection broke.
    answers: Counter[str] = field(default_factory=Counter)
    replays: int = 0
    wrong: list[str] = field(default_factory=list)
    _number: int = 0
    _waiting: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def unanswered(self) -> int:
        return len(self._waiting)

    async def enrol(self) -> None:
        people = [
            {"id": id, "email": f"u{id}@example.com", "devices": [{"token": f"phone-{id}", "platform": "android"}]}
            for id in PEOPLE
        ]
        told = await self.running.post("/v1/recipients/batch", {"recipients": people})
        assert told.body["rejected"] == 0, told.body

    async def run(self, until: float) -> None:
        """Keep calling until that moment of `time.monotonic`."""
        began, campaign_at, count = time.monotonic(), time.monotonic(), 0
        while (now := time.monotonic()) < until:
            while count < (now - began) * self.rate:
                count += 1
                if len(self._waiting) < AT_ONCE:
                    self.begin()
            if now >= campaign_at:
                campaign_at = now + CAMPAIGN_EVERY_SECONDS
                self._spawn(self._campaign())
            await asyncio.sleep(0.02)

    def begin(self) -> None:
        """One request more, answered some time."""
        self._number += 1
        self._spawn(self._notify(f"soak-{self._number}", self._body(self._number)))

    async def settle(self, within: float) -> None:
        """Wait for the last answers."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=within)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _notify(self, key: str, body: dict[str, Any]) -> None:
        told = await self._insist("/v1/notifications", key, body)
        if told.status != 202:
            self.wrong.append(f"{key}: {told.status} {told.body}")
            return
        self.answered[key] = told.body["id"]
        if self.rng.random() < 0.05:  # a caller that was not sure
            again = await self._insist("/v1/notifications", key, body)
            if again.status != 202 or again.body["id"] != told.body["id"]:
                self.wrong.append(f"I7: {key} was {told.body['id']}, and then {again.status} {again.body}")

    async def _campaign(self) -> None:
        first = self.rng.randrange(PEOPLE.start, PEOPLE.stop - CAMPAIGN_PEOPLE)
        body = {
            "name": "soak",
            "template": "monthly-statement",
            "channels": ["push"],
            "audience": {"source": "recipients", "id_from": first, "id_to": first + CAMPAIGN_PEOPLE},
            "chunk_size": 20,
            "sleep_timeout": 1,
        }
        told = await self._insist("/v1/campaigns", f"campaign-{time.monotonic_ns()}", body)
        if told.status != 202:
            self.wrong.append(f"campaign: {told.status} {told.body}")
            return
        self.campaigns.append(told.body["id"])

    async def _insist(self, path: str, key: str, body: dict[str, Any]) -> Answer:
        """Ask until there is an answer, as the API's contract wants it: the same key, the same body."""
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    told = await self.running.post(path, body, Idempotency_Key=key)
            except (aiohttp.ClientError, OSError):
                self.answers["no answer"] += 1
            else:
                self.answers[str(told.status)] += 1
                self.replays += told.headers.get("idempotent-replayed") == "true"
                if told.status not in _NOT_NOW:
                    return told
            await asyncio.sleep(PAUSE)

    def _body(self, number: int) -> dict[str, Any]:
        """Urgent and bulk, all three channels, `retry` and `hold`; some too late, refused or nowhere to go."""
        rng = self.rng
        dice = rng.random()
        channels = rng.choice((["email"], ["push"], ["desktop"], ["email", "push"]))
        recipient: dict[str, Any] = {
            "email": f"{'rejected' if dice < 0.01 else f'u{number}'}@example.com",
            "push_tokens": [] if dice > 0.99 else [f"token-{number}"],
            "subscriptions": [rng.choice(self.browsers)],
        }
        body = {
            "template": "payment-received",
            "recipient": recipient,
            "channels": channels,
            "data": {"amount": "12.50", "currency": "EUR"},
            "priority": rng.choice(("urgent", "bulk")),
            "on_unknown": rng.choice(("retry", "hold")),
        }
        return body | ({"expires_in": 1} if rng.random() < 0.05 else {})
