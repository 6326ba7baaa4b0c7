"""Deliveries as a reader sees them: their state, and every decision that led to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from notifier.store.database import Connection


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery as a reader sees it."""

    id: int
    notification_id: UUID
    channel: str
    status: str
    reason: str | None
    attempt: int
    provider: str | None
    provider_message_id: str | None
    due_at: datetime | None
    created_at: datetime
    updated_at: datetime
    claimed_at: datetime | None


@dataclass(frozen=True, slots=True)
class CampaignDeliveryRow:
    """A delivery of a campaign as a reader sees it."""

    id: int
    recipient_id: int
    channel: str
    status: str
    reason: str | None
    attempt: int
    provider: str | None
    provider_message_id: str | None
    due_at: datetime | None
    created_at: datetime
    updated_at: datetime
    claimed_at: datetime | None


OF_NOTIFICATIONS = text("""
    SELECT id, notification_id, channel, status, reason, attempt, provider, provider_message_id, due_at, created_at,
           updated_at, claimed_at
      FROM deliveries WHERE notification_id = ANY(CAST(:ids AS uuid[])) ORDER BY id
""")

EVENTS = text("""
    SELECT delivery_id, at, status_from, status_to, reason, attempt, detail
      FROM delivery_events WHERE delivery_id = ANY(CAST(:ids AS bigint[])) ORDER BY id
""")

# A campaign's log in the order of its recipients, by keyset: `after` is the last one of the page before.
OF_CAMPAIGN = text("""
    SELECT id, recipient_id, channel, status, reason, attempt, provider, provider_message_id, due_at, created_at,
           updated_at, claimed_at
      FROM deliveries
     WHERE campaign_id = :id AND (recipient_id, channel) > (:after, :after_channel)
       AND (CAST(:status AS text) IS NULL OR status = :status)
     ORDER BY recipient_id, channel LIMIT :limit
""")

OF_CAMPAIGN_RECIPIENT = text("""
    SELECT id, recipient_id, channel, status, reason, attempt, provider, provider_message_id, due_at, created_at,
           updated_at, claimed_at
      FROM deliveries WHERE campaign_id = :id AND recipient_id = :recipient_id ORDER BY channel
""")

FATES = text("SELECT id, status, reason FROM deliveries WHERE id > :after ORDER BY id LIMIT :limit")


async def of_notifications(db: Connection, ids: Sequence[UUID]) -> dict[UUID, list[DeliveryRow]]:
    """The deliveries of each notification, in the order they were born."""
    found: dict[UUID, list[DeliveryRow]] = {id: [] for id in ids}
    for row in await db.execute(OF_NOTIFICATIONS, {"ids": list(ids)}):
        found[row.notification_id].append(DeliveryRow(*row))
    return found


async def of_campaign(
    db: Connection, id: UUID, *, limit: int, after: tuple[int, str] = (-1, ""), status: str | None = None
) -> list[CampaignDeliveryRow]:
    """One page of a campaign's deliveries, in order of recipient and channel; `after` ends the page before."""
    asked = {"id": id, "after": after[0], "after_channel": after[1], "status": status, "limit": limit}
    return [CampaignDeliveryRow(*row) for row in await db.execute(OF_CAMPAIGN, asked)]


async def of_campaign_recipient(db: Connection, id: UUID, recipient_id: int) -> list[CampaignDeliveryRow]:
    """What a campaign made for one recipient."""
    asked = {"id": id, "recipient_id": recipient_id}
    return [CampaignDeliveryRow(*row) for row in await db.execute(OF_CAMPAIGN_RECIPIENT, asked)]


async def events(db: Connection, delivery_ids: Sequence[int]) -> dict[int, list[Mapping[str, Any]]]:
    """Every decision about each of these deliveries after they were accepted, oldest first."""
    found: dict[int, list[Mapping[str, Any]]] = {id: [] for id in delivery_ids}
    for row in (await db.execute(EVENTS, {"ids": list(delivery_ids)})).mappings():
        found[row["delivery_id"]].append(dict(row))
    return found


async def fates(db: Connection, *, after: int = 0, limit: int = 10_000) -> list[tuple[int, str, str | None]]:
    """Id, status and reason of deliveries, in id order: for an audit against a provider's own records."""
    return [(row.id, row.status, row.reason) for row in await db.execute(FATES, {"after": after, "limit": limit})]
