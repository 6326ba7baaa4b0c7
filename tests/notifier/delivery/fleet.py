"""Worker processes' budgets on one real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from notifier.delivery.budget import Account, Budget
from notifier.embedded.stack import Stack


class Fleet:
    """Worker processes' budgets, all of one Redis and with the same accounts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.opened: list[Budget] = []

    def open(self, *accounts: Account, share: float = 0.8, probe: float = 5) -> Budget:
        budget = Budget(
            redis=Redis.from_url(self.url, socket_timeout=1),
            accounts={account.name: account for account in accounts},
            share=share,
            probe=timedelta(seconds=probe),
        )
        self.opened.append(budget)
        return budget


@pytest.fixture
async def fleet(stack: Stack) -> AsyncIterator[Fleet]:
    fleet = Fleet(stack.start_servers().redis_url)
    yield fleet
    for budget in fleet.opened:
        await budget.close()


def an_account(rate: float | None = None) -> Account:
    return Account(f"test:{uuid4()}", rate)
