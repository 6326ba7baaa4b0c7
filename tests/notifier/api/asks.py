"""Builders of what callers send, and the look at what they get when it is wrong."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from notifier.domain.caller import Scope, new_key
from notifier.domain.notification import Mode
from notifier.store import services
from notifier.store.database import Database
from tests.running import Answer, Running

ADA = "ada@example.com"


def a_payment(**changes: Any) -> dict[str, Any]:
    """The body of a good POST /v1/notifications, with these fields changed; None takes one away."""
    body = {
        "template": "payment-received",
        "recipient": {"email": ADA},
        "channels": ["email"],
        "data": {"amount": "12.50", "currency": "EUR"},
    } | changes
    return {name: value for name, value in body.items() if value is not None}


def a_subscription(endpoint: str = "https://fcm.googleapis.com/fcm/send/abc") -> dict[str, Any]:
    """A browser's subscription with keys that are keys (RFC 8291 §5)."""
    return {
        "endpoint": endpoint,
        "keys": {
            "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            "auth": "BTBZMqHH6r4Tts7J_aSIgg",
        },
    }


def at(seconds: float) -> str:
    """A moment so many seconds from now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def a_key(running: Running, *scopes: Scope, service: str | None = None, mode: Mode = Mode.LIVE) -> str:
    """A new key, of a new service if none is named."""
    key = new_key(mode)
    database = Database(running.database_url, pool_size=1)
    try:
        async with database.transaction() as tx:
            name = service or f"service-{uuid.uuid4().hex[:8]}"
            await services.add_key(tx, name, key, scopes=scopes or (Scope.ADMIN,), mode=mode)
    finally:
        await database.close()
    return key.text


def the_problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """The body of an answer that must be this problem, in the form that RFC 9457 and our contract give it."""
    problem = answer.body
    assert (answer.status, problem["code"]) == (status, code), problem
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem.keys() == {"type", "title", "status", "detail", "code", "errors"}
    assert problem["status"] == status
    assert problem["detail"]
    for field in problem["errors"]:
        assert field.keys() == {"loc", "code", "message"}
    return dict(problem)


def its_message(problem: dict[str, Any], loc: Sequence[str | int]) -> str:
    """What the problem says of one field."""
    messages = [field["message"] for field in problem["errors"] if field["loc"] == list(loc)]
    assert messages, f"nothing about {loc} in {problem['errors']}"
    return str(messages[0])


async def everything_kept(running: Running) -> str:
    """All that stands in any table, as text."""
    tables = await running.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
    rows = [await running.sql(f'SELECT t::text FROM "{table[0]}" AS t') for table in tables]  # noqa: S608
    assert len(rows) > 5
    return "\n".join(row[0] for some in rows for row in some)
