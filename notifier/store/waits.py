"""Deliveries that wait: found when they are due, given their next step, held, released, cancelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from notifier.domain.campaign import Campaign
from notifier.domain.delivery import FOLLOWS, Standing, Status, Step
from notifier.domain.notification import Channel, Lane, Priority
from notifier.domain.tenant import Tenant
from notifier.store.chunk_counters import COUNT
from notifier.store.database import Connection
from notifier.store.deliveries import GOES_OUT, standing
from notifier.store.notifications import json_text

#: Why a queued delivery was put off: its provider carries no more just now.
NO_BUDGET = "no_budget"

_CANCELLABLE = [status for status, after in FOLLOWS.items() if Status.CANCELLED in after]


@dataclass(frozen=True, slots=True)
class Lanes:
    """Where a campaign's deliveries wait."""

    campaign_id: UUID
    priority: Priority
    channels: tuple[Channel, ...]

    @classmethod
    def of(cls, campaign: Campaign) -> Lanes:
        return cls(campaign.id, campaign.plan.priority, campaign.plan.channels)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"id": self.campaign_id, "priority": self.priority, "channels": list(self.channels)}


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery whose moment has come, locked for this transaction."""

    id: int
    standing: Standing
    claimed_at: datetime | None
    #: From its last step to its due moment.
    waits_for: timedelta
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How many deliveries of a lane and template ended alike."""

    lane: Lane
    template: str
    status: Status
    reason: str
    count: int


# Whose moment has come in a lane, earliest first. Without room in the queue, only those that need no hint;
# with an empty queue, queued ones that much early, since no hint of theirs can be there any more.
DUE = text(f"""
    SELECT d.id, d.status, d.attempt, d.max_attempts, d.unknowns, d.expires_at, d.on_unknown, d.claimed_at,
           d.called_at, d.settled, d.reason, d.due_at - d.updated_at AS waits_for, d.campaign_id,
           d.campaign_id IS NOT NULL AND NOT coalesce(
               (SELECT {GOES_OUT} FROM campaigns c WHERE c.id = d.campaign_id), false) AS is_held,
           coalesce((SELECT c.status = 'cancelled' FROM campaigns c WHERE c.id = d.campaign_id), false) AS is_cancelled
      FROM deliveries d
     WHERE d.priority = :priority AND d.channel = :channel
       AND d.due_at <= now() + make_interval(secs => :early_seconds) AND (d.due_at <= now() OR d.status = 'queued')
       AND (:with_hints OR d.expires_at <= now() OR d.status = 'sending')
       AND (:with_leases OR d.status <> 'sending')
     ORDER BY d.due_at
     LIMIT :limit
       FOR UPDATE OF d SKIP LOCKED
""")  # noqa: S608  # the words are our own

# Nobody may send these just now: due again in a while, in the order in which they are due now. The reason stays on the
# row until an attempt is recorded, so that one that waits, or has expired, can say what for.
PUT_OFF = text(f"""
    WITH waiting AS (
        SELECT id FROM deliveries
         WHERE id = ANY(CAST(:ids AS bigint[])) AND status = 'queued' AND priority = :priority AND channel = :channel
           AND due_at > now()
         ORDER BY id FOR UPDATE SKIP LOCKED)
    UPDATE deliveries d SET due_at = least(d.expires_at, now() + make_interval(secs => :wait_seconds)),
                            reason = '{NO_BUDGET}'
      FROM waiting w WHERE d.id = w.id
""")  # noqa: S608  # the words are our own

# Which of these campaigns do hold their deliveries back. Locked against whoever would let them go just now: else a row
# is put aside after the release that was to fetch it, and waits for the end of its life.
HOLDERS = text(f"""
    SELECT c.id FROM campaigns c WHERE c.id = ANY(CAST(:ids AS uuid[])) AND NOT ({GOES_OUT}) ORDER BY c.id FOR SHARE
""")  # noqa: S608  # the words are our own

# Give due rows (locked by DUE) their next step; an event for each but a mere repeated hint.
STEP = text(f"""
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
        RETURNING d.id, d.campaign_id, d.chunk, r.status_from, r.status, r.reason, d.attempt, r.detail),
    {COUNT}
    INSERT INTO delivery_events (delivery_id, status_from, status_to, reason, attempt, detail)
    SELECT id, status_from, status, reason, attempt, detail::jsonb FROM done
     WHERE status_from <> status ORDER BY id
""")  # noqa: S608  # the words are our own

# What waits is cancelled; what one device of several has already is left at that.
CANCEL = text("""
    WITH waiting AS (
        SELECT id, status, CASE WHEN cardinality(settled) > 0 THEN 'sent' ELSE 'cancelled' END AS status_to,
               CASE WHEN cardinality(settled) > 0 THEN 'sent_to_some:' ELSE '' END || 'cancelled_by_caller' AS reason
          FROM deliveries
         WHERE notification_id = :id AND service_id = :service_id AND mode = :mode
           AND status = ANY(CAST(:cancellable AS text[]))
         ORDER BY id FOR UPDATE),
    done AS (
        UPDATE deliveries d SET status = w.status_to, reason = w.reason, due_at = NULL, updated_at = now()
          FROM waiting w WHERE d.id = w.id
        RETURNING d.id, w.status AS status_from, w.status_to, w.reason, d.attempt, d.priority, d.channel),
    written AS (
        INSERT INTO delivery_events (delivery_id, status_from, status_to, reason, attempt, detail)
        SELECT id, status_from, status_to, reason, attempt,
               jsonb_strip_nulls(jsonb_build_object('by', CAST(:by AS text)))
          FROM done)
    SELECT priority, channel, status_to AS status, reason, count(*) AS many,
           (SELECT template FROM notifications WHERE id = :id) AS template
      FROM done GROUP BY priority, channel, status_to, reason
""")

# The same for a campaign's, a batch at a time. It is found by its lane: all that waits there is little beside all
# that the campaign ever made. What is locked is in other hands, which will find the campaign cancelled.
CANCEL_OF_CAMPAIGN = text(f"""
    WITH waiting AS (
        SELECT id, status AS status_from, CASE WHEN cardinality(settled) > 0 THEN 'sent' ELSE 'cancelled' END AS status,
               CASE WHEN cardinality(settled) > 0 THEN 'sent_to_some:' ELSE '' END || 'campaign_cancelled' AS reason
          FROM deliveries
         WHERE priority = :priority AND channel = ANY(CAST(:channels AS text[])) AND due_at IS NOT NULL
           AND campaign_id = :id AND status = ANY(CAST(:cancellable AS text[]))
         ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED),
    done AS (
        UPDATE deliveries d SET status = w.status, reason = w.reason, due_at = NULL, updated_at = now()
          FROM waiting w WHERE d.id = w.id
        RETURNING d.id, d.campaign_id, d.chunk, w.status_from, w.status, w.reason, d.attempt, d.priority, d.channel),
    {COUNT},
    written AS (
        INSERT INTO delivery_events (delivery_id, status_from, status_to, reason, attempt)
        SELECT id, status_from, status, reason, attempt FROM done ORDER BY id)
    SELECT priority, channel, status, reason, count(*) AS many,
           (SELECT template FROM campaigns WHERE id = :id) AS template
      FROM done GROUP BY priority, channel, status, reason
""")  # noqa: S608  # the words are our own

# What the sweeper has put aside while its campaign was paused, or out of its window, is due now.
RELEASE = text("""
    UPDATE deliveries SET due_at = now()
     WHERE priority = :priority AND channel = ANY(CAST(:channels AS text[])) AND due_at IS NOT NULL
       AND campaign_id = :id AND due_at = expires_at AND expires_at > now()
       AND status IN ('queued', 'retrying', 'unknown')
""")

# Whether anything of a campaign is still to be done. Of `ended` ones, too: an unknown one may be tried again.
WAITS = text("""
    SELECT EXISTS (SELECT 1 FROM deliveries
                    WHERE priority = :priority AND channel = ANY(CAST(:channels AS text[])) AND due_at IS NOT NULL
                      AND campaign_id = :id)
""")

# Of what templates deliveries are.
TEMPLATES = text("""
    SELECT d.id, coalesce(n.template, c.template) AS template
      FROM deliveries d LEFT JOIN notifications n ON n.id = d.notification_id
                        LEFT JOIN campaigns c ON c.id = d.campaign_id
     WHERE d.id = ANY(CAST(:ids AS bigint[]))
""")

# How much waits in a priority, counted up to :limit so that the count costs no more than it is worth.
BACKLOG = text("""
    SELECT count(*) FROM (
        SELECT 1 FROM deliveries
         WHERE priority = :priority AND due_at <= now() + interval '2 minutes' LIMIT :limit) AS waiting
""")


async def due(
    db: Connection,
    lane: Lane,
    *,
    limit: int,
    with_hints: bool = True,
    with_leases: bool = True,
    early: timedelta = timedelta(0),
) -> list[Due]:
    """Lock and return deliveries of `lane` whose `due_at` has come, earliest first.

    Rows that another sweeper holds are passed over. `with_hints=False` leaves out those for
    which there is only a hint to give (the queue is full, or the broker away), `with_leases=False` those whose
    lease has ended. `early` takes in
    queued ones whose hint would be given again only within that time.
    """
    found = await db.execute(
        DUE,
        {
            "priority": lane.priority,
            "channel": lane.channel,
            "limit": limit,
            "with_hints": with_hints,
            "with_leases": with_leases,
            "early_seconds": early.total_seconds(),
        },
    )
    rows = found.all()
    seemed = {row.campaign_id for row in rows if row.is_held}
    holders = {row.id for row in await db.execute(HOLDERS, {"ids": list(seemed)})} if seemed else seemed
    return [
        Due(
            row.id,
            replace(standing(row, Status(row.status)), is_held=row.is_held and row.campaign_id in holders),
            row.claimed_at,
            row.waits_for,
            row.reason,
        )
        for row in rows
    ]


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


async def put_off(db: Connection, ids: Sequence[int], *, lane: Lane, wait: timedelta) -> None:
    """Make queued deliveries due in `wait`: their provider has no budget. What is due already stays so."""
    await db.execute(
        PUT_OFF,
        {
            "ids": list(ids),
            "priority": lane.priority,
            "channel": lane.channel,
            "wait_seconds": wait.total_seconds(),
        },
    )


async def templates(db: Connection, ids: Sequence[int]) -> dict[int, str]:
    """The name of each delivery's template."""
    return {row.id: row.template for row in await db.execute(TEMPLATES, {"ids": list(ids)})}


async def cancel(db: Connection, tenant: Tenant, notification_id: UUID, *, by: str | None = None) -> list[Ending]:
    """Cancel what is not yet with a provider, and note by whom; returns what became of those deliveries."""
    asked = {"id": notification_id, "cancellable": _CANCELLABLE, "by": by}
    rows = await db.execute(CANCEL, tenant.parameters | asked)
    return [_ending(row) for row in rows]


async def cancel_of_campaign(db: Connection, lanes: Lanes, *, limit: int) -> list[Ending]:
    """Cancel at most `limit` of a campaign's that are not yet with a provider; returns what became of those."""
    rows = await db.execute(CANCEL_OF_CAMPAIGN, lanes.parameters | {"cancellable": _CANCELLABLE, "limit": limit})
    return [_ending(row) for row in rows]


async def release(db: Connection, lanes: Lanes) -> int:
    """Let go what was held back with its campaign; returns how many deliveries."""
    return (await db.execute(RELEASE, lanes.parameters)).rowcount


async def are_any(db: Connection, lanes: Lanes) -> bool:
    """Whether any of a campaign's deliveries is still to be sent, tried again, or waited for."""
    return bool((await db.execute(WAITS, lanes.parameters)).scalar_one())


async def backlog(db: Connection, priority: str, *, limit: int) -> int:
    """How many deliveries of a priority wait to be sent soon, counted no further than `limit`."""
    return int((await db.execute(BACKLOG, {"priority": priority, "limit": limit})).scalar_one())


def _ending(row: Any) -> Ending:
    lane = Lane(Priority(row.priority), Channel(row.channel))
    return Ending(lane, row.template, Status(row.status), row.reason, row.many)
