"""Send dead letters once more: one, some, or all that failed in a campaign.

Each is checked again as if it were new: what is past its life stays dead unless it is given a fresh
one, and whoever has no address any more, or wants no more mail, is found out when it is claimed.
Replaying twice is replaying once: only what is dead is queued.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from notifier.domain.campaign import RETRIED_IN, Campaign
from notifier.domain.campaign import CampaignStatus as Status
from notifier.domain.errors import NotFound, WrongState
from notifier.domain.tenant import Tenant
from notifier.store import campaigns, database, dead_letters
from notifier.store.database import Connection, Database
from notifier.store.dead_letters import DeadLetters

#: Dead letters queued in one transaction.
BATCH = 1000


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many were queued, and how many stay dead: past their life, or of a campaign that is over."""

    queued: int = 0
    expired: int = 0
    campaign_over: int = 0

    def __add__(self, other: Replayed) -> Replayed:
        return Replayed(
            self.queued + other.queued, self.expired + other.expired, self.campaign_over + other.campaign_over
        )


class Replayer:
    """Queues dead letters of one tenant at a time, `BATCH` to a transaction."""

    def __init__(self, *, database: Database, max_attempts: int) -> None:
        self._database = database
        self._max_attempts = max_attempts

    async def replay(self, tenant: Tenant, which: DeadLetters, *, expires_in: timedelta | None = None) -> Replayed:
        """Queue those that fit, with `expires_in` to live from now on; a campaign's get their campaign's life."""
        done, after = Replayed(), 0
        while True:
            async with self._database.transaction() as tx:
                found = await dead_letters.find(tx, tenant, which, limit=BATCH, after=after)
                by_campaign: dict[UUID | None, list[int]] = {}
                for id, campaign_id in found:
                    by_campaign.setdefault(campaign_id, []).append(id)
                # In one order, or two replays could each wait for the campaign that the other holds.
                for campaign_id in sorted(by_campaign, key=str):
                    done += await self._group(tx, tenant, campaign_id, by_campaign[campaign_id], expires_in)
            if len(found) < BATCH:
                return done
            after = found[-1][0]

    async def replay_campaign(self, tenant: Tenant, campaign_id: UUID) -> Replayed:
        """Queue all that failed in a campaign. NotFound; WrongState if it is over."""
        async with self._database.transaction() as tx:
            campaign = await campaigns.find(tx, tenant, campaign_id)
        if campaign is None:
            raise NotFound(f"There is no campaign {campaign_id}, or it belongs to another service or mode.")
        if campaign.status not in RETRIED_IN:
            raise WrongState(f"The campaign is {campaign.status}; what failed in it cannot be tried again.")
        return await self.replay(tenant, DeadLetters(campaign_id=campaign_id))

    async def _group(
        self, tx: Connection, tenant: Tenant, campaign_id: UUID | None, ids: Sequence[int], life: timedelta | None
    ) -> Replayed:
        campaign = None
        if campaign_id is not None:
            campaign = await campaigns.lock(tx, tenant, campaign_id)
            if campaign is None or campaign.status not in RETRIED_IN:
                return Replayed(campaign_over=len(ids))
            life = life or campaign.plan.expires_in
        queued = await dead_letters.queue(tx, tenant, ids, attempts=self._max_attempts, expires_in=life)
        if campaign and queued:
            await _revive(tx, campaign)
        return Replayed(queued, len(ids) - queued)


async def _revive(tx: Connection, campaign: Campaign) -> None:
    """A campaign that is finished is not, while anything of it is under way again."""
    if campaign.status is not Status.FINISHED:
        return
    soon = await database.now(tx) + timedelta(seconds=1)
    await campaigns.save(
        tx, campaign.id, status=Status.RUNNING, status_reason="retrying_failed", due_at=soon, finished_at=None,
        watch_from=campaign.chunks,
    )  # fmt: skip
