"""The suppression list: hashes of addresses to which a service sends nothing more."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text

from notifier.domain.notification import Channel
from notifier.domain.suppression import BY_CALLER, ERASED, RANKED, Suppression
from notifier.store.database import Connection

# Which of these are on the list. (An array of bytea costs no more here than one of text.)
FIND = text("""
    SELECT s.service_id, s.hash, s.reason, s.created_at
      FROM suppressions s
      JOIN unnest(CAST(:service_ids AS bigint[]), CAST(:hashes AS bytea[])) AS k(service_id, hash)
           ON s.service_id = k.service_id AND s.channel = :channel AND s.hash = k.hash
""")

# A caller's word stands over every other; without one, whatever stands there already does.
PUT = text("""
    INSERT INTO suppressions AS s (service_id, channel, hash, reason)
    VALUES (:service_id, :channel, :hash, coalesce(CAST(:reason AS text), :by_caller))
    ON CONFLICT (service_id, channel, hash) DO UPDATE SET reason = coalesce(CAST(:reason AS text), s.reason)
    RETURNING reason, created_at
""")

# What we found out ourselves: the stronger reason stays, so that the order in which they come changes nothing.
ADD = text("""
    INSERT INTO suppressions AS s (service_id, channel, hash, reason)
    SELECT :service_id, :channel, hash, :reason FROM unnest(CAST(:hashes AS bytea[])) AS k(hash) ORDER BY hash
    ON CONFLICT (service_id, channel, hash) DO UPDATE SET reason = excluded.reason
     WHERE array_position(CAST(:ranked AS text[]), s.reason)
           < array_position(CAST(:ranked AS text[]), excluded.reason)
""")

LIFT = text("""
    DELETE FROM suppressions
     WHERE service_id = :service_id AND channel = :channel AND hash = ANY(CAST(:hashes AS bytea[]))
       AND (CAST(:reason AS text) IS NULL OR reason = :reason)
""")


async def find(
    db: Connection, channel: Channel, keys: Sequence[tuple[int, bytes]]
) -> dict[tuple[int, bytes], Suppression]:
    """Those of `keys` (service, hash) that are on the list, as committed when this statement begins."""
    unique = sorted(set(keys))
    rows = await db.execute(
        FIND,
        {
            "channel": channel,
            "service_ids": [service for service, _ in unique],
            "hashes": [hash for _, hash in unique],
        },
    )
    return {(row.service_id, bytes(row.hash)): Suppression(row.reason, row.created_at) for row in rows}


async def put(
    db: Connection, service_id: int, channel: Channel, hash: bytes, *, reason: str | None = None
) -> Suppression:
    """Put an address on the list because a caller says so. Repeating it changes nothing but the reason, if given."""
    written = await db.execute(
        PUT,
        {"service_id": service_id, "channel": channel, "hash": hash, "reason": reason, "by_caller": BY_CALLER},
    )
    row = written.one()
    return Suppression(row.reason, row.created_at)


async def add(db: Connection, service_id: int, channel: Channel, hashes: Sequence[bytes], *, reason: str) -> None:
    """Put addresses on the list for one of the reasons RANKED; those with a stronger one, or a caller's, keep it."""
    await db.execute(
        ADD,
        {
            "service_id": service_id,
            "channel": channel,
            "hashes": sorted(set(hashes)),
            "reason": reason,
            "ranked": list(RANKED),
        },
    )


async def lift(db: Connection, service_id: int, channel: Channel, hashes: Sequence[bytes]) -> int:
    """Take addresses off the list, whatever the reason; returns how many entries that were."""
    return await _lift(db, service_id, channel, hashes, None)


async def lift_erased(db: Connection, service_id: int, channel: Channel, hashes: Sequence[bytes]) -> int:
    """Take off what is there for no other reason than an erasure: those people are back."""
    return await _lift(db, service_id, channel, hashes, ERASED)


async def _lift(db: Connection, service_id: int, channel: Channel, hashes: Sequence[bytes], reason: str | None) -> int:
    values = {"service_id": service_id, "channel": channel, "hashes": sorted(set(hashes)), "reason": reason}
    return (await db.execute(LIFT, values)).rowcount
