"""Which campaigns could have told somebody something, and why those that did not have not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from notifier.campaigns import absence, read
from notifier.domain.finding import Finding
from notifier.domain.ids import first_uuid7
from notifier.domain.tenant import Tenant
from notifier.store import campaigns, explanations
from notifier.store.database import Database

#: Campaigns that are looked at, the latest ones.
LATEST = 50


@dataclass(frozen=True, slots=True)
class Considered:
    """Campaigns that made something for a recipient, and why the others did not."""

    ids: list[UUID]
    findings: list[Finding]


async def consider(
    database: Database,
    tenant: Tenant,
    recipient_id: int,
    *,
    campaign_id: UUID | None,
    template: str | None,
    since: datetime,
) -> Considered:
    """One campaign, or the latest ones since then: of a template, or any.

    Those of any template are left without a word if they made nothing for the recipient; NotFound for one
    that is not there, or another tenant's.
    """
    async with database.transaction() as tx:
        if campaign_id is not None:
            one = await campaigns.find(tx, tenant, campaign_id)
            if one is None:
                raise read.not_found(campaign_id)
            asked = [one]
        else:
            first = first_uuid7(since)
            asked = await campaigns.latest(tx, tenant, first=first, template=template, limit=LATEST)
        reached = await explanations.reached(tx, recipient_id, [campaign.id for campaign in asked])
        found: list[Finding] = []
        if campaign_id is not None or template is not None:
            for campaign in asked:
                if campaign.id not in reached:
                    found += await absence.findings(tx, campaign, recipient_id)
    return Considered([campaign.id for campaign in asked if campaign.id in reached], found)
