"""The directory as an audience: which recipients a campaign would have, and how many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from notifier.domain.campaign import Audience
from notifier.domain.notification import Channel
from notifier.store.database import Connection
from notifier.store.notifications import json_text

#: A filter for `de` fits de-AT as well, as a template's locales do.
_LOCALE_FITS = """
    (CAST(:locale AS text) IS NULL
     OR replace(lower(r.locale), '_', '-') = :locale OR replace(lower(r.locale), '_', '-') LIKE :locale || '-%')
"""
_CHANNEL_FITS = """
    (CAST(:has_channel AS text) IS NULL
     OR (:has_channel = 'email' AND r.email IS NOT NULL)
     OR (:has_channel = 'push' AND EXISTS (
            SELECT 1 FROM devices d WHERE d.service_id = r.service_id AND d.recipient_id = r.id))
     OR (:has_channel = 'desktop' AND EXISTS (
            SELECT 1 FROM subscriptions s WHERE s.service_id = r.service_id AND s.recipient_id = r.id)))
"""
FITS = f"""
    {_LOCALE_FITS}
    AND (CAST(:attributes AS text) IS NULL OR r.attributes @> CAST(CAST(:attributes AS text) AS jsonb))
    AND {_CHANNEL_FITS}
"""

# One recipient beside the filters: which of them do not fit.
LOOK = text(f"""
    SELECT r.created_at, r.updated_at, r.locale, coalesce({_LOCALE_FITS}, false) AS locale_fits,
           {_CHANNEL_FITS} AS channel_fits,
           ARRAY(SELECT f.key FROM jsonb_each(CAST(coalesce(CAST(:attributes AS text), '{{}}') AS jsonb)) AS f
                  WHERE NOT r.attributes @> jsonb_build_object(f.key, f.value) ORDER BY f.key) AS attributes
      FROM recipients r WHERE r.service_id = :service_id AND r.id = :id
""")  # noqa: S608  # the words are our own

# The largest id there is, so that the walk has an end while people go on registering.
LAST = text("SELECT max(id) FROM recipients WHERE service_id = :service_id AND id >= :start AND id < :stop")

COUNT = text(f"""
    SELECT count(*) FROM recipients r
     WHERE r.service_id = :service_id AND r.id >= :start AND r.id < :stop AND {FITS}
""")  # noqa: S608  # the words are our own

# How many have an address for each channel, and how sparse their ids are.
SURVEY = text(f"""
    SELECT count(*) AS recipients, min(id) AS first, max(id) AS last, max(gap) AS largest_gap,
           count(*) FILTER (WHERE has_email) AS email, count(*) FILTER (WHERE has_push) AS push,
           count(*) FILTER (WHERE has_desktop) AS desktop
      FROM (SELECT r.id, r.id - lag(r.id) OVER (ORDER BY r.id) - 1 AS gap, r.email IS NOT NULL AS has_email,
                   EXISTS (SELECT 1 FROM devices d
                            WHERE d.service_id = r.service_id AND d.recipient_id = r.id) AS has_push,
                   EXISTS (SELECT 1 FROM subscriptions s
                            WHERE s.service_id = r.service_id AND s.recipient_id = r.id) AS has_desktop
              FROM recipients r
             WHERE r.service_id = :service_id AND r.id >= :start AND r.id < :stop AND {FITS}) AS audience
""")  # noqa: S608  # the words are our own


@dataclass(frozen=True, slots=True)
class Survey:
    """How large an audience is. Of ids between the first and the last, `gaps` belong to nobody in it."""

    recipients: int
    reachable: Mapping[Channel, int]
    gaps: int
    largest_gap: int


@dataclass(frozen=True, slots=True)
class Fit:
    """A recipient beside an audience's filters; `attributes` are the names of those that do not fit."""

    created_at: datetime
    updated_at: datetime
    locale: str | None
    locale_fits: bool
    channel_fits: bool
    attributes: tuple[str, ...]


async def fit(db: Connection, service_id: int, audience: Audience, id: int) -> Fit | None:
    """How a recipient fits the filters now; None if the directory does not have them."""
    row = (await db.execute(LOOK, filters(audience) | {"service_id": service_id, "id": id})).one_or_none()
    if row is None:
        return None
    return Fit(row.created_at, row.updated_at, row.locale, row.locale_fits, row.channel_fits, tuple(row.attributes))


async def last(db: Connection, service_id: int, *, start: int, stop: int) -> int | None:
    """The largest recipient id in [start, stop), whatever the filters; None if there is none."""
    value = (await db.execute(LAST, {"service_id": service_id, "start": start, "stop": stop})).scalar_one()
    return None if value is None else int(value)


async def count(db: Connection, service_id: int, audience: Audience, *, start: int, stop: int) -> int:
    """How many recipients in [start, stop) fit the filters."""
    asked = filters(audience) | {"service_id": service_id, "start": start, "stop": stop}
    return int((await db.execute(COUNT, asked)).scalar_one())


async def survey(db: Connection, service_id: int, audience: Audience, *, start: int, stop: int) -> Survey:
    """Everything an estimate needs to know of the recipients in [start, stop) that fit the filters."""
    asked = filters(audience) | {"service_id": service_id, "start": start, "stop": stop}
    row = (await db.execute(SURVEY, asked)).one()
    span = row.last - row.first + 1 if row.recipients else 0
    return Survey(
        recipients=row.recipients,
        reachable={Channel.EMAIL: row.email, Channel.PUSH: row.push, Channel.DESKTOP: row.desktop},
        gaps=span - row.recipients,
        largest_gap=row.largest_gap or 0,
    )


def filters(audience: Audience) -> dict[str, Any]:
    """The parameters of FITS."""
    return {
        "locale": audience.locale and audience.locale.lower().replace("_", "-"),
        "attributes": json_text(audience.attributes) if audience.attributes else None,
        "has_channel": audience.has_channel,
    }
