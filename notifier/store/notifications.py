"""Notifications: written once when accepted, and found again; the idempotency rows beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text

from notifier.domain.ids import first_uuid7
from notifier.domain.tenant import Tenant
from notifier.store.database import Connection


@dataclass(frozen=True, slots=True)
class NotificationRow:
    """A notification as it stands in the table; `address` is set when it was sent to addresses, not to an id."""

    id: UUID
    service_id: int
    template: str
    template_version: str
    priority: str
    mode: str
    recipient_id: int | None
    address: Mapping[str, Any] | None
    data: Mapping[str, Any]
    reference: str | None
    collapse_key: str | None
    send_at: datetime | None
    expires_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True)
class IdempotencyRow:
    """A key that was used, what for (`fingerprint`), and the first answer."""

    service_id: int
    route: str
    key: str
    fingerprint: bytes
    response: Any


# Write what was accepted; one row a notification.
INSERT = text("""
    INSERT INTO notifications (id, service_id, template, template_version, priority, mode, recipient_id,
                               address, data, reference, collapse_key, send_at, expires_at, created_at)
    SELECT id, service_id, template, template_version, priority, mode, recipient_id,
           address::jsonb, data::jsonb, reference, collapse_key, send_at, expires_at, created_at
      FROM unnest(CAST(:id AS uuid[]), CAST(:service_id AS bigint[]), CAST(:template AS text[]),
                  CAST(:template_version AS text[]), CAST(:priority AS text[]), CAST(:mode AS text[]),
                  CAST(:recipient_id AS bigint[]), CAST(:address AS text[]), CAST(:data AS text[]),
                  CAST(:reference AS text[]), CAST(:collapse_key AS text[]), CAST(:send_at AS timestamptz[]),
                  CAST(:expires_at AS timestamptz[]), CAST(:created_at AS timestamptz[]))
           AS n(id, service_id, template, template_version, priority, mode, recipient_id,
                address, data, reference, collapse_key, send_at, expires_at, created_at)
""")

# Take those keys that nobody has; wait for whoever is taking one just now.
CLAIM_KEYS = text("""
    INSERT INTO idempotency (service_id, route, key, fingerprint, response, created_at)
    SELECT service_id, route, key, fingerprint, response::json, now()
      FROM unnest(CAST(:service_id AS bigint[]), CAST(:route AS text[]), CAST(:key AS text[]),
                  CAST(:fingerprint AS bytea[]), CAST(:response AS text[]))
           AS k(service_id, route, key, fingerprint, response)
     ORDER BY service_id, route, key
    ON CONFLICT DO NOTHING
    RETURNING service_id, route, key
""")

FIND_KEYS = text("""
    SELECT i.service_id, i.route, i.key, i.fingerprint, i.response
      FROM idempotency i
      JOIN unnest(CAST(:service_id AS bigint[]), CAST(:route AS text[]), CAST(:key AS text[]))
           AS k(service_id, route, key) USING (service_id, route, key)
""")

FIND = text("""
    SELECT id, service_id, template, template_version, priority, mode, recipient_id, address, data,
           reference, collapse_key, send_at, expires_at, created_at
      FROM notifications WHERE service_id = :service_id AND mode = :mode AND id = :id
""")

# LIST is planned for the filters that are asked for, each time. Else PostgreSQL keeps one plan for all after a few
# executions on a connection, and read a service's whole history to find one reference.
PLAN_AFRESH = text("SET LOCAL plan_cache_mode = force_custom_plan")

# Newest first, by keyset: `before` is the last id of the page before.
LIST = text("""
    SELECT n.id, n.service_id, n.template, n.template_version, n.priority, n.mode, n.recipient_id, n.address, n.data,
           n.reference, n.collapse_key, n.send_at, n.expires_at, n.created_at
      FROM notifications n
     WHERE n.service_id = :service_id AND n.mode = :mode
       AND n.id < :before AND n.id >= :first
       AND (CAST(:reference AS text) IS NULL OR n.reference = :reference)
       AND (CAST(:recipient_id AS bigint) IS NULL OR n.recipient_id = :recipient_id)
       AND (CAST(:priority AS text) IS NULL OR n.priority = :priority)
       AND (CAST(:status AS text) IS NULL OR EXISTS (
            SELECT 1 FROM deliveries d WHERE d.notification_id = n.id AND d.status = :status))
     ORDER BY n.id DESC
     LIMIT :limit
""")

# Nothing that a message said of the person stays; that one was sent, and what came of it, does.
ERASE_RECIPIENT = text("""
    UPDATE notifications SET data = '{}', reference = NULL, collapse_key = NULL
     WHERE service_id = :service_id AND recipient_id = :recipient_id
""")

# Of those who came from a SQL source, each campaign's own delivery has the addresses.
ERASE_ADDRESSES = text("""
    UPDATE deliveries SET address = NULL
     WHERE campaign_id IN (SELECT id FROM campaigns WHERE service_id = :service_id)
       AND recipient_id = :recipient_id AND address IS NOT NULL
""")

# What providers said in their own words may name the person in a way that nobody can foresee; their codes stay.
ERASE_WORDS = text("""
    WITH theirs AS (
        SELECT d.id FROM deliveries d JOIN notifications n ON n.id = d.notification_id
         WHERE n.service_id = :service_id AND n.recipient_id = :recipient_id
        UNION ALL
        SELECT d.id FROM deliveries d JOIN campaigns c ON c.id = d.campaign_id
         WHERE c.service_id = :service_id AND d.recipient_id = :recipient_id)
    UPDATE delivery_events e
       SET detail = jsonb_set(e.detail, '{calls}', (
               SELECT jsonb_agg(call - 'detail' ORDER BY number)
                 FROM jsonb_array_elements(e.detail -> 'calls') WITH ORDINALITY AS c(call, number)))
      FROM theirs
     WHERE e.delivery_id = theirs.id AND jsonb_array_length(e.detail -> 'calls') > 0
""")

_LAST = UUID(int=(1 << 128) - 1)


async def insert(db: Connection, rows: Sequence[NotificationRow]) -> None:
    """Write `rows` in one statement."""
    await db.execute(
        INSERT,
        {
            "id": [row.id for row in rows],
            "service_id": [row.service_id for row in rows],
            "template": [row.template for row in rows],
            "template_version": [row.template_version for row in rows],
            "priority": [row.priority for row in rows],
            "mode": [row.mode for row in rows],
            "recipient_id": [row.recipient_id for row in rows],
            "address": [None if row.address is None else json_text(row.address) for row in rows],
            "data": [json_text(row.data) for row in rows],
            "reference": [row.reference for row in rows],
            "collapse_key": [row.collapse_key for row in rows],
            "send_at": [row.send_at for row in rows],
            "expires_at": [row.expires_at for row in rows],
            "created_at": [row.created_at for row in rows],
        },
    )


async def claim_keys(db: Connection, rows: Sequence[IdempotencyRow]) -> set[tuple[int, str, str]]:
    """Take the keys of `rows` for this transaction; returns those that were free.

    Waits for a transaction that is taking one of them just now: afterwards either it is ours
    (that one rolled back) or `find_keys` sees theirs. Keys are taken in order, so two groups
    that share keys cannot block each other for good.
    """
    taken = await db.execute(
        CLAIM_KEYS,
        {
            **_keys([(row.service_id, row.route, row.key) for row in rows]),
            "fingerprint": [row.fingerprint for row in rows],
            "response": [json_text(row.response) for row in rows],
        },
    )
    return {(row.service_id, row.route, row.key) for row in taken}


async def find_keys(db: Connection, keys: Sequence[tuple[int, str, str]]) -> dict[tuple[int, str, str], IdempotencyRow]:
    """What is known of `keys` (service, route, key); unknown ones are left out."""
    rows = await db.execute(FIND_KEYS, _keys(keys))
    return {(row.service_id, row.route, row.key): IdempotencyRow(*row) for row in rows}


async def find(db: Connection, tenant: Tenant, id: UUID) -> NotificationRow | None:
    """The notification, if it is this tenant's."""
    row = (await db.execute(FIND, tenant.parameters | {"id": id})).one_or_none()
    return NotificationRow(*row) if row else None


async def page(
    db: Connection,
    tenant: Tenant,
    *,
    limit: int,
    before: UUID | None = None,
    created_after: datetime | None = None,
    reference: str | None = None,
    recipient_id: int | None = None,
    priority: str | None = None,
    status: str | None = None,
) -> list[NotificationRow]:
    """One page of a tenant's notifications, newest first; `status` asks for any delivery in that state."""
    await db.execute(PLAN_AFRESH)
    rows = await db.execute(
        LIST,
        tenant.parameters
        | {
            "before": before or _LAST,
            "first": first_uuid7(created_after) if created_after else UUID(int=0),
            "reference": reference,
            "recipient_id": recipient_id,
            "priority": priority,
            "status": status,
            "limit": limit,
        },
    )
    return [NotificationRow(*row) for row in rows]


async def erase_recipient(db: Connection, service_id: int, recipient_id: int) -> None:
    """Forget what every notification to a recipient said, where campaigns reached them, and what providers wrote."""
    await db.execute(ERASE_RECIPIENT, {"service_id": service_id, "recipient_id": recipient_id})
    await db.execute(ERASE_ADDRESSES, {"service_id": service_id, "recipient_id": recipient_id})
    await db.execute(ERASE_WORDS, {"service_id": service_id, "recipient_id": recipient_id})


def json_text(value: object) -> str:
    """JSON as PostgreSQL's jsonb reads it."""
    return orjson.dumps(value).decode()


def _keys(keys: Sequence[tuple[int, str, str]]) -> dict[str, list[Any]]:
    return {
        "service_id": [service for service, _, _ in keys],
        "route": [route for _, route, _ in keys],
        "key": [key for _, _, key in keys],
    }
