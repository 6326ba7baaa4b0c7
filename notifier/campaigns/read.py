"""What callers may see of their campaigns: how far each is, what limits it, who got what."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from notifier.campaigns import absence
from notifier.domain.campaign import DIRECTORY, Campaign, Tally, planned
from notifier.domain.campaign import CampaignStatus as Status
from notifier.domain.chunk import Value, value_to_json
from notifier.domain.errors import NotFound
from notifier.domain.finding import answer
from notifier.domain.tenant import Tenant
from notifier.domain.timeline import event_of, history, in_order
from notifier.store import campaigns, chunks, database, timelines
from notifier.store.database import Connection, Database
from notifier.store.timelines import CampaignDeliveryRow

#: The walk's speed is measured over so long.
RATE_SECONDS = 60.0


async def find(database_: Database, tenant: Tenant, id: UUID) -> dict[str, Any]:
    """The campaign as it stands now; NotFound if there is none, or it is another tenant's."""
    async with database_.transaction() as tx:
        campaign = await campaigns.find(tx, tenant, id)
        if campaign is None:
            raise not_found(id)
        tally = await chunks.tally(tx, id)
        rate = await chunks.rate(tx, campaign, seconds=RATE_SECONDS)
        now = await database.now(tx)
    return shown(campaign, tally, rate=rate, now=now)


async def page(
    database_: Database, tenant: Tenant, *, limit: int, before: UUID | None, status: Status | None
) -> dict[str, Any]:
    """A page of campaigns, newest first, and the cursor of the next page. From a replica, if there is one."""

    async def look(tx: Connection) -> dict[str, Any]:
        rows = await campaigns.page(tx, tenant, limit=limit + 1, before=before, status=status)
        found = await chunks.tallies(tx, [row.id for row in rows[:limit]])
        now = await database.now(tx)
        return {
            "items": [shown(row, found[row.id], now=now) for row in rows[:limit]],
            "next": str(rows[limit - 1].id) if len(rows) > limit else None,
        }

    return await database_.read(look)


async def deliveries(
    database_: Database, tenant: Tenant, id: UUID, *, limit: int, cursor: tuple[int, str] | None, status: str | None
) -> dict[str, Any]:
    """A page of a campaign's deliveries in order of recipient, and the cursor of the next page. From a replica, if any.

    Whether the campaign is there at all the primary says: it may have been made a moment ago.
    """

    async def look(tx: Connection) -> list[CampaignDeliveryRow]:
        return await timelines.of_campaign(tx, id, limit=limit + 1, after=cursor or (-1, ""), status=status)

    async with database_.transaction() as tx:
        if await campaigns.find(tx, tenant, id) is None:
            raise not_found(id)
    rows = await database_.read(look)
    last = rows[limit - 1] if len(rows) > limit else None
    return {
        "items": [_delivery(row) for row in rows[:limit]],
        "next": f"{last.recipient_id}.{last.channel}" if last else None,
    }


async def recipient(database_: Database, tenant: Tenant, id: UUID, recipient_id: int) -> dict[str, Any]:
    """Why a recipient did or did not get it: their deliveries with every decision, or why there are none."""
    async with database_.transaction() as tx:
        campaign = await campaigns.find(tx, tenant, id)
        if campaign is None:
            raise not_found(id)
        rows = await timelines.of_campaign_recipient(tx, id, recipient_id)
        events = await timelines.events(tx, [row.id for row in rows])
        missing = [] if rows else await absence.findings(tx, campaign, recipient_id)
    items = [event_of(row.created_at, "planned", row.channel, delivery_id=row.id) for row in rows]
    for row in rows:
        items += history(row, events[row.id])
    return {
        "recipient_id": recipient_id,
        "explanation": _in_audience(rows) if rows else answer(missing),
        "deliveries": [_delivery(row) for row in rows],
        "items": in_order(items),
    }


def shown(
    campaign: Campaign, tally: Tally | None = None, *, rate: float | None = None, now: datetime | None = None
) -> dict[str, Any]:
    """A campaign as JSON: what was asked for, how far it is, and when it will be done."""
    plan = campaign.plan
    pace = plan.pace.to_json()
    return {
        "id": str(campaign.id),
        "name": plan.name,
        "status": campaign.status,
        "status_reason": campaign.status_reason,
        "parent_id": campaign.parent_id and str(campaign.parent_id),
        "template": plan.template,
        "template_version": campaign.template_version,
        "channels": list(plan.channels),
        "data": dict(plan.data),
        "priority": plan.priority,
        "mode": campaign.mode,
        "on_unknown": plan.on_unknown,
        "audience": _audience(campaign),
        "start_at": _text(plan.start_at),
        "next_run_at": _text(campaign.slot if plan.repeat and campaign.due_at else None),
        "not_after": _text(plan.not_after),
        "expires_in": plan.expires_in.total_seconds(),
        "chunk_size": plan.chunk_size,
        "sleep_timeout": pace["sleep_timeout"],
        "rate_per_minute": pace["rate_per_minute"],
        "finish_by": pace["finish_by"],
        "send_window": plan.window.to_json() if plan.window else None,
        "repeat": plan.repeat.cron if plan.repeat else None,
        "repeat_timezone": plan.repeat.timezone if plan.repeat else None,
        "failure_limit": plan.failure_limit,
        "created_at": campaign.created_at.isoformat(),
        "started_at": _text(campaign.started_at),
        "finished_at": _text(campaign.finished_at),
        "progress": _progress(campaign, tally or Tally(), rate, now),
        "cursor": _value(campaign.position),
        "bound": _value(campaign.bound),
        "chunks": campaign.chunks,
    }


def _progress(campaign: Campaign, tally: Tally, rate: float | None, now: datetime | None) -> dict[str, Any]:
    is_walked = campaign.walked_at is not None or campaign.status is Status.CANCELLED
    total = planned(tally, expected=campaign.expected, channels=len(campaign.plan.channels), is_walked=is_walked)
    return {
        "planned": total,
        "recipients": tally.recipients,
        "dispatched": tally.dispatched,
        "in_flight": tally.in_flight,
        "sent": tally.accepted,
        "delivered": tally.delivered,
        "bounced": tally.bounced,
        "complained": tally.complained,
        "failed": tally.failed,
        "expired": tally.expired,
        "cancelled": tally.cancelled,
        "suppressed": tally.suppressed,
        "unknown": tally.unknown,
        "percent": _percent(campaign, tally, total),
        "eta": _text(_eta(campaign, tally, total, rate, now)),
        "limited_by": campaign.limited_by,
    }


def _percent(campaign: Campaign, tally: Tally, total: int) -> float:
    if campaign.status is Status.FINISHED:
        return 100.0
    # Rounded down: 100 is said when it is finished, and not before.
    return min(int(1000 * tally.ended / total) / 10, 99.9) if total else 0.0


def _eta(campaign: Campaign, tally: Tally, total: int, rate: float | None, now: datetime | None) -> datetime | None:
    """When it will be done at this speed; None when that cannot be said."""
    plan = campaign.plan
    if campaign.status is not Status.RUNNING or now is None:
        return None
    if plan.pace.finish_by is not None and plan.pace.finish_by > now:
        return plan.pace.finish_by
    if plan.pace.rate_per_minute is not None:
        rate = plan.pace.rate_per_minute / 60
    left = total - tally.ended
    if not rate:
        return None
    work = timedelta(seconds=min(left / rate, 10 * 365 * 86_400))
    return plan.window.finish(now, work) if plan.window else now + work


def _audience(campaign: Campaign) -> dict[str, Any]:
    audience = campaign.plan.audience
    bounds = ("id_from", "id_to") if audience.source == DIRECTORY else ("from", "to")
    return {
        "source": audience.source,
        bounds[0]: _value(audience.start),
        bounds[1]: _value(audience.stop),
        "filter": {
            "locale": audience.locale,
            "attributes": dict(audience.attributes),
            "has_channel": audience.has_channel,
        },
    }


def _in_audience(rows: list[CampaignDeliveryRow]) -> str:
    told = ", ".join(f"{row.channel}: {row.status}" + (f" ({row.reason})" if row.reason else "") for row in rows)
    return f"The recipient is in the audience. {told}."


def _delivery(row: CampaignDeliveryRow) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "recipient_id": row.recipient_id,
        "channel": row.channel,
        "status": row.status,
        "reason": row.reason,
        "attempts": row.attempt,
        "provider": row.provider,
        "provider_message_id": row.provider_message_id,
        "updated_at": row.updated_at.isoformat(),
    }


def not_found(id: UUID) -> NotFound:
    """The error for a campaign that is not there, or another service's."""
    return NotFound(f"There is no campaign {id}, or it belongs to another service or mode.")


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _value(value: Value | None) -> Any:
    return None if value is None else value_to_json(value)
