"""Calling services and their API keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from notifier.domain.caller import LIVE_KEYS, Caller, NewKey, Scope, key_fits, key_id
from notifier.domain.errors import Invalid, NotFound
from notifier.domain.notification import Mode
from notifier.store.database import Connection


@dataclass(frozen=True, slots=True)
class KeyRow:
    """An API key as it may be shown: never its secret."""

    id: str
    service: str
    scopes: tuple[str, ...]
    mode: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A calling service; `retention_days` is its own wish, None if it has none."""

    name: str
    created_at: datetime
    retention_days: int | None


LIST_SERVICES = text("SELECT name, created_at, retention_days FROM services ORDER BY name")
RETAIN = text("UPDATE services SET retention_days = :days WHERE name = :name RETURNING id")
ENSURE_SERVICE = text("""
    INSERT INTO services (name) VALUES (:name)
    ON CONFLICT (name) DO UPDATE SET name = excluded.name
    RETURNING id
""")
LIVE_KEY_COUNT = text("""
    SELECT count(*) FROM api_keys
     WHERE service_id = :service_id AND mode = :mode AND revoked_at IS NULL AND scopes = CAST(:scopes AS text[])
""")
INSERT_KEY = text("""
    INSERT INTO api_keys (id, service_id, hash, scopes, mode)
    VALUES (:id, :service_id, :hash, CAST(:scopes AS text[]), :mode)
""")
LIST_KEYS = text("""
    SELECT k.id, s.name, k.scopes, k.mode, k.created_at, k.revoked_at
      FROM api_keys k JOIN services s ON s.id = k.service_id ORDER BY k.created_at, k.id
""")
REVOKE_KEY = text("UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = :id RETURNING id")
FIND_KEY = text("""
    SELECT s.id AS service_id, s.name, k.hash, k.scopes, k.mode
      FROM api_keys k JOIN services s ON s.id = k.service_id
     WHERE k.id = :id AND k.revoked_at IS NULL
""")


async def add_key(db: Connection, service: str, key: NewKey, *, scopes: Sequence[Scope], mode: Mode) -> None:
    """Store a new key of `service`, which is created if need be.

    A service has at most two live keys with the same scopes and mode, the old and the new one of a rotation.
    """
    service_id = (await db.execute(ENSURE_SERVICE, {"name": service})).scalar_one()
    wanted = sorted(set(scopes))
    live = (await db.execute(LIVE_KEY_COUNT, {"service_id": service_id, "mode": mode, "scopes": wanted})).scalar_one()
    if live >= LIVE_KEYS:
        raise Invalid(
            f"{service} has {live} live keys with these scopes already. Revoke one first: notifier keys list, "
            "then notifier keys revoke ID."
        )
    await db.execute(
        INSERT_KEY, {"id": key.id, "service_id": service_id, "hash": key.hash, "scopes": wanted, "mode": mode}
    )


async def list_keys(db: Connection) -> list[KeyRow]:
    """Every key, oldest first, revoked ones too."""
    return [
        KeyRow(row.id, row.name, tuple(row.scopes), row.mode, row.created_at, row.revoked_at)
        for row in await db.execute(LIST_KEYS)
    ]


async def revoke_key(db: Connection, id: str) -> None:
    """End a key's life, for good. Revoking twice is no error; an unknown id is."""
    if (await db.execute(REVOKE_KEY, {"id": id})).first() is None:
        raise NotFound(f"There is no key {id}. `notifier keys list` shows them.")


async def list_services(db: Connection) -> list[ServiceRow]:
    """Every service by name."""
    return [ServiceRow(*row) for row in await db.execute(LIST_SERVICES)]


async def retain(db: Connection, service: str, *, days: int | None) -> None:
    """Keep what has ended of a service for so many days; None: as long as the settings say."""
    if (await db.execute(RETAIN, {"name": service, "days": days})).first() is None:
        raise NotFound(f"There is no service {service}. `notifier services list` shows them.")


async def caller_of(db: Connection, key: str) -> Caller | None:
    """Who shows this key; None if it is unknown, wrong or revoked."""
    id = key_id(key)
    row = (await db.execute(FIND_KEY, {"id": id})).one_or_none() if id else None
    if row is None or id is None or not key_fits(key, row.hash):
        return None
    scopes = frozenset(Scope(scope) for scope in row.scopes)
    return Caller(row.service_id, row.name, id, scopes, Mode(row.mode))
