"""One statement or command at a server of a stack."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
from redis import Redis


def sql(url: str, statement: str) -> Any:
    """Run a statement; the first value of its first row."""
    return asyncio.run(_sql(url, statement))


async def _sql(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def redis(url: str, *command: str) -> Any:
    with Redis.from_url(url, decode_responses=True, socket_timeout=10) as client:
        return client.execute_command(*command)
