"""Chunks of campaigns: their deliveries are born here, and their numbers added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from notifier.domain.campaign import Campaign, Tally
from notifier.domain.chunk import Chunk
from notifier.domain.notification import Channel
from notifier.store import directory
from notifier.store.database import Connection
from notifier.store.notifications import json_text
from notifier.store.tables import COUNTED


@dataclass(frozen=True, slots=True)
class Given:
    """A recipient whom a SQL source gave: with their addresses, or without, to be looked up in the directory.

    `reason` says why they cannot be told anything, if so.
    """

    id: int
    address: Mapping[str, Any] | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Born:
    """What a chunk has made: deliveries that are ready to be hinted, by channel, and how many there are in all."""

    ready: Mapping[Channel, Sequence[int]]
    planned: int
    suppressed: int
    #: How many of them were suppressed from the start, by channel and reason.
    refused: Mapping[tuple[Channel, str], int]


@dataclass(frozen=True, slots=True)
class Walked:
    """What a look into the directory has found: up to which id it was searched, and whether there is more."""

    born: Born
    recipients: int
    last: int | None
    is_end: bool


# One row a recipient and channel. The unique index makes a second one impossible, whoever walks; who has no address
# for a channel is written down as suppressed, so that anybody can ask why.
_BEAR = """
    born AS (
        INSERT INTO deliveries (campaign_id, chunk, service_id, recipient_id, address, channel, priority, mode, status,
                                reason, max_attempts, on_unknown, due_at, expires_at, created_at, updated_at)
        SELECT CAST(:campaign_id AS uuid), CAST(:number AS integer), CAST(:service_id AS bigint), p.id, p.address,
               c.channel, CAST(:priority AS text), CAST(:mode AS text),
               CASE WHEN p.reason IS NULL AND p.has[c.place] THEN 'queued' ELSE 'suppressed' END,
               CASE WHEN p.reason IS NULL AND p.has[c.place] THEN NULL ELSE coalesce(p.reason, 'no_address') END,
               CAST(:max_attempts AS smallint), CAST(:on_unknown AS text),
               CASE WHEN p.reason IS NULL AND p.has[c.place]
                    THEN now() + least(t.hint_life, t.expires_in) END,
               now() + t.expires_in, now(), now()
          FROM people p
         CROSS JOIN (SELECT make_interval(secs => CAST(:hint_life AS float)) AS hint_life,
                            make_interval(secs => CAST(:expires_in AS float)) AS expires_in) AS t
         CROSS JOIN unnest(CAST(:channels AS text[]), CAST(:places AS integer[])) AS c(channel, place)
         ORDER BY p.id, c.place
        ON CONFLICT (campaign_id, recipient_id, channel) WHERE campaign_id IS NOT NULL DO NOTHING
        RETURNING id, channel, status, reason)
"""
_BORN = """
    (SELECT count(*) FROM born) AS planned, (SELECT count(*) FROM born WHERE status = 'suppressed') AS suppressed,
    (SELECT json_agg(json_build_array(channel, reason, many))
       FROM (SELECT channel, reason, count(*) AS many FROM born WHERE status = 'suppressed' GROUP BY channel, reason)
            AS b) AS refused,
    (SELECT array_agg(id) FROM born WHERE status = 'queued' AND channel = 'email') AS email,
    (SELECT array_agg(id) FROM born WHERE status = 'queued' AND channel = 'push') AS push,
    (SELECT array_agg(id) FROM born WHERE status = 'queued' AND channel = 'desktop') AS desktop
"""
_HAS = """
    ARRAY[r.email IS NOT NULL,
          EXISTS (SELECT 1 FROM devices d WHERE d.service_id = r.service_id AND d.recipient_id = r.id),
          EXISTS (SELECT 1 FROM subscriptions s WHERE s.service_id = r.service_id AND s.recipient_id = r.id)]
"""

# The next :limit recipients who fit, by keyset, so that a gap in the ids costs nothing. At most :scan are looked at,
# so that a filter that fits few does not make one statement read millions.
WALK = text(f"""
    WITH scanned AS (
        SELECT service_id, id, email, locale, attributes FROM recipients
         WHERE service_id = :service_id AND id >= :start AND id < :stop
         ORDER BY id LIMIT :scan),
    people AS (
        SELECT r.id, CAST(NULL AS jsonb) AS address, CAST(NULL AS text) AS reason, {_HAS} AS has
          FROM scanned r WHERE {directory.FITS}
         ORDER BY r.id LIMIT :limit),
    {_BEAR}
    SELECT {_BORN}, (SELECT count(*) FROM people) AS recipients, (SELECT max(id) FROM people) AS last,
           (SELECT count(*) FROM scanned) AS scanned, (SELECT max(id) FROM scanned) AS scanned_last
""")  # noqa: S608  # the words are our own

# Those whom a SQL source gave. Of one without addresses, the directory has them, or nobody does.
BEAR_GIVEN = text(f"""
    WITH given AS (
        SELECT DISTINCT ON (id) id, CAST(address AS jsonb) AS address, reason
          FROM unnest(CAST(:ids AS bigint[]), CAST(:addresses AS text[]), CAST(:reasons AS text[]))
               AS g(id, address, reason)
         ORDER BY id),
    people AS (
        SELECT g.id, g.address,
               CASE WHEN g.address IS NULL AND r.id IS NULL THEN 'recipient_not_found' ELSE g.reason END AS reason,
               CASE WHEN g.address IS NULL THEN {_HAS}
                    ELSE ARRAY[g.address ->> 'email' IS NOT NULL, jsonb_array_length(g.address -> 'devices') > 0,
                               jsonb_array_length(g.address -> 'subscriptions') > 0] END AS has
          FROM given g LEFT JOIN recipients r ON r.service_id = :service_id AND r.id = g.id),
    {_BEAR}
    SELECT {_BORN}
""")  # noqa: S608  # the words are our own

ADD = text("""
    INSERT INTO campaign_chunks (campaign_id, number, range, recipients, planned, suppressed, created_at)
    VALUES (:campaign_id, :number, CAST(:range AS jsonb), :recipients, :planned, :suppressed, now())
""")

#: Chunks that `rate` reads at most.
RATE_CHUNKS = 1000
_ENDED = " + ".join(COUNTED)

UNFINISHED = text(f"""
    SELECT coalesce(sum(planned - ({_ENDED})), 0) FROM campaign_chunks WHERE campaign_id = :id AND is_open
""")  # noqa: S608  # the words are our own

_SUMS = ", ".join(f"coalesce(sum({word}), 0) AS {word}" for word in ("recipients", *COUNTED))
TALLY = text(f"""
    SELECT coalesce(sum(planned), 0) AS dispatched, {_SUMS}
      FROM campaign_chunks WHERE campaign_id = :id AND number >= :first
""")  # noqa: S608  # the words are our own

TALLIES = text(f"""
    SELECT campaign_id, coalesce(sum(planned), 0) AS dispatched, {_SUMS}
      FROM campaign_chunks WHERE campaign_id = ANY(CAST(:ids AS uuid[])) GROUP BY campaign_id
""")  # noqa: S608  # the words are our own

# The chunk with which the walk went past an id.
PASSED = text("""
    SELECT number, created_at FROM campaign_chunks
     WHERE campaign_id = :id AND CAST(range ->> 'stop' AS bigint) > :recipient_id ORDER BY number LIMIT 1
""")

# How fast the walk has been of late.
RATE = text("""
    SELECT coalesce(sum(planned), 0) AS planned, extract(epoch FROM now() - min(created_at)) AS seconds
      FROM campaign_chunks
     WHERE campaign_id = :id AND number >= :first AND created_at > now() - make_interval(secs => :seconds)
""")


async def walk(
    db: Connection, campaign: Campaign, *, start: int, stop: int, limit: int, scan: int, terms: Mapping[str, Any]
) -> Walked:
    """Make the deliveries of the next `limit` recipients of the directory in [start, stop)."""
    asked = _asked(campaign, terms) | directory.filters(campaign.plan.audience)
    row = (await db.execute(WALK, asked | {"start": start, "stop": stop, "limit": limit, "scan": scan})).one()
    is_full = row.recipients == limit
    return Walked(
        born=_born(row),
        recipients=row.recipients,
        last=row.last if is_full else row.scanned_last,
        is_end=not is_full and row.scanned < scan,
    )


async def bear(db: Connection, campaign: Campaign, people: Sequence[Given], *, terms: Mapping[str, Any]) -> Born:
    """Make the deliveries of these recipients."""
    row = await db.execute(
        BEAR_GIVEN,
        _asked(campaign, terms)
        | {
            "ids": [person.id for person in people],
            "addresses": [None if person.address is None else json_text(person.address) for person in people],
            "reasons": [person.reason for person in people],
        },
    )
    return _born(row.one())


def terms(*, max_attempts: int, hint_life: timedelta) -> dict[str, Any]:
    """What the operator has set for every delivery, as `walk` and `bear` take it."""
    return {"max_attempts": max_attempts, "hint_life": hint_life.total_seconds()}


async def add(db: Connection, campaign: Campaign, searched: Chunk, *, recipients: int, born: Born) -> None:
    """Write the chunk down, in the transaction that made its deliveries."""
    await db.execute(
        ADD,
        {
            "campaign_id": campaign.id,
            "number": campaign.chunks,
            "range": json_text(searched.to_json()),
            "recipients": recipients,
            "planned": born.planned,
            "suppressed": born.suppressed,
        },
    )


async def unfinished(db: Connection, id: UUID) -> int:
    """How many of a campaign's deliveries have not come to an end."""
    return int((await db.execute(UNFINISHED, {"id": id})).scalar_one())


async def tally(db: Connection, id: UUID, *, first: int = 0) -> Tally:
    """A campaign's numbers, from chunk `first` on."""
    row = (await db.execute(TALLY, {"id": id, "first": first})).one()
    return Tally(**{name: int(value) for name, value in row._mapping.items()})


async def tallies(db: Connection, ids: Sequence[UUID]) -> dict[UUID, Tally]:
    """The numbers of each campaign."""
    found = {id: Tally() for id in ids}
    for row in (await db.execute(TALLIES, {"ids": list(ids)})).mappings():
        found[row["campaign_id"]] = Tally(**{k: int(v) for k, v in row.items() if k != "campaign_id"})
    return found


async def passed(db: Connection, campaign: Campaign, recipient_id: int) -> tuple[int, datetime] | None:
    """The number and the moment of the chunk with which a walk by ids went past one; None if no chunk did."""
    row = (await db.execute(PASSED, {"id": campaign.id, "recipient_id": recipient_id})).one_or_none()
    return None if row is None else (row.number, row.created_at)


async def rate(db: Connection, campaign: Campaign, *, seconds: float) -> float | None:
    """Deliveries made a second, over the last `seconds`; None if none were."""
    asked = {"id": campaign.id, "first": campaign.chunks - RATE_CHUNKS, "seconds": seconds}
    row = (await db.execute(RATE, asked)).one()
    return float(row.planned) / max(float(row.seconds), 1.0) if row.planned else None


def _asked(campaign: Campaign, terms: Mapping[str, Any]) -> dict[str, Any]:
    plan = campaign.plan
    places = {channel: place for place, channel in enumerate(Channel, start=1)}
    return {
        "campaign_id": campaign.id,
        "number": campaign.chunks,
        "service_id": campaign.service_id,
        "priority": plan.priority,
        "mode": campaign.mode,
        "on_unknown": plan.on_unknown,
        "expires_in": plan.expires_in.total_seconds(),
        "channels": list(plan.channels),
        "places": [places[channel] for channel in plan.channels],
        **terms,
    }


def _born(row: Any) -> Born:
    return Born(
        ready={channel: tuple(getattr(row, channel) or ()) for channel in Channel},
        planned=row.planned,
        suppressed=row.suppressed,
        refused={(Channel(channel), reason): count for channel, reason, count in row.refused or ()},
    )
