"""Campaigns: written when accepted, locked by whoever walks or changes them, and found again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from notifier.domain.campaign import Campaign, CampaignStatus, LimitedBy, Plan
from notifier.domain.chunk import Axis, Value, axis_of, value_from_json, value_to_json
from notifier.domain.notification import Mode
from notifier.domain.tenant import Tenant
from notifier.store.database import Connection
from notifier.store.tables import campaigns

_LAST = UUID(int=(1 << 128) - 1)

# Whose moment has come: to start, to walk on, to be looked after.
DUE = text("SELECT id FROM campaigns WHERE due_at <= now() ORDER BY due_at LIMIT :limit")


async def add(db: Connection, campaign: Campaign, *, run_at: datetime | None = None) -> bool:
    """Write a campaign; False if it is a run of a repeating one that somebody else has written already."""
    plan = campaign.plan
    written = await db.execute(
        insert(campaigns)
        .values(
            id=campaign.id,
            service_id=campaign.service_id,
            parent_id=campaign.parent_id,
            run_at=run_at,
            template=plan.template,
            template_version=campaign.template_version,
            data=plan.data,
            mode=campaign.mode,
            plan=plan.to_json(),
            status=campaign.status,
            slot=campaign.slot,
            due_at=campaign.due_at,
            created_at=campaign.created_at,
            updated_at=campaign.updated_at,
        )
        .on_conflict_do_nothing(index_elements=["parent_id", "run_at"], index_where=campaigns.c.parent_id.is_not(None))
        .returning(campaigns.c.id)
    )
    return written.first() is not None


async def find(db: Connection, tenant: Tenant, id: UUID) -> Campaign | None:
    """The campaign, if it is this tenant's."""
    row = (await db.execute(_of(tenant).where(campaigns.c.id == id))).one_or_none()
    return _campaign(row) if row else None


async def page(
    db: Connection, tenant: Tenant, *, limit: int, before: UUID | None = None, status: CampaignStatus | None = None
) -> list[Campaign]:
    """One page of a tenant's campaigns, newest first."""
    asked = _of(tenant).where(campaigns.c.id < (before or _LAST))
    if status is not None:
        asked = asked.where(campaigns.c.status == status)
    return [_campaign(row) for row in await db.execute(asked.order_by(campaigns.c.id.desc()).limit(limit))]


async def latest(
    db: Connection, tenant: Tenant, *, first: UUID, template: str | None = None, limit: int
) -> list[Campaign]:
    """A tenant's latest campaigns that are no mere timetable of others, newest first, from the id `first` on."""
    asked = _of(tenant).where(campaigns.c.id >= first)
    asked = asked.where(campaigns.c.plan["repeat"].astext.is_(None))
    if template is not None:
        asked = asked.where(campaigns.c.template == template)
    return [_campaign(row) for row in await db.execute(asked.order_by(campaigns.c.id.desc()).limit(limit))]


async def latest_runs(db: Connection, parent_id: UUID, *, limit: int) -> list[UUID]:
    """The latest runs of a repeating campaign."""
    asked = select(campaigns.c.id).where(campaigns.c.parent_id == parent_id).order_by(campaigns.c.run_at.desc())
    return [row.id for row in await db.execute(asked.limit(limit))]


async def due(db: Connection, *, limit: int) -> list[UUID]:
    """Campaigns whose moment has come. Not locked: whoever takes one on locks it."""
    return [row.id for row in await db.execute(DUE, {"limit": limit})]


async def peek(db: Connection, id: UUID) -> Campaign | None:
    """A campaign that is due now, without a lock: to see what is needed before one is taken."""
    row = (await db.execute(select(campaigns).where(campaigns.c.id == id, campaigns.c.due_at <= func.now()))).first()
    return _campaign(row) if row else None


async def take(db: Connection, id: UUID) -> Campaign | None:
    """Lock a campaign that is due, until this transaction ends; None if it is not, or somebody else has it."""
    asked = select(campaigns).where(campaigns.c.id == id, campaigns.c.due_at <= func.now())
    row = (await db.execute(asked.with_for_update(skip_locked=True))).first()
    return _campaign(row) if row else None


async def lock(db: Connection, tenant: Tenant, id: UUID) -> Campaign | None:
    """Lock a tenant's campaign for a change, as soon as whoever walks it has ended its chunk."""
    asked = _of(tenant).where(campaigns.c.id == id)
    row = (await db.execute(asked.with_for_update())).one_or_none()
    return _campaign(row) if row else None


async def runs(db: Connection, parent_id: UUID, statuses: Sequence[CampaignStatus]) -> list[UUID]:
    """Runs of a repeating campaign that are in one of `statuses`."""
    where = (campaigns.c.parent_id == parent_id, campaigns.c.status.in_(statuses))
    return [row.id for row in await db.execute(select(campaigns.c.id).where(*where))]


async def stop(db: Connection, id: UUID, reason: str) -> None:
    """Pause a campaign that is due, whatever stands in its row: reading it may be what went wrong."""
    stopped = update(campaigns).where(campaigns.c.id == id, campaigns.c.due_at <= func.now())
    await db.execute(
        stopped.values(status=CampaignStatus.PAUSED, status_reason=reason, due_at=None, updated_at=func.now())
    )


async def save(db: Connection, id: UUID, **changes: Any) -> None:
    """Write some fields of a campaign that this transaction has locked; `plan`, `position` and `bound` as they are."""
    if isinstance(plan := changes.get("plan"), Plan):
        changes["plan"] = plan.to_json()
    for name in ("position", "bound"):
        if changes.get(name) is not None:
            changes[name] = _kept(changes[name])
    await db.execute(update(campaigns).where(campaigns.c.id == id).values(updated_at=func.now(), **changes))


def _of(tenant: Tenant) -> Select[Any]:
    return select(campaigns).where(campaigns.c.service_id == tenant.service_id, campaigns.c.mode == tenant.mode)


def _kept(value: Value) -> dict[str, Any]:
    return {"axis": axis_of(value), "value": value_to_json(value)}


def _read(kept: dict[str, Any] | None) -> Value | None:
    return None if kept is None else value_from_json(Axis(kept["axis"]), kept["value"])


def _campaign(row: Row[Any]) -> Campaign:
    return Campaign(
        id=row.id,
        service_id=row.service_id,
        parent_id=row.parent_id,
        mode=Mode(row.mode),
        plan=Plan.from_json(row.plan),
        template_version=row.template_version,
        status=CampaignStatus(row.status),
        status_reason=row.status_reason,
        position=_read(row.position),
        bound=_read(row.bound),
        expected=row.expected,
        chunks=row.chunks,
        slot=row.slot,
        due_at=row.due_at,
        open_until=row.open_until,
        limited_by=None if row.limited_by is None else LimitedBy(row.limited_by),
        watch_from=row.watch_from,
        source_failures=row.source_failures,
        created_at=row.created_at,
        started_at=row.started_at,
        walked_at=row.walked_at,
        finished_at=row.finished_at,
        updated_at=row.updated_at,
    )
