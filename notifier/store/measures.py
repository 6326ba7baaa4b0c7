"""What the gauges show: read as sets, a statement a thing, bounded, and by indexes that others need anyway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from notifier.domain.notification import Lane
from notifier.store.database import Connection
from notifier.store.tables import COUNTED

#: Rows of a lane that are counted at most: a backlog of this size is shown as just this.
MOST = 100_000
#: Rows among which the oldest is looked for, those first that have been due for longest.
OLDEST_AMONG = 1_000
_OPEN = ("scheduled", "running", "paused")

#: What waits to be sent now. (What a paused campaign holds back is due when it expires.)
_WAITS = """
    (next.status = 'queued' AND NOT (next.campaign_id IS NOT NULL AND next.due_at = next.expires_at)
     OR next.status <> 'sending' AND next.due_at <= now())
"""

# Of a lane, along deliveries_due, from the earliest due moment on. Those in flight are due when their lease ends, so
# they are looked for from the other end: the latest of them come before what was hinted or put off earlier.
LANE = text(f"""
    SELECT (SELECT count(*) FILTER (WHERE {_WAITS})
              FROM (SELECT status, due_at, campaign_id, expires_at FROM deliveries
                     WHERE priority = :priority AND channel = :channel AND due_at IS NOT NULL
                     ORDER BY due_at LIMIT :most) AS next) AS waiting,
           (SELECT count(*) FILTER (WHERE status = 'sending')
              FROM (SELECT status FROM deliveries
                     WHERE priority = :priority AND channel = :channel
                       AND due_at <= now() + make_interval(secs => :lease_seconds)
                     ORDER BY due_at DESC LIMIT :most) AS held) AS in_flight,
           (SELECT extract(epoch FROM now() - min(CASE
                       WHEN next.status <> 'queued' THEN next.due_at
                       WHEN next.attempt > 0 THEN next.updated_at
                       ELSE greatest(next.created_at, n.send_at) END) FILTER (WHERE {_WAITS}))
              FROM (SELECT status, due_at, campaign_id, expires_at, attempt, updated_at, created_at, notification_id
                      FROM deliveries
                     WHERE priority = :priority AND channel = :channel AND due_at IS NOT NULL
                     ORDER BY due_at LIMIT :oldest_among) AS next
              LEFT JOIN notifications n ON n.id = next.notification_id) AS oldest
""")  # noqa: S608  # the words are our own

CAMPAIGNS = text(f"""
    SELECT status, CASE WHEN status = 'running' THEN limited_by END AS limited_by, count(*) AS many
      FROM campaigns WHERE status IN {_OPEN} GROUP BY 1, 2
""")  # noqa: S608  # the words are our own

_SUMS = ", ".join(f"coalesce(sum(k.{word}), 0) AS {word}" for word in COUNTED)
PROGRESS = text(f"""
    SELECT coalesce(sum(k.planned), 0) AS planned, {_SUMS}
      FROM campaigns c JOIN campaign_chunks k ON k.campaign_id = c.id WHERE c.status IN ('running', 'paused')
""")  # noqa: S608  # the words are our own

BYTES = text("SELECT pg_database_size(current_database())")

#: What a campaign's progress is told by. What a provider says later (delivered, bounced, complained) was sent.
_PROGRESS = {"sent": ("sent", "delivered", "bounced", "complained")} | {
    word: (word,) for word in ("failed", "expired", "suppressed", "unknown", "cancelled")
}


@dataclass(frozen=True, slots=True)
class LaneMeasure:
    """How a lane stands: what waits, what is being sent, and since when the oldest of the former waits."""

    waiting: int
    in_flight: int
    oldest: timedelta


@dataclass(frozen=True, slots=True)
class CampaignMeasure:
    """Campaigns by status and by what limits them, and what became of the deliveries of those that are under way."""

    by_status: Mapping[str, int]
    by_limit: Mapping[str, int]
    progress: Mapping[str, int]


async def lane(db: Connection, which: Lane, *, lease: timedelta) -> LaneMeasure:
    """One lane, by the database's clock."""
    row = (
        await db.execute(
            LANE,
            {
                "priority": which.priority,
                "channel": which.channel,
                "lease_seconds": lease.total_seconds(),
                "most": MOST,
                "oldest_among": OLDEST_AMONG,
            },
        )
    ).one()
    return LaneMeasure(row.waiting, row.in_flight, timedelta(seconds=max(0.0, float(row.oldest or 0))))


async def campaigns(db: Connection) -> CampaignMeasure:
    """All campaigns that are not over."""
    by_status, by_limit = dict.fromkeys(_OPEN, 0), dict[str, int]()
    for row in await db.execute(CAMPAIGNS):
        by_status[row.status] += row.many
        if row.limited_by is not None:
            by_limit[row.limited_by] = row.many
    sums = (await db.execute(PROGRESS)).mappings().one()
    progress = {what: sum(int(sums[word]) for word in words) for what, words in _PROGRESS.items()}
    planned = int(sums["planned"])
    return CampaignMeasure(
        by_status, by_limit, progress | {"planned": planned, "unfinished": planned - sum(progress.values())}
    )


async def size_bytes(db: Connection) -> int:
    """What the database takes on its disk."""
    return int((await db.execute(BYTES)).scalar_one())
