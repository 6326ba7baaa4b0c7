"""Time for the store's machine: the database's, moved by moving every moment that is written down into the past."""

from __future__ import annotations

import asyncpg

_MOMENTS = {
    "deliveries": ("due_at", "expires_at", "created_at", "claimed_at", "called_at", "updated_at"),
    "delivery_events": ("at",),
    "notifications": ("send_at", "expires_at", "created_at"),
    "campaigns": (
        "slot", "due_at", "open_until", "created_at", "started_at", "walked_at", "finished_at", "updated_at",
    ),
    "campaign_chunks": ("created_at",),
}  # fmt: skip
_PASS = "; ".join(
    f"UPDATE {table} SET " + ", ".join(f"{name} = {name} - interval '{{seconds}} s'" for name in names)  # noqa: S608
    for table, names in _MOMENTS.items()
)
_EMPTY = "; ".join(f"DELETE FROM {table}" for table in _MOMENTS)  # noqa: S608  # quicker than TRUNCATE of so little


async def passes(eye: asyncpg.Connection, seconds: int) -> None:
    """All at once, so that what lay between two moments lies there still."""
    await eye.execute(_PASS.format(seconds=seconds))


async def begins_anew(eye: asyncpg.Connection) -> None:
    """Nothing has happened yet."""
    await eye.execute(_EMPTY)
