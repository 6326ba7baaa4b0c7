"""Things a test needs, with sensible defaults: say only what the test is about."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import text

from notifier.domain.ask import Ask, Idempotency, Request
from notifier.domain.caller import Caller, Scope, new_key
from notifier.domain.delivery import Standing, Status
from notifier.domain.idempotency import fingerprint, route_of
from notifier.domain.ids import uuid7
from notifier.domain.notification import Channel, Lane, Mode, OnUnknown, Priority
from notifier.domain.recipient import Device, Recipient, Subscription
from notifier.domain.suppression import Hashes
from notifier.domain.tenant import Tenant
from notifier.intake.check import Rules
from notifier.store import database as clock
from notifier.store import deliveries, notifications, recipients, services
from notifier.store.database import Database
from notifier.store.deliveries import NewDelivery
from notifier.store.notifications import NotificationRow
from notifier.store.recipients import RecipientChange
from notifier.templating import Catalogue, load

#: A moment for rules that take the clock as an argument.
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)

URGENT_EMAIL = Lane(Priority.URGENT, Channel.EMAIL)
URGENT_PUSH = Lane(Priority.URGENT, Channel.PUSH)
BULK_EMAIL = Lane(Priority.BULK, Channel.EMAIL)

HINT_LIFE = {Priority.URGENT: timedelta(seconds=5), Priority.BULK: timedelta(seconds=30)}
LEASE = timedelta(seconds=60)
#: Whose what the builders make is, unless they are told otherwise; the same service's tests; and somebody else.
LIVE, TEST, OTHER = Tenant(1, Mode.LIVE), Tenant(1, Mode.TEST), Tenant(2, Mode.LIVE)
HASHES = Hashes(b"0123456789abcdef0123456789abcdef")


@lru_cache(maxsize=1)
def the_catalogue() -> Catalogue:
    """The templates that are shipped."""
    return load(Path(__file__).parent.parent / "templates")


# -- the domain --


def a_standing(**changes: Any) -> Standing:
    """A delivery in its first attempt, with an hour to live."""
    return replace(
        Standing(
            status=Status.SENDING,
            attempt=1,
            max_attempts=8,
            unknowns=0,
            expires_at=NOW + HOUR,
            on_unknown=OnUnknown.RETRY,
            is_called=True,
        ),
        **changes,
    )


def a_recipient(**changes: Any) -> Recipient:
    """Somebody with a mail address, who is not in the directory."""
    return replace(Recipient(email="ada@example.com"), **changes)


def a_device(name: str = "phone") -> Device:
    return Device(f"token-{name}", "android")


def a_subscription(name: str = "browser") -> Subscription:
    """A subscription as it stands in the table; its keys are no keys."""
    return Subscription(f"https://fcm.googleapis.com/fcm/send/{name}", "p256dh", "auth")


# -- what callers ask --


def a_caller(**changes: Any) -> Caller:
    """A service that may do everything."""
    return replace(Caller(1, "shop", "nk_live_0", frozenset(Scope), Mode.LIVE), **changes)


def an_ask(**changes: Any) -> Ask:
    """One urgent mail, with all that its template needs."""
    return replace(
        Ask(
            template="payment-received",
            recipient=a_recipient(),
            channels=(Channel.EMAIL,),
            data={"amount": "12.50", "currency": "EUR"},
        ),
        **changes,
    )


def a_request(caller: Caller, *, key: str | None = None, body: object = "the body", **changes: Any) -> Request:
    """An ask of `caller`, under an idempotency key if one is given; `body` stands for the request's JSON."""
    used = Idempotency(route_of("notifications", caller.mode), key, fingerprint(body)) if key else None
    return Request(caller, an_ask(**changes), used)


def the_rules(**changes: Any) -> Rules:
    return replace(Rules(max_attempts=8, hint_life=HINT_LIFE, extra={"brand": "Acme"}), **changes)


# -- rows --


async def a_service(
    database: Database, name: str = "shop", *, scopes: Sequence[Scope] = tuple(Scope), mode: Mode = Mode.LIVE
) -> Caller:
    """A service with a key; returns who shows that key."""
    key = new_key(mode)
    async with database.transaction() as tx:
        await services.add_key(tx, name, key, scopes=scopes, mode=mode)
        caller = await services.caller_of(tx, key.text)
    assert caller is not None
    return caller


async def a_known_recipient(database: Database, service_id: int = 1, **changes: Any) -> int:
    """A recipient in the directory; returns their id."""
    change = replace(RecipientChange(42, email="ada@example.com"), **changes)
    async with database.transaction() as tx:
        await recipients.upsert(tx, service_id, [change])
    return change.id


def a_notification(**changes: Any) -> NotificationRow:
    """A row about to be written, for somebody known by address, as of NOW."""
    made = NotificationRow(
        id=UUID(int=0),
        service_id=1,
        template="payment-received",
        template_version="1",
        priority=Priority.URGENT,
        mode=Mode.LIVE,
        recipient_id=None,
        address=an_address(),
        data={"amount": "12.50", "currency": "EUR"},
        reference=None,
        collapse_key=None,
        send_at=None,
        expires_at=NOW + HOUR,
        created_at=NOW,
    )
    made = replace(made, **changes)
    return made if made.id.int else replace(made, id=uuid7(made.created_at, secrets.randbits(74)))


def an_address(**changes: Any) -> dict[str, Any]:
    """Addresses as they are kept with a notification that named no recipient id."""
    nobody: dict[str, Any] = {
        "id": None,
        "email": "ada@example.com",
        "locale": None,
        "timezone": None,
        "attributes": {},
    }
    return nobody | {"devices": [], "subscriptions": []} | changes


async def born(
    database: Database,
    *,
    count: int = 1,
    lane: Lane = URGENT_EMAIL,
    status: Status = Status.QUEUED,
    life: timedelta = HOUR,
    due_in: timedelta | None = timedelta(seconds=5),
    max_attempts: int = 8,
    on_unknown: OnUnknown = OnUnknown.RETRY,
    mode: Mode = Mode.LIVE,
    **notification: Any,
) -> list[int]:
    """Deliveries of as many notifications, accepted just now by the database's clock; returns their ids in order."""
    async with database.transaction() as tx:
        now = await clock.now(tx)
        rows = [
            a_notification(
                **{"priority": lane.priority, "mode": mode, "created_at": now, "expires_at": now + life} | notification
            )
            for _ in range(count)
        ]
        await notifications.insert(tx, rows)
        made = await deliveries.insert(
            tx,
            [
                NewDelivery(
                    notification_id=row.id,
                    service_id=row.service_id,
                    recipient_id=row.recipient_id,
                    lane=lane,
                    mode=mode,
                    status=status,
                    reason=None,
                    max_attempts=max_attempts,
                    on_unknown=on_unknown,
                    due_at=None if due_in is None else now + due_in,
                    expires_at=row.expires_at,
                    created_at=now,
                )
                for row in rows
            ],
        )
    return sorted(id for id, *_ in made)


# -- looking behind the doors --


async def sql(database: Database, statement: str, **values: Any) -> list[Mapping[str, Any]]:
    """Rows of a statement, read or written past the store."""
    async with database.transaction() as tx:
        result = await tx.execute(text(statement), values)
        return [dict(row) for row in result.mappings()] if result.returns_rows else []


async def row_of(database: Database, id: int) -> Mapping[str, Any]:
    """A delivery as it stands in the table."""
    (row,) = await sql(database, "SELECT * FROM deliveries WHERE id = :id", id=id)
    return row


async def history(database: Database, id: int) -> list[tuple[str, str, str]]:
    """What was decided about a delivery: (from, to, reason), oldest first."""
    rows = await sql(
        database,
        "SELECT status_from, status_to, reason FROM delivery_events WHERE delivery_id = :id ORDER BY id",
        id=id,
    )
    return [(row["status_from"], row["status_to"], row["reason"]) for row in rows]


async def make_due(database: Database, *ids: int) -> None:
    """Let the moment come that these deliveries wait for."""
    await sql(
        database, "UPDATE deliveries SET due_at = now() - interval '1 second' WHERE id = ANY(:ids)", ids=list(ids)
    )


async def expire(database: Database, *ids: int) -> None:
    """Let the life of these deliveries be over; whatever they wait for comes now."""
    await sql(
        database,
        "UPDATE deliveries SET expires_at = now() - interval '1 second', due_at = now() - interval '1 second'"
        " WHERE id = ANY(:ids)",
        ids=list(ids),
    )


async def new_sessions(url: str, *, read_only: bool) -> None:
    """From now on sessions of this database begin read-only, or do not; those that there are stay as they are.

    So a pool is on a server without writes while its address leads to one with them, as after a switchover.
    """
    server, name = url.rsplit("/", 1)
    connection = await asyncpg.connect(server + "/postgres")
    await connection.execute(
        f"ALTER DATABASE {name} SET default_transaction_read_only = {'on' if read_only else 'off'}"
    )
    await connection.close()
