"""/readyz says whether notifications can be accepted: PostgreSQL is there, and takes writes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.builders import new_sessions
from tests.notifier.api.asks import the_problem
from tests.running import Running

_END_SESSIONS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'notifier-api'
"""


@pytest.fixture
async def read_only(running: Running) -> AsyncIterator[Running]:
    """The service, whose API finds a database that takes no writes."""
    await running.sql("SELECT 1")  # in a session that still may
    await new_sessions(running.database_url, read_only=True)
    await running.sql(_END_SESSIONS)
    yield running
    await new_sessions(running.database_url, read_only=False)


async def test_a_database_without_writes_is_no_readiness_and_one_with_them_is_again_without_a_post(
    read_only: Running,
) -> None:
    for _ in range(12):  # more often than it has connections: of each that was cut, the first request learns by a 503
        the_problem(await read_only.get("/readyz"), 503, "unavailable")
    assert (await read_only.get("/livez")).status == 200
    answer = await read_only.send()
    the_problem(answer, 503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1

    await new_sessions(read_only.database_url, read_only=False)
    statuses = [(await read_only.get("/readyz")).status for _ in range(12)]
    assert statuses == [200] * 12, "whoever was told 503 has let go of all connections"
    assert (await read_only.send()).status == 202
