"""Why a recipient's deliveries are what they are: which rule decided, where they waited, what providers said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from notifier.delivery import outcomes
from notifier.domain.finding import Code, Finding, clock
from notifier.domain.ids import first_uuid7
from notifier.domain.notification import Channel, Lane, Priority
from notifier.domain.tenant import Tenant
from notifier.domain.timeline import history, in_order
from notifier.store import database, explanations, timelines
from notifier.store.database import Database
from notifier.store.explanations import Explained, UsedKey

#: Notifications that are explained at once, the latest ones; and how far a lane's backlog is counted.
LATEST = 20
COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Told:
    """Deliveries as they are shown, each with its timeline, and what was found out about them."""

    findings: list[Finding]
    deliveries: list[dict[str, Any]]


async def explain(
    database_: Database,
    tenant: Tenant,
    recipient_id: int,
    *,
    template: str | None,
    since: datetime,
    campaign_ids: Sequence[UUID],
    with_notifications: bool,
) -> Told:
    """What became of everything that these campaigns, and single notifications since then, had for a recipient."""
    async with database_.transaction() as tx:
        now = await database.now(tx)
        rows = await explanations.of_campaigns(tx, tenant, recipient_id, campaign_ids) if campaign_ids else []
        single: list[Explained] = []
        if with_notifications:
            single = await explanations.of_notifications(
                tx, tenant, recipient_id, first=first_uuid7(since), template=template, limit=LATEST + 1
            )
        ids = list(dict.fromkeys(row.notification_id for row in single if row.notification_id is not None))
        shown = set(ids[:LATEST])
        rows += [row for row in single if row.notification_id in shown]
        events = await timelines.events(tx, [row.id for row in rows])
        keys = await explanations.keys(tx, tenant, list(shown)) if shown else {}
        lanes = {_lane(row) for row in rows if row.status == "queued"}
        backlog = {lane: await explanations.waiting(tx, lane, limit=COUNTED) for lane in lanes}
    findings: list[Finding] = []
    for row in rows:
        told = outcomes.findings(row, events[row.id], now=now, backlog=backlog.get(_lane(row), 0))
        findings += [_marked(finding, row) for finding in told]
    findings += [_replays(key) for key in keys.values()]
    if len(ids) > LATEST:
        findings.append(
            Finding(
                Code.OLDER_LEFT_OUT,
                f"Only the latest {LATEST} notifications are explained; give a later `since`, or a template.",
                leads=False,
            )
        )
    return Told(findings, [_shown(row, events[row.id]) for row in rows])


def _lane(row: Explained) -> Lane:
    return Lane(Priority(row.priority), Channel(row.channel))


def _marked(finding: Finding, row: Explained) -> Finding:
    """A finding with whose it is."""
    whose = {
        "delivery_id": str(row.id),
        "channel": row.channel,
        "notification_id": row.notification_id and str(row.notification_id),
        "campaign_id": row.campaign_id and str(row.campaign_id),
    }
    return replace(finding, detail={name: value for name, value in whose.items() if value} | dict(finding.detail))


def _replays(key: UsedKey) -> Finding:
    return Finding(
        Code.IDEMPOTENCY_KEY,
        f"Notification {key.notification_id} was accepted once, at {clock(key.created_at)}; whoever asks again with "
        f"the idempotency key {key.key} gets that answer, and nothing is sent again.",
        key.created_at,
        {"notification_id": str(key.notification_id), "idempotency_key": key.key},
        leads=False,
    )


def _shown(row: Explained, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "notification_id": row.notification_id and str(row.notification_id),
        "campaign_id": row.campaign_id and str(row.campaign_id),
        "reference": row.reference,
        "template": row.template,
        "channel": row.channel,
        "priority": row.priority,
        "mode": row.mode,
        "status": row.status,
        "reason": row.reason,
        "attempts": row.attempt,
        "provider": row.provider,
        "provider_message_id": row.provider_message_id,
        "due_at": row.due_at and row.due_at.isoformat(),
        "created_at": row.created_at.isoformat(),
        "expires_at": row.expires_at.isoformat(),
        "updated_at": row.updated_at.isoformat(),
        "timeline": in_order(history(row, events)),
    }
