"""Dead letters: what has failed for good, kept with the last answer, to be sent once more if somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from notifier.domain.notification import Channel, Priority
from notifier.domain.tenant import Tenant
from notifier.store.chunk_counters import COUNT
from notifier.store.database import Connection


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Which ones are meant: all that is given must fit. `priorities` None: any."""

    ids: tuple[int, ...] | None = None
    campaign_id: UUID | None = None
    notification_id: UUID | None = None
    recipient_id: int | None = None
    channel: Channel | None = None
    template: str | None = None
    reason: str | None = None
    failed_after: datetime | None = None
    failed_before: datetime | None = None
    priorities: tuple[Priority, ...] = tuple(Priority)
    with_campaigns: bool = True

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "ids": None if self.ids is None else list(self.ids),
            "campaign_id": self.campaign_id,
            "notification_id": self.notification_id,
            "recipient_id": self.recipient_id,
            "channel": self.channel,
            "template": self.template,
            "reason": self.reason,
            "failed_after": self.failed_after,
            "failed_before": self.failed_before,
            "priorities": list(self.priorities),
            "with_campaigns": self.with_campaigns,
        }


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One of them as a reader sees it; `last_answer` is what the provider said last, if it was asked."""

    id: int
    notification_id: UUID | None
    campaign_id: UUID | None
    recipient_id: int | None
    channel: str
    priority: str
    mode: str
    template: str
    reason: str
    attempt: int
    provider: str | None
    created_at: datetime
    failed_at: datetime
    expires_at: datetime
    last_answer: dict[str, Any] | None


_FITS = """
      d.service_id = :service_id AND d.mode = :mode AND d.status = 'failed'
      AND (CAST(:ids AS bigint[]) IS NULL OR d.id = ANY(:ids))
      AND (CAST(:campaign_id AS uuid) IS NULL OR d.campaign_id = :campaign_id)
      AND (CAST(:notification_id AS uuid) IS NULL OR d.notification_id = :notification_id)
      AND (CAST(:recipient_id AS bigint) IS NULL OR d.recipient_id = :recipient_id)
      AND (CAST(:channel AS text) IS NULL OR d.channel = :channel)
      AND (CAST(:template AS text) IS NULL OR coalesce(n.template, c.template) = :template)
      AND (CAST(:reason AS text) IS NULL OR d.reason = :reason)
      AND (CAST(:failed_after AS timestamptz) IS NULL OR d.updated_at >= :failed_after)
      AND (CAST(:failed_before AS timestamptz) IS NULL OR d.updated_at < :failed_before)
      AND d.priority = ANY(CAST(:priorities AS text[])) AND (:with_campaigns OR d.campaign_id IS NULL)
"""

# A service's dead letters, newest first, by keyset.
PAGE = text(f"""
    SELECT d.id, d.notification_id, d.campaign_id, d.recipient_id, d.channel, d.priority, d.mode,
           coalesce(n.template, c.template) AS template, d.reason, d.attempt, d.provider, d.created_at,
           d.updated_at AS failed_at, d.expires_at,
           (SELECT e.detail -> 'calls' -> -1 FROM delivery_events e
             WHERE e.delivery_id = d.id AND e.status_to = 'failed' ORDER BY e.id DESC LIMIT 1) AS last_answer
      FROM deliveries d LEFT JOIN notifications n ON n.id = d.notification_id
                        LEFT JOIN campaigns c ON c.id = d.campaign_id
     WHERE {_FITS} AND (CAST(:before AS bigint) IS NULL OR d.id < :before)
     ORDER BY d.id DESC LIMIT :limit
""")  # noqa: S608  # the words are our own

# The ids of some, oldest first, each with its campaign.
FIND = text(f"""
    SELECT d.id, d.campaign_id
      FROM deliveries d LEFT JOIN notifications n ON n.id = d.notification_id
                        LEFT JOIN campaigns c ON c.id = d.campaign_id
     WHERE {_FITS} AND d.id > :after
     ORDER BY d.id LIMIT :limit
""")  # noqa: S608  # the words are our own

# Queued once more with fresh attempts, and with a fresh life if one is given. One that is past its life without that
# stays what it is, and so does one that somebody else has queued meanwhile.
QUEUE = text(f"""
    WITH dead AS (
        SELECT id FROM deliveries
         WHERE id = ANY(CAST(:ids AS bigint[])) AND service_id = :service_id AND mode = :mode AND status = 'failed'
           AND (CAST(:expires_in AS double precision) IS NOT NULL OR expires_at > now())
         ORDER BY id FOR UPDATE),
    done AS (
        UPDATE deliveries d
           SET status = 'queued', reason = NULL, due_at = now(), updated_at = now(),
               max_attempts = least(d.attempt + :attempts, 32767),
               expires_at = coalesce(now() + make_interval(secs => CAST(:expires_in AS double precision)), d.expires_at)
          FROM dead WHERE d.id = dead.id
        RETURNING d.id, d.campaign_id, d.chunk, 'failed' AS status_from, d.status, d.attempt),
    {COUNT}
    INSERT INTO delivery_events (delivery_id, status_from, status_to, reason, attempt)
    SELECT id, status_from, status, 'replayed_by_caller', attempt FROM done ORDER BY id
    RETURNING delivery_id
""")  # noqa: S608  # the words are our own


async def page(
    db: Connection, tenant: Tenant, which: DeadLetters, *, limit: int, before: int | None = None
) -> list[DeadLetter]:
    """A page of a tenant's dead letters, newest first; `before` ends the page before."""
    asked = which.parameters | tenant.parameters | {"limit": limit, "before": before}
    return [DeadLetter(*row) for row in await db.execute(PAGE, asked)]


async def find(
    db: Connection, tenant: Tenant, which: DeadLetters, *, limit: int, after: int = 0
) -> list[tuple[int, UUID | None]]:
    """Ids of dead letters after `after`, in order, each with its campaign if it is of one."""
    asked = which.parameters | tenant.parameters | {"limit": limit, "after": after}
    return [(row.id, row.campaign_id) for row in await db.execute(FIND, asked)]


async def queue(
    db: Connection, tenant: Tenant, ids: Sequence[int], *, attempts: int, expires_in: timedelta | None
) -> int:
    """Queue those of `ids` that are still dead; returns how many. Without `expires_in` their old life holds."""
    asked = tenant.parameters | {
        "ids": list(ids),
        "attempts": attempts,
        "expires_in": None if expires_in is None else expires_in.total_seconds(),
    }
    return len((await db.execute(QUEUE, asked)).all())
