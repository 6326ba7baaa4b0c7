"""What providers report of deliveries, written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from notifier.domain.delivery import FOLLOWS, Status
from notifier.domain.notification import Channel, Mode, Priority
from notifier.store.chunk_counters import COUNT
from notifier.store.database import Connection
from notifier.store.notifications import json_text


@dataclass(frozen=True, slots=True)
class Reported:
    """A delivery of which a provider tells something, locked for this transaction."""

    id: int
    service_id: int
    mode: Mode
    channel: Channel
    priority: Priority
    template: str
    status: Status
    attempt: int
    provider_message_id: str | None


LOCK = text("""
    SELECT d.id, d.service_id, d.mode, d.channel, d.priority, coalesce(n.template, c.template) AS template, d.status,
           d.attempt, d.provider_message_id
      FROM deliveries d LEFT JOIN notifications n ON n.id = d.notification_id
                        LEFT JOIN campaigns c ON c.id = d.campaign_id
     WHERE d.id = :id FOR UPDATE OF d
""")

# Lead a delivery along the states of its path, with one event each. Whatever it waited for, it waits no more: a retry
# would be a second message, and a worker that is at it just now finds that it is not `sending` any more.
LEAD = text(f"""
    WITH done AS (
        UPDATE deliveries d
           SET status = :status, reason = :reason, due_at = NULL, updated_at = now(),
               provider = coalesce(d.provider, :provider),
               provider_message_id = coalesce(d.provider_message_id, CAST(:message_id AS text))
         WHERE d.id = :id AND d.status = :status_from
        RETURNING d.id, d.campaign_id, d.chunk, CAST(:status_from AS text) AS status_from, d.status, d.attempt),
    {COUNT}
    INSERT INTO delivery_events (delivery_id, status_from, status_to, reason, attempt, detail)
    SELECT done.id, step.came_from, step.went_to, :reason, done.attempt, CAST(:detail AS jsonb)
      FROM done, unnest(CAST(:came_from AS text[]), CAST(:went_to AS text[])) WITH ORDINALITY
                 AS step(came_from, went_to, number)
     ORDER BY step.number
""")  # noqa: S608  # the words are our own


async def lock(db: Connection, id: int) -> Reported | None:
    """The delivery, held against everybody who would change it; None if there is none."""
    row = (await db.execute(LOCK, {"id": id})).one_or_none()
    if row is None:
        return None
    return Reported(
        row.id,
        row.service_id,
        Mode(row.mode),
        Channel(row.channel),
        Priority(row.priority),
        row.template,
        Status(row.status),
        row.attempt,
        row.provider_message_id,
    )


async def lead(
    db: Connection,
    row: Reported,
    path: Sequence[Status],
    *,
    reason: str,
    provider: str,
    message_id: str | None,
    detail: Mapping[str, Any],
) -> None:
    """Lead a delivery (locked by `lock` in this transaction) through the states of `path`, and end all waiting."""
    states = [row.status, *path]
    for before, after in zip(states, path, strict=False):
        if after not in FOLLOWS[before]:
            raise AssertionError(f"{after} may not follow {before}")
    await db.execute(
        LEAD,
        {
            "id": row.id,
            "status_from": row.status,
            "status": path[-1],
            "reason": reason,
            "provider": provider,
            "message_id": message_id,
            "came_from": states[:-1],
            "went_to": list(path),
            "detail": json_text(detail),
        },
    )
