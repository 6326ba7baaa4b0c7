"""All that an explanation of somebody's deliveries needs to know, found by their id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from notifier.domain.idempotency import route_of
from notifier.domain.notification import Lane
from notifier.domain.tenant import Tenant
from notifier.store.database import Connection
from notifier.store.deliveries import GOES_OUT


@dataclass(frozen=True, slots=True)
class Explained:
    """A delivery to be explained, with what is known of the notification or the campaign it belongs to."""

    id: int
    notification_id: UUID | None
    campaign_id: UUID | None
    chunk: int | None
    template: str
    channel: str
    priority: str
    mode: str
    status: str
    reason: str | None
    attempt: int
    max_attempts: int
    on_unknown: str
    provider: str | None
    provider_message_id: str | None
    due_at: datetime | None
    expires_at: datetime
    created_at: datetime
    updated_at: datetime
    claimed_at: datetime | None
    send_at: datetime | None
    reference: str | None
    campaign_status: str | None
    campaign_reason: str | None
    #: Until when its campaign's window is, or was, open.
    open_until: datetime | None
    #: Whether its campaign lets it go out now; None without one.
    goes_out: bool | None


@dataclass(frozen=True, slots=True)
class UsedKey:
    """An idempotency key, and the notification that it stands for."""

    notification_id: UUID
    key: str
    created_at: datetime


_OF_DELIVERY = """
    d.channel, d.priority, d.mode, d.status, d.reason, d.attempt, d.max_attempts, d.on_unknown, d.provider,
    d.provider_message_id, d.due_at, d.expires_at, d.created_at, d.updated_at, d.claimed_at
"""

# What one recipient was sent by themselves, newest first.
OF_NOTIFICATIONS = text(f"""
    WITH asked AS (
        SELECT id, template, send_at, reference FROM notifications
         WHERE service_id = :service_id AND mode = :mode AND recipient_id = :recipient_id AND id >= :first
           AND (CAST(:template AS text) IS NULL OR template = :template)
         ORDER BY id DESC LIMIT :limit)
    SELECT d.id, d.notification_id, d.campaign_id, d.chunk, n.template, {_OF_DELIVERY}, n.send_at, n.reference,
           CAST(NULL AS text) AS campaign_status, CAST(NULL AS text) AS campaign_reason,
           CAST(NULL AS timestamptz) AS open_until, CAST(NULL AS boolean) AS goes_out
      FROM asked n JOIN deliveries d ON d.notification_id = n.id
     ORDER BY n.id DESC, d.id
""")  # noqa: S608  # the words are our own

# What these campaigns made for one recipient, newest first.
OF_CAMPAIGNS = text(f"""
    SELECT d.id, d.notification_id, d.campaign_id, d.chunk, c.template, {_OF_DELIVERY},
           CAST(NULL AS timestamptz) AS send_at, CAST(NULL AS text) AS reference,
           c.status AS campaign_status, c.status_reason AS campaign_reason, c.open_until, {GOES_OUT} AS goes_out
      FROM unnest(CAST(:ids AS uuid[])) AS asked(id)
      JOIN campaigns c ON c.id = asked.id
      JOIN deliveries d ON d.campaign_id = asked.id AND d.recipient_id = :recipient_id
     WHERE c.service_id = :service_id AND c.mode = :mode
     ORDER BY d.id DESC
""")  # noqa: S608  # the words are our own

# In which of these campaigns a recipient has deliveries.
REACHED = text("""
    SELECT DISTINCT d.campaign_id
      FROM unnest(CAST(:ids AS uuid[])) AS asked(id)
      JOIN deliveries d ON d.campaign_id = asked.id AND d.recipient_id = :recipient_id
""")

# The keys under which notifications were asked for: written in the same transaction, so at the same moment.
KEYS = text("""
    SELECT n.id AS notification_id, i.key, i.created_at
      FROM notifications n
      JOIN idempotency i ON i.service_id = n.service_id AND i.created_at = n.created_at
     WHERE n.service_id = :service_id AND n.mode = :mode AND n.id = ANY(CAST(:ids AS uuid[]))
       AND i.route = :route AND i.response ->> 'id' = CAST(n.id AS text)
""")

# How many wait in a lane, counted no further than it is worth.
WAITING = text("""
    SELECT count(*) FROM (
        SELECT 1 FROM deliveries
         WHERE priority = :priority AND channel = :channel AND due_at IS NOT NULL AND status = 'queued'
         LIMIT :limit) AS waiting
""")


async def of_notifications(
    db: Connection, tenant: Tenant, recipient_id: int, *, first: UUID, template: str | None, limit: int
) -> list[Explained]:
    """Deliveries of the latest `limit` notifications to a recipient, from the id `first` on."""
    asked = {"recipient_id": recipient_id, "first": first, "template": template, "limit": limit}
    rows = await db.execute(OF_NOTIFICATIONS, asked | tenant.parameters)
    return [Explained(*row) for row in rows]


async def of_campaigns(db: Connection, tenant: Tenant, recipient_id: int, ids: Sequence[UUID]) -> list[Explained]:
    """What these campaigns of a tenant made for a recipient."""
    asked = tenant.parameters | {"recipient_id": recipient_id, "ids": list(ids)}
    return [Explained(*row) for row in await db.execute(OF_CAMPAIGNS, asked)]


async def reached(db: Connection, recipient_id: int, ids: Sequence[UUID]) -> set[UUID]:
    """Which of these campaigns made something for a recipient."""
    rows = await db.execute(REACHED, {"recipient_id": recipient_id, "ids": list(ids)})
    return {row.campaign_id for row in rows}


async def keys(db: Connection, tenant: Tenant, notification_ids: Sequence[UUID]) -> dict[UUID, UsedKey]:
    """The idempotency keys of those notifications that were asked for under one."""
    asked = {"ids": list(notification_ids), "route": route_of("notifications", tenant.mode)}
    rows = await db.execute(KEYS, tenant.parameters | asked)
    return {row.notification_id: UsedKey(*row) for row in rows}


async def waiting(db: Connection, lane: Lane, *, limit: int) -> int:
    """How many deliveries are queued in a lane, counted no further than `limit`."""
    asked = {"priority": lane.priority, "channel": lane.channel, "limit": limit}
    return int((await db.execute(WAITING, asked)).scalar_one())
