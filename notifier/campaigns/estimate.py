"""What a campaign would come to, if it ran now: how many, how long, how much. Nothing is sent, nothing written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from notifier.campaigns.audience import Audiences, Size
from notifier.campaigns.check import Checker, Rules, wrong
from notifier.domain.ask import CampaignAsk
from notifier.domain.caller import Caller
from notifier.domain.campaign import DIRECTORY, LimitedBy, Plan
from notifier.domain.errors import LiveOnly
from notifier.domain.notification import Channel, Mode
from notifier.store import database
from notifier.store.database import Database


@dataclass(frozen=True, slots=True)
class Duration:
    """How much time sending takes, not counting the hours in which the window is shut."""

    work: timedelta
    chunks: int
    limited_by: LimitedBy


class Estimator:
    """Estimates campaigns, in an API process."""

    def __init__(self, *, database: Database, checker: Checker, audiences: Audiences, rules: Rules) -> None:
        self._database = database
        self._checker = checker
        self._audiences = audiences
        self._rules = rules

    async def estimate(self, caller: Caller, ask: CampaignAsk) -> dict[str, Any]:
        """The estimate of a campaign, or the error with which it would be refused."""
        if caller.mode is not Mode.LIVE and ask.audience.source == DIRECTORY:
            raise LiveOnly("An estimate counts the directory, which only live keys may. Use a live key of the service.")
        async with self._database.transaction() as tx:
            now = await database.now(tx)
        plan, _ = self._checker.plan(caller, ask, now=now)
        start = max(now, plan.start_at or now)
        start = plan.repeat.first_run(start) if plan.repeat else start
        size = await self._audiences.size(caller.service_id, plan.audience)
        duration = duration_of(plan, size, start=start, rules=self._rules)
        check_possible(plan, size, start=start, rules=self._rules)
        opening = plan.window.opening(start) if plan.window else start
        finish = plan.window.finish(start, duration.work) if plan.window else start + duration.work
        return {
            "recipients": size.recipients,
            "deliveries": size.recipients * len(plan.channels),
            "reachable": {str(channel): size.reachable(channel) for channel in plan.channels},
            "chunks": duration.chunks,
            "gaps": size.gaps,
            "largest_gap": size.largest_gap,
            "start_at": opening.isoformat(),
            "duration_seconds": round(duration.work.total_seconds(), 1),
            "finish_at": finish.isoformat(),
            "limited_by": LimitedBy.WINDOW if finish - opening > duration.work else duration.limited_by,
            "cost": {
                "amount": f"{sum(self._cost(plan, size), 0.0):.2f}",
                "currency": self._rules.currency,
                "per_1000": {str(channel): self._rules.prices[channel] for channel in plan.channels},
            },
        }

    def _cost(self, plan: Plan, size: Size) -> list[float]:
        return [self._rules.prices[channel] * size.reachable(channel) / 1000 for channel in plan.channels]


def at_best(plan: Plan, size: Size, rules: Rules) -> tuple[timedelta, LimitedBy]:
    """The least time its deliveries take, whatever the pace, and whether workers or a provider's budget say so."""
    work = sum(size.reachable(channel) for channel in plan.channels) / rules.capacity

    def calls(channel: Channel) -> float:
        budget = rules.budgets.get((plan.priority, channel))
        return size.reachable(channel) / budget if budget else 0.0

    budgets = max(calls(channel) for channel in plan.channels)  # the channels' providers work side by side
    return timedelta(seconds=max(work, budgets)), LimitedBy.BUDGET if budgets > work else LimitedBy.WORKERS


def duration_of(plan: Plan, size: Size, *, start: datetime, rules: Rules) -> Duration:
    """How long the walk and its deliveries take at the plan's pace, with the workers and budgets of `rules`."""
    deliveries = sum(size.reachable(channel) for channel in plan.channels)
    pace = plan.pace
    least, limited_by = at_best(plan, size, rules)
    rate: float | None = None
    if pace.finish_by is not None:
        open_time = plan.window.open_between(start, pace.finish_by) if plan.window else pace.finish_by - start
        rate = pace.rate_at(start, deliveries, open_seconds=open_time.total_seconds())
    elif pace.rate_per_minute is not None:
        rate = pace.rate_at(start, deliveries)
    chunks = math.ceil(size.recipients / pace.chunk_limit(plan.chunk_size, rate, len(plan.channels)))
    work = least
    if rate is not None:
        work = timedelta(seconds=deliveries / rate)
    elif pace.sleep_timeout is not None:
        work = max(chunks - 1, 0) * pace.sleep_timeout
    if work > least:
        return Duration(work, chunks, LimitedBy.PACE)
    return Duration(least, chunks, limited_by)


def check_possible(plan: Plan, size: Size, *, start: datetime, rules: Rules) -> None:
    """Raise CampaignInvalid if neither workers nor providers could be done by `finish_by`; it says when they could."""
    finish_by = plan.pace.finish_by
    if finish_by is None:
        return
    work, limited_by = at_best(plan, size, rules)
    earliest = plan.window.finish(start, work) if plan.window else start + work
    if earliest > finish_by:
        raise wrong(
            "finish_by",
            f"cannot be kept: {size.recipients} recipients take until {earliest.isoformat()} at the "
            f"{'provider' if limited_by is LimitedBy.BUDGET else 'worker'}s' speed. Give that moment or a later one",
        )
