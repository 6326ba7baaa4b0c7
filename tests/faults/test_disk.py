"""PostgreSQL's disk is full.

Nobody needs to be root for these tests, and no disk is filled: the files of some tables are /dev/full meanwhile, and to
whoever writes there the kernel says ENOSPC, as of a full disk. So it is PostgreSQL itself that says "No space left on
device". What they do not show is a disk that is full under PostgreSQL's log: of that it stops, and to us it is F14.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.faults import invariants
from tests.faults.house import FaultyHouse
from tests.running import Answer

FULL = "No space left on device"


async def test_f34_a_full_disk_means_503_and_never_a_false_202(house: FaultyHouse) -> None:
    """F34. What cannot be written was not accepted; who only asks is answered; with room again all is accepted."""
    async with _full(house, "notifications", "deliveries", "delivery_events", "idempotency"):
        told = await asyncio.gather(*(_order(house, number) for number in range(30)))
        asked = await house.get("/v1/notifications")

    assert {answer.status for answer in told} == {503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in told)
    assert asked.status == 200
    again = await asyncio.gather(*(_order(house, number) for number in range(30)))
    assert {answer.status for answer in again} == {202}
    fates = await invariants.hold(house, answered=[answer.body["id"] for answer in again])
    assert invariants.by_status(fates) == {"sent": 30}
    assert {fate.received for fate in fates.values()} == {1}


async def test_f34_results_that_find_no_room_are_written_when_there_is(house: FaultyHouse) -> None:
    """F34. The providers have been called; who called them lives, and keeps what they said, even past the lease."""
    async with _full(house, "delivery_events"):
        ids = [await house.post_one(on_unknown=policy) for policy in ("retry", "hold") for _ in range(5)]
        await house.calls_made(10, within=60)
        over = "SELECT count(*) = 10 FROM deliveries WHERE status = 'sending' AND due_at < now()"
        await house.until_sql(over, what="every lease to end")

    fates = await invariants.hold(house, answered=ids)
    assert invariants.by_status(fates) == {"sent": 10}
    assert {fate.received for fate in fates.values()} == {1}


async def _order(house: FaultyHouse, number: int) -> Answer:
    return await house.send(idempotency_key=f"order-{number}")


@asynccontextmanager
async def _full(house: FaultyHouse, *tables: str) -> AsyncIterator[None]:
    """No room for these tables, which must be empty: whatever PostgreSQL would write there finds the disk full."""
    files = [Path(name) for name in await _files(house, tables)]
    assert all(file.stat().st_size == 0 for file in files)
    log = house.stack.home.logs / "postgres.log"
    before = log.read_text().count(FULL)
    house.stack.postgres.stop()
    for file in files:
        file.rename(file.with_suffix(".kept"))
        file.symlink_to("/dev/full")
    try:
        house.stack.postgres.start()
        await house.accepting()
        yield
        house.stack.postgres.stop()
    finally:
        for file in files:
            file.unlink()
            file.with_suffix(".kept").rename(file)
    assert log.read_text().count(FULL) > before, "the disk was not full"
    house.stack.postgres.start()
    await house.accepting()


async def _files(house: FaultyHouse, tables: Sequence[str]) -> list[str]:
    rows = await house.sql(
        "SELECT current_setting('data_directory') || '/' || pg_relation_filepath(oid) FROM pg_class "
        "WHERE relname = ANY($1)",
        list(tables),
    )
    assert len(rows) == len(tables)
    return [row[0] for row in rows]
