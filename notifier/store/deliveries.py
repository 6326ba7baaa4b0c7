"""Deliveries: where they are born, claimed, recorded and found due.

The only file a notification passes more than once: being born, claimed and recorded are three
transactions in two processes, with the provider's call between the last two. Every write of a
status is guarded by the statuses it may come from (`domain.delivery.FOLLOWS`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from notifier.domain.delivery import FOLLOWS, Standing, Status, Step
from notifier.domain.notification import Lane, Mode, OnUnknown
from notifier.store.database import Connection
from notifier.store.notifications import json_text


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery about to be born."""

    notification_id: UUID
    service_id: int
    recipient_id: int | None
    lane: Lane
    mode: Mode
    status: Status
    reason: str | None
    max_attempts: int
    on_unknown: OnUnknown
    due_at: datetime | None
    expires_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that is ours to send until its lease ends, with what the rendering needs.

    `fence` must be shown by every later write; `claimed_at` and `expires_at` are the database's clock.
    """

    id: int
    fence: int
    attempt: int
    standing: Standing
    mode: Mode
    settled: frozenset[str]
    service_id: int
    notification_id: UUID
    template: str
    data: Mapping[str, Any]
    recipient_id: int | None
    address: Mapping[str, Any] | None
    collapse_key: str | None
    claimed_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Record:
    """The result of an attempt, to be written if `fence` still holds."""

    id: int
    fence: int
    step: Step
    settled: frozenset[str] = frozenset()
    provider: str | None = None
    provider_message_id: str | None = None
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery whose moment has come, locked for this transaction."""

    id: int
    standing: Standing
    claimed_at: datetime | None


INSERT = text("""
    INSERT INTO deliveries (notification_id, service_id, recipient_id, channel, priority, mode, status, reason,
                            max_attempts, on_unknown, due_at, expires_at, created_at, updated_at)
    SELECT *, created_at
      FROM unnest(CAST(:notification_id AS uuid[]), CAST(:service_id AS bigint[]), CAST(:recipient_id AS bigint[]),
                  CAST(:channel AS text[]), CAST(:priority AS text[]), CAST(:mode AS text[]), CAST(:status AS text[]),
                  CAST(:reason AS text[]), CAST(:max_attempts AS smallint[]), CAST(:on_unknown AS text[]),
                  CAST(:due_at AS timestamptz[]), CAST(:expires_at AS timestamptz[]),
                  CAST(:created_at AS timestamptz[]))
           AS d(notification_id, service_id, recipient_id, channel, priority, mode, status, reason,
                max_attempts, on_unknown, due_at, expires_at, created_at)
    RETURNING id, status, priority, channel
""")

# Take those of :ids that are queued in this lane and still alive, and stamp them with a lease.
# SKIP LOCKED: a repeated hint in another worker must not wait for the first; it simply gets nothing.
CLAIM = text("""
    WITH ours AS (
        SELECT id FROM deliveries
         WHERE id = ANY(CAST(:ids AS bigint[])) AND status = 'queued'
           AND priority = :priority AND channel = :channel
           AND expires_at > now() AND attempt < max_attempts
         ORDER BY id
           FOR UPDATE SKIP LOCKED)
    UPDATE deliveries d
       SET status = 'sending', attempt = d.attempt + 1, fence = d.fence + 1,
           claimed_at = now(), called_at = NULL, updated_at = now(),
           due_at = now() + make_interval(secs => :lease_seconds)
      FROM ours, notifications n
     WHERE d.id = ours.id AND n.id = d.notification_id
    RETURNING d.id, d.fence, d.attempt, d.max_attempts, d.unknowns, d.expires_at, d.on_unknown, d.mode, d.settled,
              d.service_id, d.notification_id, n.template, n.data, d.recipient_id, n.address, n.collapse_key,
              d.claimed_at, d.created_at
""")

# The last look before the providers are called: still ours, and still alive, by the database's clock.
BEGIN_CALLS = text("""
    UPDATE deliveries d SET called_at = now()
      FROM unnest(CAST(:id AS bigint[]), CAST(:fence AS integer[])) AS c(id, fence)
     WHERE d.id = c.id AND d.fence = c.fence AND d.status = 'sending' AND d.expires_at > now()
    RETURNING d.id
""")

# Write what came of attempts, each only if it is still ours (same fence, still `sending`), with one event each.
RECORD = text("""
    WITH r AS (
        SELECT * FROM unnest(
            CAST(:id AS bigint[]), CAST(:fence AS integer[]), CAST(:status AS text[]), CAST(:reason AS text[]),
            CAST(:due_at AS timestamptz[]), CAST(:counts AS boolean[]), CAST(:settled AS text[]),
            CAST(:provider AS text[]), CAST(:provider_message_id AS text[]), CAST(:detail AS text[]))
          AS r(id, fence, status, reason, due_at, counts, settled, provider, provider_message_id, detail)),
    ours AS (
        SELECT d.id FROM deliveries d JOIN r ON r.id = d.id
         WHERE d.fence = r.fence AND d.status = 'sending'
         ORDER BY d.id FOR UPDATE OF d),
    done AS (
        UPDATE deliveries d
           SET status = r.status, reason = r.reason, due_at = r.due_at, updated_at = now(),
               attempt = d.attempt - CASE WHEN r.counts THEN 0 ELSE 1 END,
               unknowns = d.unknowns + CASE WHEN r.status = 'unknown' THEN 1 ELSE 0 END,
               settled = coalesce(string_to_array(r.settled, ','), d.settled),
               provider = coalesce(r.provider, d.provider),
               provider_message_id = coalesce(r.provider_message_id, d.provider_message_id)
          FROM r, ours
         WHERE d.id = r.id AND ours.id = r.id AND d.fence = r.fence AND d.status = 'sending'
        RETURNING d.id, r.status, r.reason, d.attempt + CASE WHEN r.counts THEN 0 ELSE 1 END AS attempt, r.detail)
    INSERT INTO delivery_events (delivery_id, status_from, status_to, reason, attempt, detail)
    SELECT id, 'sending', status, reason, attempt, detail::jsonb FROM done ORDER BY id
    RETURNING delivery_id
""")

# Whose moment has come in a lane, earliest first. Without room in the queue, only those that need no hint;
# with an empty queue, queued ones that much early, since no hint of theirs can be there any more.
DUE = text("""
    SELECT id, status, attempt, max_attempts, unknowns, expires_at, on_unknown, claimed_at, called_at, settled
      FROM deliveries
     WHERE priority = :priority AND channel = :channel
       AND due_at <= now() + make_interval(secs => :early_seconds) AND (due_at <= now() OR status = 'queued')
       AND (:with_hints OR expires_at <= now() OR status = 'sending')
     ORDER BY due_at
     LIMIT :limit
       FOR UPDATE SKIP LOCKED
""")

# Give due rows (locked by DUE) their next step; an event for each but a mere repeated hint.
STEP = text("""
    WITH r AS (
        SELECT * FROM unnest(
            CAST(:id AS bigint[]), CAST(:status_from AS text[]), CAST(:status AS text[]), CAST(:reason AS text[]),
            CAST(:due_at AS timestamptz[]), CAST(:detail AS text[]))
          AS r(id, status_from, status, reason, due_at, detail)),
    done AS (
        UPDATE deliveries d
           SET status = r.status, due_at = r.due_at, updated_at = now(),
               reason = CASE WHEN r.status = r.status_from THEN d.reason ELSE r.reason END,
               unknowns = d.unknowns + CASE WHEN r.status = 'unknown' AND r.status_from = 'sending' THEN 1 ELSE 0 END
          FROM r WHERE d.id = r.id AND d.status = r.status_from
        RETURNING d.id, r.status_from, r.status, r.reason, d.attempt, r.detail)
    INSERT INTO delivery_events (delivery_id, status_from, status_to, reason, attempt, detail)
    SELECT id, status_from, status, reason, attempt, detail::jsonb FROM done
     WHERE status_from <> status ORDER BY id
""")

# What waits is cancelled; what one device of several has already is left at that.
CANCEL = text("""
    WITH waiting AS (
        SELECT id, status, CASE WHEN cardinality(settled) > 0 THEN 'sent' ELSE 'cancelled' END AS status_to,
               CASE WHEN cardinality(settled) > 0 THEN 'sent_to_some:' ELSE '' END || 'cancelled_by_caller' AS reason
          FROM deliveries
         WHERE notification_id = :id AND service_id = :service_id AND status = ANY(CAST(:cancellable AS text[]))
         ORDER BY id FOR UPDATE),
    done AS (
        UPDATE deliveries d SET status = w.status_to, reason = w.reason, due_at = NULL, updated_at = now()
          FROM waiting w WHERE d.id = w.id
        RETURNING d.id, w.status AS status_from, w.status_to, w.reason, d.attempt)
    INSERT INTO delivery_events (delivery_id, status_from, status_to, reason, attempt)
    SELECT id, status_from, status_to, reason, attempt FROM done
    RETURNING delivery_id
""")

# How much waits in a priority, counted up to :limit so that the count costs no more than it is worth.
BACKLOG = text("""
    SELECT count(*) FROM (
        SELECT 1 FROM deliveries
         WHERE priority = :priority AND due_at <= now() + interval '2 minutes' LIMIT :limit) AS waiting
""")


async def insert(db: Connection, rows: Sequence[NewDelivery]) -> list[tuple[int, Status, Lane]]:
    """Write `rows`; returns the id, status and lane of each."""
    born = await db.execute(
        INSERT,
        {
            "notification_id": [row.notification_id for row in rows],
            "service_id": [row.service_id for row in rows],
            "recipient_id": [row.recipient_id for row in rows],
            "channel": [row.lane.channel for row in rows],
            "priority": [row.lane.priority for row in rows],
            "mode": [row.mode for row in rows],
            "status": [row.status for row in rows],
            "reason": [row.reason for row in rows],
            "max_attempts": [row.max_attempts for row in rows],
            "on_unknown": [row.on_unknown for row in rows],
            "due_at": [row.due_at for row in rows],
            "expires_at": [row.expires_at for row in rows],
            "created_at": [row.created_at for row in rows],
        },
    )
    return [(row.id, Status(row.status), Lane.parse(f"{row.priority}.{row.channel}")) for row in born]


async def claim(db: Connection, ids: Sequence[int], *, lane: Lane, lease: timedelta) -> list[Claim]:
    """Take those of `ids` that are ours to send, and mark them `sending`.

    A hint may be late, repeated or forged; the row decides. Rows that are taken, in another
    lane, cancelled or past `expires_at` are left out without a word: their owner has
    recorded, or the sweeper will record, what became of them.

    Returns one Claim per row taken, in id order, each with the `fence` that every later write
    must show. The lease runs by the database's clock.
    """
    rows = await db.execute(
        CLAIM,
        {
            "ids": list(ids),
            "priority": lane.priority,
            "channel": lane.channel,
            "lease_seconds": lease.total_seconds(),
        },
    )
    claims = [
        Claim(
            id=row.id,
            fence=row.fence,
            attempt=row.attempt,
            standing=_standing(row, Status.SENDING),
            mode=Mode(row.mode),
            settled=frozenset(row.settled or ()),
            service_id=row.service_id,
            notification_id=row.notification_id,
            template=row.template,
            data=row.data,
            recipient_id=row.recipient_id,
            address=row.address,
            collapse_key=row.collapse_key,
            claimed_at=row.claimed_at,
            created_at=row.created_at,
        )
        for row in rows
    ]
    return sorted(claims, key=lambda claim: claim.id)


async def begin_calls(db: Connection, claims: Sequence[Claim]) -> set[int]:
    """Mark claimed deliveries as about to be called; returns those that may be.

    The others are not ours any more, or have expired since they were claimed. A worker that dies
    before this has certainly sent nothing.
    """
    rows = await db.execute(
        BEGIN_CALLS, {"id": [claim.id for claim in claims], "fence": [claim.fence for claim in claims]}
    )
    return {row.id for row in rows}


async def record(db: Connection, records: Sequence[Record]) -> set[int]:
    """Write what came of attempts; returns the ids that were written.

    An id is missing when its fence has moved on: the lease ended, somebody else decided, and
    what this worker knows changes nothing any more.
    """
    for entry in records:
        if entry.step.status not in FOLLOWS[Status.SENDING]:
            raise AssertionError(f"{entry.step.status} may not follow sending")
    written = await db.execute(
        RECORD,
        {
            "id": [entry.id for entry in records],
            "fence": [entry.fence for entry in records],
            "status": [entry.step.status for entry in records],
            "reason": [entry.step.reason for entry in records],
            "due_at": [entry.step.due_at for entry in records],
            "counts": [entry.step.counts for entry in records],
            "settled": [",".join(sorted(entry.settled)) or None for entry in records],
            "provider": [entry.provider for entry in records],
            "provider_message_id": [entry.provider_message_id for entry in records],
            "detail": [None if entry.detail is None else json_text(entry.detail) for entry in records],
        },
    )
    return {row.delivery_id for row in written}


async def due(
    db: Connection, lane: Lane, *, limit: int, with_hints: bool = True, early: timedelta = timedelta(0)
) -> list[Due]:
    """Lock and return deliveries of `lane` whose `due_at` has come, earliest first.

    Rows that another sweeper holds are passed over. `with_hints=False` leaves out those for
    which there is only a hint to give (the queue is full, or the broker away). `early` takes in
    queued ones whose hint would be given again only within that time.
    """
    rows = await db.execute(
        DUE,
        {
            "priority": lane.priority,
            "channel": lane.channel,
            "limit": limit,
            "with_hints": with_hints,
            "early_seconds": early.total_seconds(),
        },
    )
    return [Due(row.id, _standing(row, Status(row.status)), row.claimed_at) for row in rows]


async def step(db: Connection, steps: Sequence[tuple[Due, Step]], *, details: Mapping[int, Any] | None = None) -> None:
    """Give each due row (locked by `due` in this transaction) its next step."""
    details = details or {}
    for row, next_step in steps:
        status = row.standing.status
        if next_step.status is not status and next_step.status not in FOLLOWS[status]:
            raise AssertionError(f"{next_step.status} may not follow {status}")
    await db.execute(
        STEP,
        {
            "id": [row.id for row, _ in steps],
            "status_from": [row.standing.status for row, _ in steps],
            "status": [next_step.status for _, next_step in steps],
            "reason": [next_step.reason for _, next_step in steps],
            "due_at": [next_step.due_at for _, next_step in steps],
            "detail": [json_text(details[row.id]) if row.id in details else None for row, _ in steps],
        },
    )


async def cancel(db: Connection, service_id: int, notification_id: UUID) -> int:
    """Cancel what is not yet with a provider; returns how many deliveries that were."""
    cancellable = [status for status, after in FOLLOWS.items() if Status.CANCELLED in after]
    rows = await db.execute(CANCEL, {"id": notification_id, "service_id": service_id, "cancellable": cancellable})
    return len(rows.all())


async def backlog(db: Connection, priority: str, *, limit: int) -> int:
    """How many deliveries of a priority wait to be sent soon, counted no further than `limit`."""
    return int((await db.execute(BACKLOG, {"priority": priority, "limit": limit})).scalar_one())


def _standing(row: Any, status: Status) -> Standing:
    return Standing(
        status=status,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        unknowns=row.unknowns,
        expires_at=row.expires_at,
        on_unknown=OnUnknown(row.on_unknown),
        is_called=getattr(row, "called_at", None) is not None,
        is_sent_to_some=bool(row.settled),
    )
