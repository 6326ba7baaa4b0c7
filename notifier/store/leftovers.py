"""What is older than a service wants to keep it: found and deleted in small pieces, each whole or not at all.

Nobody waits for this: rows that somebody else has locked are passed over, and a lock that cannot be
had at once ends the transaction. What is not over is kept whatever its age.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from notifier.domain.campaign import OVER
from notifier.domain.delivery import UNFINISHED
from notifier.domain.idempotency import route_of
from notifier.domain.ids import first_uuid7
from notifier.domain.notification import Mode
from notifier.store.database import Connection

#: An idempotency key is good for so long at least, whatever became of its record (docs: "at least 24 h").
KEY_LIFE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Shelf:
    """Whose records, and before when they must have ended to be deleted."""

    service_id: int
    cutoff: datetime


@dataclass(frozen=True, slots=True)
class Piece:
    """What one transaction has looked at and deleted; `after` is where the next one begins, None at the end."""

    deleted: int
    after: Any


PATIENCE = text("SET LOCAL lock_timeout = '250ms'")

# Each service with the moment before which its records must have ended.
SHELVES = text("""
    SELECT id, now() - make_interval(days => coalesce(retention_days, :days)) AS cutoff FROM services ORDER BY id
""")

# The next notifications in order of age, each with those of its deliveries that have ended in time and are locked
# now. Deliveries that anybody is at work on are passed over: then the two numbers are not the same.
NOTIFICATIONS = text("""
    WITH old AS MATERIALIZED (
        SELECT id FROM notifications
         WHERE service_id = :service_id AND id > :after AND id < :before
         ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED),
    ended AS MATERIALIZED (
        SELECT d.id, d.notification_id FROM deliveries d JOIN old ON d.notification_id = old.id
         WHERE d.due_at IS NULL AND d.status <> ALL(CAST(:unfinished AS text[])) AND d.updated_at < :cutoff
         ORDER BY d.id FOR UPDATE OF d SKIP LOCKED)
    SELECT old.id, ARRAY(SELECT e.id FROM ended e WHERE e.notification_id = old.id) AS ended,
           (SELECT count(*) FROM deliveries d WHERE d.notification_id = old.id) AS deliveries
      FROM old ORDER BY old.id
""")
DELETE_EVENTS = text("DELETE FROM delivery_events WHERE delivery_id = ANY(CAST(:ids AS bigint[]))")
DELETE_DELIVERIES = text("DELETE FROM deliveries WHERE id = ANY(CAST(:ids AS bigint[]))")
DELETE_NOTIFICATIONS = text("DELETE FROM notifications WHERE id = ANY(CAST(:ids AS uuid[]))")
# Their keys go with them: they were written in the same transaction, so at the same moment.
DELETE_KEYS = text("""
    DELETE FROM idempotency i USING notifications n
     WHERE n.id = ANY(CAST(:ids AS uuid[])) AND i.service_id = n.service_id AND i.created_at = n.created_at
       AND i.route = ANY(CAST(:routes AS text[])) AND i.response ->> 'id' = CAST(n.id AS text)
       AND i.created_at < now() - CAST(:key_life AS interval)
""")

# A service's next campaign that ended in time. One that made others stays until they are gone.
CAMPAIGN = text("""
    SELECT c.id FROM campaigns c
     WHERE c.service_id = :service_id AND c.id > :after AND c.id < :before AND c.status = ANY(CAST(:over AS text[]))
       AND greatest(coalesce(c.finished_at, c.updated_at), c.updated_at) < :cutoff
       AND NOT EXISTS (SELECT 1 FROM campaigns run WHERE run.parent_id = c.id)
     ORDER BY c.id LIMIT 1
""")
# Nobody lets it run again from here on: whoever wants to must lock it first.
TAKE_CAMPAIGN = text("""
    SELECT id FROM campaigns
     WHERE id = :id AND status = ANY(CAST(:over AS text[])) AND updated_at < :cutoff FOR UPDATE SKIP LOCKED
""")
OF_CAMPAIGN = text("""
    SELECT id, recipient_id, channel FROM deliveries
     WHERE campaign_id = :id AND (recipient_id, channel) > (:recipient_id, :channel)
       AND due_at IS NULL AND status <> ALL(CAST(:unfinished AS text[]))
     ORDER BY recipient_id, channel LIMIT :limit FOR UPDATE SKIP LOCKED
""")
HAS_DELIVERIES = text("SELECT EXISTS (SELECT 1 FROM deliveries WHERE campaign_id = :id)")
# Its key was written within a transaction or two of its row.
DELETE_CAMPAIGN_KEY = text("""
    DELETE FROM idempotency i USING campaigns c
     WHERE c.id = :id AND i.service_id = c.service_id AND i.route = ANY(CAST(:routes AS text[]))
       AND i.created_at >= c.created_at AND i.created_at < c.created_at + interval '2 minutes'
       AND i.response ->> 'id' = CAST(c.id AS text) AND i.created_at < now() - CAST(:key_life AS interval)
""")
DELETE_CHUNKS = text("DELETE FROM campaign_chunks WHERE campaign_id = :id")
DELETE_CAMPAIGN = text("DELETE FROM campaigns WHERE id = :id")

# The next keys in order of age, each with whether anything of what it made is there: a batch has made many.
KEYS = text("""
    WITH old AS (
        SELECT route, key, created_at, response FROM idempotency
         WHERE service_id = :service_id AND created_at < least(:cutoff, now() - CAST(:key_life AS interval))
           AND (created_at, route, key) > (:created_at, :route, :key)
         ORDER BY created_at, route, key LIMIT :limit FOR UPDATE SKIP LOCKED),
    made AS (
        SELECT old.route, old.key, m.id
          FROM old CROSS JOIN LATERAL (
               SELECT old.response ->> 'id' AS id
                UNION ALL
               SELECT result ->> 'id' FROM json_array_elements(
                   CASE WHEN json_typeof(old.response -> 'results') = 'array'
                        THEN old.response -> 'results' ELSE '[]' END) AS result) AS m
         WHERE m.id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')
    SELECT old.route, old.key, old.created_at, EXISTS (
               SELECT 1 FROM made
                WHERE made.route = old.route AND made.key = old.key
                  AND (EXISTS (SELECT 1 FROM notifications n WHERE n.id = CAST(made.id AS uuid))
                       OR EXISTS (SELECT 1 FROM campaigns c WHERE c.id = CAST(made.id AS uuid)))) AS has_record
      FROM old ORDER BY old.created_at, old.route, old.key
""")
DELETE_OLD_KEYS = text("""
    DELETE FROM idempotency i
     USING unnest(CAST(:routes AS text[]), CAST(:keys AS text[])) AS gone(route, key)
     WHERE i.service_id = :service_id AND i.route = gone.route AND i.key = gone.key
""")

_UNFINISHED = sorted(UNFINISHED)
_OVER = sorted(OVER)
FIRST = UUID(int=0)


async def shelves(db: Connection, *, days: int) -> list[Shelf]:
    """Every service, and how old its records may be; `days` if it has no wish of its own."""
    return [Shelf(row.id, row.cutoff) for row in await db.execute(SHELVES, {"days": days})]


async def drop_notifications(db: Connection, shelf: Shelf, *, after: UUID = FIRST, limit: int) -> Piece:
    """Delete those of the next `limit` notifications that are over, with all that belongs to them."""
    await db.execute(PATIENCE)
    asked = {
        "service_id": shelf.service_id,
        "after": after,
        "before": first_uuid7(shelf.cutoff),
        "cutoff": shelf.cutoff,
        "unfinished": _UNFINISHED,
        "limit": limit,
    }
    rows = (await db.execute(NOTIFICATIONS, asked)).all()
    over = [row for row in rows if len(row.ended) == row.deliveries]
    if over:
        await _drop_deliveries(db, [id for row in over for id in row.ended])
        ids = [row.id for row in over]
        await db.execute(DELETE_KEYS, {"ids": ids, "routes": _routes("notifications"), "key_life": KEY_LIFE})
        await db.execute(DELETE_NOTIFICATIONS, {"ids": ids})
    return Piece(len(over), rows[-1].id if len(rows) == limit else None)


async def old_campaign(db: Connection, shelf: Shelf, *, after: UUID = FIRST) -> UUID | None:
    """The next campaign after `after` that is old enough; None if there is none."""
    asked = {"service_id": shelf.service_id, "after": after, "before": first_uuid7(shelf.cutoff)}
    row = (await db.execute(CAMPAIGN, asked | {"cutoff": shelf.cutoff, "over": _OVER})).one_or_none()
    return None if row is None else row.id


async def drop_from_campaign(
    db: Connection, shelf: Shelf, id: UUID, *, after: tuple[int, str] = (-1, ""), limit: int
) -> Piece:
    """Delete the next `limit` deliveries of a campaign, and with the last of them the campaign itself.

    Its chunks, with its numbers, are there until the end. Nothing is deleted of one that somebody else has locked.
    """
    await db.execute(PATIENCE)
    if (await db.execute(TAKE_CAMPAIGN, {"id": id, "over": _OVER, "cutoff": shelf.cutoff})).first() is None:
        return Piece(0, None)
    asked = {"id": id, "recipient_id": after[0], "channel": after[1], "unfinished": _UNFINISHED, "limit": limit}
    rows = (await db.execute(OF_CAMPAIGN, asked)).all()
    await _drop_deliveries(db, [row.id for row in rows])
    if len(rows) == limit:
        return Piece(limit, (rows[-1].recipient_id, rows[-1].channel))
    if not (await db.execute(HAS_DELIVERIES, {"id": id})).scalar_one():
        await db.execute(DELETE_CAMPAIGN_KEY, {"id": id, "routes": _routes("campaigns"), "key_life": KEY_LIFE})
        await db.execute(DELETE_CHUNKS, {"id": id})
        await db.execute(DELETE_CAMPAIGN, {"id": id})
    return Piece(len(rows), None)


async def drop_keys(
    db: Connection, shelf: Shelf, *, after: tuple[datetime, str, str] | None = None, limit: int
) -> Piece:
    """Delete those of the next `limit` keys of which no record is left."""
    await db.execute(PATIENCE)
    created_at, route, key = after or (shelf.cutoff - timedelta(days=36_500), "", "")
    rows = (
        await db.execute(
            KEYS,
            {
                "service_id": shelf.service_id,
                "cutoff": shelf.cutoff,
                "key_life": KEY_LIFE,
                "created_at": created_at,
                "route": route,
                "key": key,
                "limit": limit,
            },
        )
    ).all()
    gone = [row for row in rows if not row.has_record]
    if gone:
        named = {"routes": [row.route for row in gone], "keys": [row.key for row in gone]}
        await db.execute(DELETE_OLD_KEYS, named | {"service_id": shelf.service_id})
    last = rows[-1] if len(rows) == limit else None
    return Piece(len(gone), last and (last.created_at, last.route, last.key))


def _routes(route: str) -> list[str]:
    return [route_of(route, mode) for mode in Mode]


async def _drop_deliveries(db: Connection, ids: Sequence[int]) -> None:
    await db.execute(DELETE_EVENTS, {"ids": list(ids)})
    await db.execute(DELETE_DELIVERIES, {"ids": list(ids)})
