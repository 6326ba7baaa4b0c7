"""The suppression list: which reason stands, whose entry it is, and that it is found."""

from __future__ import annotations

from itertools import permutations

import pytest

from notifier.domain.notification import Channel
from notifier.domain.suppression import BOUNCED, BY_CALLER, COMPLAINED, ERASED
from notifier.store import suppressions
from notifier.store.database import Database
from tests.builders import HASHES

ADA, EVE = (HASHES.of(Channel.EMAIL, f"{name}@example.com") for name in ("ada", "eve"))


async def reason(database: Database, hash: bytes = ADA, *, service_id: int = 1) -> str | None:
    async with database.transaction() as tx:
        found = await suppressions.find(tx, Channel.EMAIL, [(service_id, hash)])
    return found[service_id, hash].reason if found else None


async def add(database: Database, reason: str, *hashes: bytes) -> None:
    async with database.transaction() as tx:
        await suppressions.add(tx, 1, Channel.EMAIL, hashes or (ADA,), reason=reason)


async def put(database: Database, reason: str | None = None) -> str:
    async with database.transaction() as tx:
        return (await suppressions.put(tx, 1, Channel.EMAIL, ADA, reason=reason)).reason


@pytest.mark.parametrize("order", [*permutations((ERASED, BOUNCED, COMPLAINED))], ids=str)
async def test_the_strongest_reason_stands_in_whatever_order_they_come(
    order: tuple[str, ...], database: Database
) -> None:
    for one in order * 2:
        await add(database, one)
    assert await reason(database) == COMPLAINED


async def test_a_callers_own_word_stands_over_what_we_find_out(database: Database) -> None:
    assert await put(database) == BY_CALLER
    await add(database, COMPLAINED)
    assert await reason(database) == BY_CALLER
    assert await put(database, "unsubscribed") == "unsubscribed"
    assert await put(database) == "unsubscribed"


async def test_a_caller_who_gives_no_reason_keeps_the_one_there_is(database: Database) -> None:
    await add(database, BOUNCED)
    assert await put(database) == BOUNCED


async def test_putting_it_twice_keeps_the_day_on_which_it_was_put(database: Database) -> None:
    async with database.transaction() as tx:
        first = await suppressions.put(tx, 1, Channel.EMAIL, ADA)
    async with database.transaction() as tx:
        again = await suppressions.put(tx, 1, Channel.EMAIL, ADA, reason="other")
    assert again.created_at == first.created_at


async def test_an_entry_is_one_services_one_channels_and_one_addresss(database: Database) -> None:
    await add(database, BOUNCED)
    assert await reason(database, service_id=2) is None
    assert await reason(database, EVE) is None
    async with database.transaction() as tx:
        assert await suppressions.find(tx, Channel.PUSH, [(1, ADA)]) == {}
        assert await suppressions.lift(tx, 2, Channel.EMAIL, [ADA]) == 0
        assert await suppressions.lift(tx, 1, Channel.PUSH, [ADA]) == 0


async def test_who_comes_back_after_an_erasure_is_off_the_list_and_who_bounced_is_not(database: Database) -> None:
    await add(database, ERASED, ADA, EVE)
    await add(database, BOUNCED, EVE)
    async with database.transaction() as tx:
        assert await suppressions.lift_erased(tx, 1, Channel.EMAIL, [ADA, EVE]) == 1
    assert (await reason(database), await reason(database, EVE)) == (None, BOUNCED)


async def test_many_are_found_by_one_statement(database: Database) -> None:
    await add(database, BOUNCED, ADA, EVE)
    async with database.transaction() as tx:
        found = await suppressions.find(tx, Channel.EMAIL, [(1, ADA), (1, EVE), (2, ADA), (1, ADA)])
    assert found.keys() == {(1, ADA), (1, EVE)}
