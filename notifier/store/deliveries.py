"""Deliveries: where those of notifications are born, and all are claimed and recorded.

The only file a notification passes more than once: being born, claimed and recorded are three
transactions in two processes, with the provider's call between the last two. Every write of a
status is guarded by the statuses it may come from (`domain.delivery.FOLLOWS`). Those that wait are
in `waits`; those of a campaign are born in `chunks`.
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
from notifier.store.chunk_counters import COUNT
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
    #: One of the two: whose delivery it is.
    notification_id: UUID | None
    campaign_id: UUID | None
    template: str
    data: Mapping[str, Any]
    recipient_id: int | None
    address: Mapping[str, Any] | None
    collapse_key: str | None
    claimed_at: datetime
    #: Since when it was to be sent: accepted, or `send_at`.
    ready_at: datetime
    #: Whether it is a dead letter that somebody has sent again.
    is_replay: bool


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
    RETURNING id, status, priority, channel, notification_id
""")

#: Whether a campaign's deliveries go out: not while it is paused, cancelled, or out of its window.
GOES_OUT = "c.status IN ('running', 'finished') AND (c.open_until IS NULL OR now() < c.open_until)"

# Take those of :ids that are queued in this lane and still alive, and stamp them with a lease.
# SKIP LOCKED: a repeated hint in another worker must not wait for the first; it simply gets nothing.
CLAIM = text(f"""
    WITH ours AS (
        SELECT id, notification_id, campaign_id FROM deliveries
         WHERE id = ANY(CAST(:ids AS bigint[])) AND status = 'queued'
           AND priority = :priority AND channel = :channel
           AND expires_at > now() AND attempt < max_attempts
           AND (campaign_id IS NULL OR EXISTS (SELECT 1 FROM campaigns c WHERE c.id = campaign_id AND {GOES_OUT}))
         ORDER BY id
           FOR UPDATE SKIP LOCKED)
    UPDATE deliveries d
       SET status = 'sending', attempt = d.attempt + 1, fence = d.fence + 1,
           claimed_at = now(), called_at = NULL, updated_at = now(),
           due_at = now() + make_interval(secs => :lease_seconds)
      FROM ours LEFT JOIN notifications n ON n.id = ours.notification_id
                LEFT JOIN campaigns c ON c.id = ours.campaign_id
     WHERE d.id = ours.id
    RETURNING d.id, d.fence, d.attempt, d.max_attempts, d.unknowns, d.expires_at, d.on_unknown, d.mode, d.settled,
              d.service_id, d.notification_id, d.campaign_id, coalesce(n.template, c.template) AS template,
              coalesce(n.data, c.data) AS data, d.recipient_id, coalesce(d.address, n.address) AS address,
              n.collapse_key, d.claimed_at, greatest(d.created_at, n.send_at) AS ready_at,
              d.attempt > 1 AND EXISTS (SELECT 1 FROM delivery_events e
                                         WHERE e.delivery_id = d.id AND e.status_from = 'failed') AS is_replay
""")  # noqa: S608  # the words are our own

# The last look before the providers are called: still ours, and still alive, by the database's clock.
BEGIN_CALLS = text("""
    UPDATE deliveries d SET called_at = now()
      FROM unnest(CAST(:id AS bigint[]), CAST(:fence AS integer[])) AS c(id, fence)
     WHERE d.id = c.id AND d.fence = c.fence AND d.status = 'sending' AND d.expires_at > now()
    RETURNING d.id
""")

# Write what came of attempts, each only if it is still ours (same fence, still `sending`), with one event each.
RECORD = text(f"""
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
        RETURNING d.id, d.campaign_id, d.chunk, 'sending' AS status_from, r.status, r.reason,
                  d.attempt + CASE WHEN r.counts THEN 0 ELSE 1 END AS attempt, r.detail),
    {COUNT}
    INSERT INTO delivery_events (delivery_id, status_from, status_to, reason, attempt, detail)
    SELECT id, status_from, status, reason, attempt, detail::jsonb FROM done ORDER BY id
    RETURNING delivery_id
""")  # noqa: S608  # the words are our own


async def insert(db: Connection, rows: Sequence[NewDelivery]) -> list[tuple[int, Status, Lane, UUID]]:
    """Write `rows`; returns the id, status, lane and notification of each."""
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
    return [
        (row.id, Status(row.status), Lane.parse(f"{row.priority}.{row.channel}"), row.notification_id) for row in born
    ]


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
            standing=standing(row, Status.SENDING),
            mode=Mode(row.mode),
            settled=frozenset(row.settled or ()),
            service_id=row.service_id,
            notification_id=row.notification_id,
            campaign_id=row.campaign_id,
            template=row.template,
            data=row.data,
            recipient_id=row.recipient_id,
            address=row.address,
            collapse_key=row.collapse_key,
            claimed_at=row.claimed_at,
            ready_at=row.ready_at,
            is_replay=row.is_replay,
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


def standing(row: Any, status: Status) -> Standing:
    """What the rules need to know of a delivery, from a row of CLAIM or of `waits.DUE`."""
    return Standing(
        status=status,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        unknowns=row.unknowns,
        expires_at=row.expires_at,
        on_unknown=OnUnknown(row.on_unknown),
        is_called=getattr(row, "called_at", None) is not None,
        is_sent_to_some=bool(row.settled),
        is_cancelled=getattr(row, "is_cancelled", False),
        tries=getattr(row, "fence", 0),
    )
