"""Accept campaigns and change them: pause, resume, cancel, another pace, what failed once more.

Every change locks the campaign's row, so it waits for the chunk that is being walked and holds for the
next. Deliveries that are queued already obey as well: each claim looks at the campaign's status.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from notifier.campaigns import read
from notifier.campaigns.audience import Audiences
from notifier.campaigns.check import Checker, Rules, check_finish, wrong
from notifier.campaigns.estimate import check_possible
from notifier.domain import idempotency
from notifier.domain.ask import Answer, CampaignAsk, Idempotency
from notifier.domain.caller import Caller
from notifier.domain.campaign import FOLLOWS, OVER, Campaign, Plan
from notifier.domain.campaign import CampaignStatus as Status
from notifier.domain.errors import WrongState
from notifier.domain.tenant import Tenant
from notifier.observe import metrics
from notifier.store import campaigns, database, notifications, waits
from notifier.store.database import Connection, Database
from notifier.store.notifications import IdempotencyRow
from notifier.store.waits import Lanes

#: Deliveries cancelled, or queued again, in one transaction.
BATCH = 1000


class _KeyLost(Exception):
    """Somebody else committed our key while we were at work; everything is rolled back and read again."""


class Campaigns:
    """Accepts and changes campaigns, in an API process."""

    def __init__(
        self,
        *,
        database: Database,
        checker: Checker,
        audiences: Audiences,
        rules: Rules,
        new_id: Callable[[datetime], UUID],
        category: Callable[[str], str],
    ) -> None:
        self._database = database
        self._audiences = audiences
        self._checker = checker
        self._rules = rules
        self._new_id = new_id
        self._category = category

    async def create(self, caller: Caller, ask: CampaignAsk, key: Idempotency | None) -> Answer:
        """Accept a campaign, or raise a NotifierError that says what is wrong with it; then there is none."""
        while True:
            try:
                return await self._create(caller, ask, key)
            except _KeyLost:
                continue

    async def _create(self, caller: Caller, ask: CampaignAsk, key: Idempotency | None) -> Answer:
        async with self._database.transaction() as tx:
            if key:
                found = await notifications.find_keys(tx, [(caller.service_id, key.route, key.key)])
                for row in found.values():
                    first = idempotency.replay(row.response, to=row.fingerprint, asked=key.fingerprint)
                    return Answer(first, replayed=True)
            now = await database.now(tx)
        plan, template = self._checker.plan(caller, ask, now=now)
        if plan.pace.finish_by is not None:
            size = await self._audiences.size(caller.service_id, plan.audience)
            check_possible(plan, size, start=max(now, plan.start_at or now), rules=self._rules)
        async with self._database.transaction() as tx:
            campaign = self._new(caller, plan, template.version, now)
            await campaigns.add(tx, campaign)
            body = read.shown(campaign)
            if key:
                row = IdempotencyRow(caller.service_id, key.route, key.key, key.fingerprint, body)
                if not await notifications.claim_keys(tx, [row]):
                    raise _KeyLost
        return Answer(body, replayed=False)

    def _new(self, caller: Caller, plan: Plan, version: str, now: datetime) -> Campaign:
        starts = max(now, plan.start_at or now)
        due_at = plan.repeat.first_run(starts) if plan.repeat else starts
        return Campaign(
            id=self._new_id(now),
            service_id=caller.service_id,
            parent_id=None,
            mode=caller.mode,
            plan=plan,
            template_version=version,
            status=Status.SCHEDULED,
            status_reason=None,
            position=None,
            bound=None,
            expected=None,
            chunks=0,
            slot=due_at,
            due_at=due_at,
            open_until=None,
            limited_by=None,
            watch_from=0,
            source_failures=0,
            created_at=now,
            started_at=None,
            walked_at=None,
            finished_at=None,
            updated_at=now,
        )

    async def pause(self, tenant: Tenant, id: UUID) -> dict[str, Any]:
        """Hold the campaign, and whatever of it is not yet with a provider. Pausing a paused one changes nothing."""
        async with self._database.transaction() as tx:
            campaign = await _lock(tx, tenant, id)
            if campaign.status is not Status.PAUSED:
                _may(campaign, Status.PAUSED, "paused")
                await campaigns.save(
                    tx, id, status=Status.PAUSED, status_reason="paused_by_caller", due_at=None, limited_by=None
                )
        return await read.find(self._database, tenant, id)

    async def resume(self, tenant: Tenant, id: UUID) -> dict[str, Any]:
        """Go on where it was paused. Resuming one that goes on already changes nothing."""
        async with self._database.transaction() as tx:
            campaign = await _lock(tx, tenant, id)
            if campaign.status not in (Status.RUNNING, Status.SCHEDULED):
                now = await database.now(tx)
                back = Status.RUNNING if campaign.started_at else Status.SCHEDULED
                if campaign.status is not Status.PAUSED:  # a finished one may run again, but not by this
                    raise WrongState(f"The campaign is {campaign.status}; it can not be resumed.")
                due_at = now if campaign.started_at else max(now, campaign.slot)
                await campaigns.save(
                    tx,
                    id,
                    status=back,
                    status_reason=None,
                    due_at=due_at,
                    slot=due_at,
                    watch_from=campaign.chunks,
                    source_failures=0,
                )
                await waits.release(tx, Lanes.of(campaign))
        return await read.find(self._database, tenant, id)

    async def cancel(self, tenant: Tenant, id: UUID) -> dict[str, Any]:
        """End it: what is not yet with a provider is cancelled. Cancelling a cancelled one changes nothing."""
        async with self._database.transaction() as tx:
            campaign = await _lock(tx, tenant, id)
            if campaign.status is not Status.CANCELLED:
                _may(campaign, Status.CANCELLED, "cancelled")
                await campaigns.save(
                    tx,
                    id,
                    status=Status.CANCELLED,
                    status_reason="cancelled_by_caller",
                    due_at=None,
                    limited_by=None,
                    finished_at=await database.now(tx),
                )
                # Should we not live to cancel them all, the sweeper finds them due, and their campaign cancelled.
                await waits.release(tx, Lanes.of(campaign))
        while True:
            async with self._database.transaction() as tx:
                cancelled = await waits.cancel_of_campaign(tx, Lanes.of(campaign), limit=BATCH)
            for end in cancelled:
                metrics.outcome(str(end.lane), None, self._category(end.template), end.status, end.reason, end.count)
            if sum(end.count for end in cancelled) < BATCH:
                break
        return await read.find(self._database, tenant, id)

    async def change(self, tenant: Tenant, id: UUID, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Another pace, chunk size, window or failure limit: effective with the next chunk.

        `changes` has the fields of Plan that are to be different: `pace`, `chunk_size`, `window`,
        `failure_limit`.
        """
        async with self._database.transaction() as tx:
            campaign = await _lock(tx, tenant, id)
            if campaign.status in OVER:
                raise WrongState(f"The campaign is {campaign.status}; nothing of it can be changed any more.")
            now = await database.now(tx)
            plan = replace(campaign.plan, **changes)
            _check_change(plan, campaign, now)
            kept: dict[str, Any] = {"plan": plan}
            if campaign.status is Status.RUNNING:
                kept |= {"due_at": now, "slot": now}
            await campaigns.save(tx, id, **kept)
        return await read.find(self._database, tenant, id)

    async def find(self, tenant: Tenant, id: UUID) -> Campaign:
        """The campaign itself, for whoever sends a test of it."""
        async with self._database.transaction() as tx:
            campaign = await campaigns.find(tx, tenant, id)
        if campaign is None:
            raise read.not_found(id)
        return campaign


async def _lock(tx: Connection, tenant: Tenant, id: UUID) -> Campaign:
    campaign = await campaigns.lock(tx, tenant, id)
    if campaign is None:
        raise read.not_found(id)
    return campaign


def _may(campaign: Campaign, status: Status, what: str) -> None:
    if status not in FOLLOWS[campaign.status]:
        raise WrongState(f"The campaign is {campaign.status}; it can not be {what} any more.")


def _check_change(plan: Plan, campaign: Campaign, now: datetime) -> None:
    if plan.repeat is not None and plan.pace.finish_by is not None:
        raise wrong("finish_by", "is one moment, and a repeating campaign has many; give rate_per_minute")
    if plan.pace != campaign.plan.pace or plan.window != campaign.plan.window:
        check_finish(plan, max(now, plan.start_at or now))
