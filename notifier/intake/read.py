"""What callers may see and stop of their notifications: one, a page of them, the timeline, cancelling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from notifier.domain.delivery import UNFINISHED, Status
from notifier.domain.errors import NotFound, TooLate
from notifier.domain.tenant import Tenant
from notifier.domain.timeline import event_of, history, in_order
from notifier.observe import metrics
from notifier.store import notifications, timelines, waits
from notifier.store.database import Connection, Database
from notifier.store.notifications import NotificationRow
from notifier.store.timelines import DeliveryRow

#: A notification is what its best delivery is; while one is unfinished it is `accepted`.
_BEST_FIRST = (
    Status.DELIVERED,
    Status.SENT,
    Status.COMPLAINED,
    Status.BOUNCED,
    Status.UNKNOWN,
    Status.FAILED,
    Status.EXPIRED,
    Status.CANCELLED,
    Status.SUPPRESSED,
)


def overall(statuses: Sequence[Status]) -> str:
    """The status of a notification whose deliveries have these."""
    if any(status in UNFINISHED for status in statuses):
        return "accepted"
    return next((status for status in _BEST_FIRST if status in statuses), "accepted")


async def find(database: Database, tenant: Tenant, id: UUID) -> dict[str, Any]:
    """The notification as it stands now; NotFound if there is none, or it is another tenant's."""
    async with database.transaction() as tx:
        row = await notifications.find(tx, tenant, id)
        if row is None:
            raise NotFound(f"There is no notification {id}, or it belongs to another service or mode.")
        return _body(row, (await timelines.of_notifications(tx, [id]))[id])


async def page(database: Database, tenant: Tenant, *, limit: int, **filters: Any) -> dict[str, Any]:
    """A page of notifications, newest first, and the cursor of the next page. From a replica, if there is one."""

    async def look(tx: Connection) -> dict[str, Any]:
        rows = await notifications.page(tx, tenant, limit=limit + 1, **filters)
        shown = rows[:limit]
        found = await timelines.of_notifications(tx, [row.id for row in shown])
        return {
            "items": [_body(row, found[row.id]) for row in shown],
            "next": str(shown[-1].id) if len(rows) > limit else None,
        }

    return await database.read(look)


async def cancel(
    database: Database, tenant: Tenant, id: UUID, *, category: Callable[[str], str], by: str | None = None
) -> dict[str, Any]:
    """Cancel what is not yet with a provider; TooLate when nothing was left to cancel. `by` is the caller's key id."""
    async with database.transaction() as tx:
        if await notifications.find(tx, tenant, id) is None:
            raise NotFound(f"There is no notification {id}, or it belongs to another service or mode.")
        cancelled = await waits.cancel(tx, tenant, id, by=by)
        rows = (await timelines.of_notifications(tx, [id]))[id]
    for end in cancelled:
        metrics.outcome(str(end.lane), None, category(end.template), end.status, end.reason, end.count)
    if not cancelled and not any(row.status == Status.CANCELLED for row in rows):
        states = ", ".join(sorted({row.status for row in rows}))
        raise TooLate(f"Nothing was left to cancel: its deliveries are {states}.")
    return await find(database, tenant, id)


async def timeline(database: Database, tenant: Tenant, id: UUID) -> dict[str, Any]:
    """Every decision about a notification with its time, oldest first."""
    async with database.transaction() as tx:
        row = await notifications.find(tx, tenant, id)
        if row is None:
            raise NotFound(f"There is no notification {id}, or it belongs to another service or mode.")
        rows = (await timelines.of_notifications(tx, [id]))[id]
        events = await timelines.events(tx, [delivery.id for delivery in rows])
    accepted = {"template": row.template, "version": row.template_version, "expires_at": row.expires_at.isoformat()}
    if row.send_at is not None:
        accepted["send_at"] = row.send_at.isoformat()
    items = [event_of(row.created_at, "accepted", None, **accepted)]
    for delivery in rows:
        items += history(delivery, events[delivery.id])
    items = in_order(items)
    return {"id": str(id), "status": overall([Status(delivery.status) for delivery in rows]), "items": items}


def _body(row: NotificationRow, rows: Sequence[DeliveryRow]) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "status": overall([Status(delivery.status) for delivery in rows]),
        "template": row.template,
        "template_version": row.template_version,
        "priority": row.priority,
        "mode": row.mode,
        "recipient_id": row.recipient_id,
        "reference": row.reference,
        "collapse_key": row.collapse_key,
        "send_at": row.send_at and row.send_at.isoformat(),
        "created_at": row.created_at.isoformat(),
        "expires_at": row.expires_at.isoformat(),
        "deliveries": [
            {
                "id": str(delivery.id),
                "channel": delivery.channel,
                "status": delivery.status,
                "reason": delivery.reason,
                "attempts": delivery.attempt,
                "provider": delivery.provider,
                "provider_message_id": delivery.provider_message_id,
                "updated_at": delivery.updated_at.isoformat(),
            }
            for delivery in rows
        ],
    }
