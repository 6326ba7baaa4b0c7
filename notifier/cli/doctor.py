"""`notifier doctor`: is everything here that the service needs, and if not, what to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from notifier import bootstrap, queues
from notifier.domain.errors import NotifierError, ServerUnreachable, SettingsInvalid, Unavailable
from notifier.domain.notification import LANES
from notifier.settings import Settings
from notifier.store import database, migrations
from notifier.store.connections import Pooler, is_pooled

#: A clock further off than this is worth mending. (Nothing depends on it: the database's clock decides.)
CLOCK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    ok: bool
    says: str


async def examine(settings: Settings) -> list[Finding]:
    """Every check, each with one line."""
    checks: dict[str, Callable[[Settings], Awaitable[str]]] = {
        "database": _database,
        "schema": _schema,
        "clock": _clock,
        "broker": _broker,
        "templates": _templates,
        "providers": _providers,
    }
    findings = []
    for what, check in checks.items():
        try:
            findings.append(Finding(what, True, await check(settings)))
        except NotifierError as error:
            findings.append(Finding(what, False, error.detail))
    return findings


async def _database(settings: Settings) -> str:
    db = bootstrap.database(settings, application="doctor")
    try:
        async with db.transaction(within=database.ANSWER_SECONDS) as tx:
            pooled = await is_pooled(tx)
            await database.check_writable(tx)
    except Unavailable as error:
        raise ServerUnreachable(away(error)) from error
    finally:
        await db.close()
    if pooled and Pooler(settings.database_pooler) is Pooler.NONE:
        raise SettingsInvalid(
            "A pooler stands before PostgreSQL, and we do not reckon with it. "
            "Set NOTIFIER_DATABASE_POOLER=transaction (right for every mode of a pooler)."
        )
    return "PostgreSQL answers" + (", through a pooler" if pooled else "")


def away(error: Unavailable) -> str:
    """What an operator can do when the database cannot be used."""
    if "migrate" in error.detail:
        return error.detail
    cause = error.__cause__ and (error.__cause__.__cause__ or error.__cause__)
    if "startup parameter" in str(cause):
        return f"A pooler refuses us ({cause}). Set NOTIFIER_DATABASE_POOLER=transaction."
    return (
        f"PostgreSQL cannot be used ({str(cause or 'no answer').splitlines()[0][:200]}). "
        "Check NOTIFIER_DATABASE_URL, and that the server runs and lets us in."
    )


async def _schema(settings: Settings) -> str:
    try:
        url, pooler = settings.database_url.get_secret_value(), Pooler(settings.database_pooler)
        current = await migrations.is_current(url, pooler=pooler)
    except Exception as error:
        raise ServerUnreachable("unknown, since the database does not answer") from error
    if not current:
        raise ServerUnreachable("The schema is not up to date. Run: notifier migrate")
    return "up to date"


async def _clock(settings: Settings) -> str:
    db = bootstrap.database(settings, application="doctor")
    try:
        async with db.transaction() as tx:
            ahead = time.time() - (await database.now(tx)).timestamp()
    except Unavailable as error:
        raise ServerUnreachable("unknown, since the database does not answer") from error
    finally:
        await db.close()
    if abs(ahead) > CLOCK_SECONDS:
        raise SettingsInvalid(f"This machine's clock is {ahead:+.1f} s off the database's. Run an NTP client on both.")
    return f"{ahead:+.2f} s off the database's"


async def _broker(settings: Settings) -> str:
    publisher = queues.Publisher(queues.celery_app(settings.broker), life=bootstrap.hint_life(settings))
    depths = [await asyncio.to_thread(publisher.depth, lane) for lane in LANES]
    if any(depth is None for depth in depths):
        raise ServerUnreachable(
            "The broker does not answer. Check NOTIFIER_REDIS_URL (or NOTIFIER_BROKER_URL). Notifications are "
            "accepted all the same, and sent when it is back."
        )
    return f"answers; {sum(depth or 0 for depth in depths)} hints wait"


async def _templates(settings: Settings) -> str:
    catalogue = bootstrap.catalogue(settings)
    return f"{len(list(catalogue))} templates in {settings.templates_dir}"


async def _providers(settings: Settings) -> str:
    found = bootstrap.providers(settings)
    for provider in {id(p): p for some in found.values() for p in some}.values():
        await provider.close()
    return ", ".join(
        f"{mode}/{channel}: {'→'.join(p.name for p in some) or 'none'}" for (mode, channel), some in found.items()
    )
