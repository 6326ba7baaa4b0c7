"""Recipients with their devices and subscriptions, each service's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from notifier.domain.recipient import Device, Recipient, Subscription
from notifier.store.database import Connection
from notifier.store.notifications import json_text


@dataclass(frozen=True, slots=True)
class RecipientChange:
    """What a caller says of a recipient. None in `devices` or `subscriptions` leaves those as they are."""

    id: int
    email: str | None = None
    locale: str | None = None
    timezone: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    devices: Sequence[Device] | None = None
    subscriptions: Sequence[Subscription] | None = None


LOAD = text("""
    SELECT r.service_id, r.id, r.email, r.locale, r.timezone, r.attributes,
           (SELECT jsonb_agg(jsonb_build_array(d.token, d.platform) ORDER BY d.token) FROM devices d
             WHERE d.service_id = r.service_id AND d.recipient_id = r.id) AS devices,
           (SELECT jsonb_agg(jsonb_build_array(s.endpoint, s.p256dh, s.auth) ORDER BY s.endpoint) FROM subscriptions s
             WHERE s.service_id = r.service_id AND s.recipient_id = r.id) AS subscriptions
      FROM recipients r
      JOIN unnest(CAST(:service_ids AS bigint[]), CAST(:ids AS bigint[])) AS k(service_id, id)
           ON r.service_id = k.service_id AND r.id = k.id
""")

UPSERT = text("""
    INSERT INTO recipients (service_id, id, email, locale, timezone, attributes)
    SELECT :service_id, id, email, locale, timezone, attributes::jsonb
      FROM unnest(CAST(:id AS bigint[]), CAST(:email AS text[]), CAST(:locale AS text[]), CAST(:timezone AS text[]),
                  CAST(:attributes AS text[])) AS r(id, email, locale, timezone, attributes)
     ORDER BY id
    ON CONFLICT (service_id, id) DO UPDATE
       SET email = excluded.email, locale = excluded.locale, timezone = excluded.timezone,
           attributes = excluded.attributes, updated_at = now()
    RETURNING id, (xmax = 0) AS created
""")

REPLACE_DEVICES = text("""
    DELETE FROM devices WHERE service_id = :service_id AND recipient_id = ANY(CAST(:recipient_ids AS bigint[]))
       AND token <> ALL(CAST(:token AS text[]))
""")

# A token registered again moves to whoever holds the phone now: the last of those who name it. In order of the tokens,
# so that two who write the same ones at once do not wait for each other.
PUT_DEVICES = text("""
    INSERT INTO devices (service_id, token, recipient_id, platform)
    SELECT DISTINCT ON (token) :service_id, token, recipient_id, platform
      FROM unnest(CAST(:recipient_id AS bigint[]), CAST(:token AS text[]), CAST(:platform AS text[]))
           WITH ORDINALITY AS d(recipient_id, token, platform, place)
     ORDER BY token, place DESC
    ON CONFLICT (service_id, token) DO UPDATE SET recipient_id = excluded.recipient_id, platform = excluded.platform
""")

REPLACE_SUBSCRIPTIONS = text("""
    DELETE FROM subscriptions WHERE service_id = :service_id AND recipient_id = ANY(CAST(:recipient_ids AS bigint[]))
       AND endpoint <> ALL(CAST(:endpoint AS text[]))
""")

PUT_SUBSCRIPTIONS = text("""
    INSERT INTO subscriptions (service_id, endpoint, recipient_id, p256dh, auth)
    SELECT DISTINCT ON (endpoint) :service_id, endpoint, recipient_id, p256dh, auth
      FROM unnest(CAST(:recipient_id AS bigint[]), CAST(:endpoint AS text[]), CAST(:p256dh AS text[]),
                  CAST(:auth AS text[])) WITH ORDINALITY AS s(recipient_id, endpoint, p256dh, auth, place)
     ORDER BY endpoint, place DESC
    ON CONFLICT (service_id, endpoint) DO UPDATE
       SET recipient_id = excluded.recipient_id, p256dh = excluded.p256dh, auth = excluded.auth
""")

ERASE = text("DELETE FROM recipients WHERE service_id = :service_id AND id = :id RETURNING email")

DROP_DEVICES = text("""
    DELETE FROM devices d USING unnest(CAST(:service_ids AS bigint[]), CAST(:tokens AS text[])) AS k(service_id, token)
     WHERE d.service_id = k.service_id AND d.token = k.token
       AND (CAST(:recipient_id AS bigint) IS NULL OR d.recipient_id = :recipient_id)
    RETURNING d.token
""")

DROP_SUBSCRIPTIONS = text("""
    DELETE FROM subscriptions s
     USING unnest(CAST(:service_ids AS bigint[]), CAST(:endpoints AS text[])) AS k(service_id, endpoint)
     WHERE s.service_id = k.service_id AND s.endpoint = k.endpoint
       AND (CAST(:recipient_id AS bigint) IS NULL OR s.recipient_id = :recipient_id)
    RETURNING s.endpoint
""")


async def load(db: Connection, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Recipient]:
    """The recipients named by (service, id), with all their addresses; unknown ones are left out."""
    unique = sorted(set(keys))
    rows = await db.execute(LOAD, {"service_ids": [s for s, _ in unique], "ids": [i for _, i in unique]})
    return {
        (row.service_id, row.id): Recipient(
            id=row.id,
            email=row.email,
            locale=row.locale,
            timezone=row.timezone,
            attributes=row.attributes,
            devices=tuple(Device(*device) for device in row.devices or ()),
            subscriptions=tuple(Subscription(*subscription) for subscription in row.subscriptions or ()),
        )
        for row in rows
    }


async def upsert(db: Connection, service_id: int, changes: Sequence[RecipientChange]) -> int:
    """Create or replace recipients; returns how many are new.

    Of one id given twice, the last counts. A token or a browser given for several belongs to the last of them.
    """
    last = _last_of_each(changes)
    rows = await db.execute(
        UPSERT,
        {
            "service_id": service_id,
            "id": list(last),
            "email": [change.email for change in last.values()],
            "locale": [change.locale for change in last.values()],
            "timezone": [change.timezone for change in last.values()],
            "attributes": [json_text(change.attributes) for change in last.values()],
        },
    )
    created = sum(bool(row.created) for row in rows)
    if having := [change for change in last.values() if change.devices is not None]:
        await _replace_devices(db, service_id, having)
    if having := [change for change in last.values() if change.subscriptions is not None]:
        await _replace_subscriptions(db, service_id, having)
    return created


def _last_of_each(changes: Sequence[RecipientChange]) -> dict[int, RecipientChange]:
    """The last change of each id, in the order in which those stand. (A dict keeps the place of an id's first one.)"""
    last: dict[int, RecipientChange] = {}
    for change in changes:
        last.pop(change.id, None)
        last[change.id] = change
    return last


async def _replace_devices(db: Connection, service_id: int, changes: Sequence[RecipientChange]) -> None:
    pairs = [(change.id, device) for change in changes for device in change.devices or ()]
    tokens = [device.token for _, device in pairs]
    ids = [change.id for change in changes]
    await db.execute(REPLACE_DEVICES, {"service_id": service_id, "recipient_ids": ids, "token": tokens})
    if pairs:
        await db.execute(
            PUT_DEVICES,
            {
                "service_id": service_id,
                "recipient_id": [id for id, _ in pairs],
                "token": tokens,
                "platform": [device.platform for _, device in pairs],
            },
        )


async def _replace_subscriptions(db: Connection, service_id: int, changes: Sequence[RecipientChange]) -> None:
    pairs = [(change.id, subscription) for change in changes for subscription in change.subscriptions or ()]
    endpoints = [subscription.endpoint for _, subscription in pairs]
    ids = [change.id for change in changes]
    await db.execute(REPLACE_SUBSCRIPTIONS, {"service_id": service_id, "recipient_ids": ids, "endpoint": endpoints})
    if pairs:
        await put_subscriptions(db, service_id, pairs)


async def put_device(db: Connection, service_id: int, recipient_id: int, device: Device) -> None:
    """Register one device; the recipient must exist."""
    await db.execute(
        PUT_DEVICES,
        {
            "service_id": service_id,
            "recipient_id": [recipient_id],
            "token": [device.token],
            "platform": [device.platform],
        },
    )


async def put_subscriptions(db: Connection, service_id: int, pairs: Sequence[tuple[int, Subscription]]) -> None:
    """Register subscriptions of (recipient id, subscription); the recipients must exist."""
    await db.execute(
        PUT_SUBSCRIPTIONS,
        {
            "service_id": service_id,
            "recipient_id": [id for id, _ in pairs],
            "endpoint": [subscription.endpoint for _, subscription in pairs],
            "p256dh": [subscription.p256dh for _, subscription in pairs],
            "auth": [subscription.auth for _, subscription in pairs],
        },
    )


async def erase(db: Connection, service_id: int, id: int) -> list[str] | None:
    """Forget a recipient with every address; returns the mail addresses they had, None if there was nobody."""
    row = (await db.execute(ERASE, {"service_id": service_id, "id": id})).first()
    return None if row is None else [row.email] if row.email else []


async def drop_devices(db: Connection, tokens: Sequence[tuple[int, str]], *, recipient_id: int | None = None) -> int:
    """Forget devices named by (service, token), of one recipient only if given; returns how many."""
    rows = await db.execute(
        DROP_DEVICES,
        {
            "service_ids": [service for service, _ in tokens],
            "tokens": [token for _, token in tokens],
            "recipient_id": recipient_id,
        },
    )
    return len(rows.all())


async def drop_subscriptions(
    db: Connection, endpoints: Sequence[tuple[int, str]], *, recipient_id: int | None = None
) -> int:
    """Forget subscriptions named by (service, endpoint), of one recipient only if given; returns how many."""
    rows = await db.execute(
        DROP_SUBSCRIPTIONS,
        {
            "service_ids": [service for service, _ in endpoints],
            "endpoints": [endpoint for _, endpoint in endpoints],
            "recipient_id": recipient_id,
        },
    )
    return len(rows.all())
