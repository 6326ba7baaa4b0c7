"""A request that comes twice makes one notification, in one process or in two, at once or later."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from notifier.domain.ask import Answer, Idempotency
from notifier.domain.errors import IdempotencyKeyInvalid, IdempotencyKeyReused, TemplateNotFound
from notifier.domain.idempotency import MAX_LENGTH, fingerprint, parse_key
from notifier.intake.accept import Intake
from notifier.queues import Publisher
from notifier.store.database import Database
from tests.builders import a_request, a_service, sql
from tests.notifier.intake.broker import Broker

#: No deadline: a machine may be busy.
quickly = settings(max_examples=60)
#: What a body can be after it was read: 64-bit whole numbers, and no infinity.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
VISIBLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=MAX_LENGTH)


# -- the fingerprint --


def turned(value: Any) -> Any:
    """The same JSON value, with the members of every object the other way round."""
    if isinstance(value, dict):
        return {key: turned(inner) for key, inner in reversed(value.items())}
    return [turned(inner) for inner in value] if isinstance(value, list) else value


@quickly
@given(body=JSON, indent=st.integers(0, 4))
def test_neither_white_space_nor_the_order_of_members_makes_another_body(body: Any, indent: int) -> None:
    written = json.dumps(turned(body), indent=indent or None, ensure_ascii=bool(indent % 2))
    assert fingerprint(orjson.loads(written)) == fingerprint(orjson.loads(orjson.dumps(body)))


@quickly
@given(one=JSON, other=JSON)
def test_another_value_makes_another_fingerprint(one: Any, other: Any) -> None:
    assume(orjson.dumps(one, option=orjson.OPT_SORT_KEYS) != orjson.dumps(other, option=orjson.OPT_SORT_KEYS))
    assert fingerprint(one) != fingerprint(other)


@quickly
@given(body=st.dictionaries(TEXT, JSON, min_size=1), more=TEXT, value=JSON)
def test_one_member_more_or_less_or_another_makes_another_body(body: dict[str, Any], more: str, value: Any) -> None:
    assume(more not in body)
    first = next(iter(body))
    assert fingerprint(body | {more: value}) != fingerprint(body)
    assert fingerprint({key: inner for key, inner in body.items() if key != first}) != fingerprint(body)
    assert fingerprint(body | {first: [body[first]]}) != fingerprint(body)


def test_a_list_in_another_order_is_another_body_and_text_is_no_number() -> None:
    bodies = [[1, 2], [2, 1], ["1", 2], [[1], 2], {"1": 2}, [1, 2, None], "[1,2]", True, 1, "1", 0, "", None, [], {}]
    assert len({fingerprint(body) for body in bodies}) == len(bodies)


# -- the key --


@quickly
@given(key=VISIBLE)
def test_a_key_is_the_same_bare_and_quoted(key: str) -> None:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_key(f'"{escaped}"') == key
    if key.strip() == key and not key.startswith('"'):
        assert parse_key(f"  {key} ") == key


@quickly
@given(header=st.text(max_size=300))
def test_any_header_is_a_key_or_is_refused(header: str) -> None:
    try:
        key = parse_key(header)
    except IdempotencyKeyInvalid:
        return
    assert key is not None
    assert 1 <= len(key) <= MAX_LENGTH
    assert key.isascii()
    assert key.isprintable()


def test_no_header_is_no_key() -> None:
    assert parse_key(None) is None


# -- with a database --


@pytest.fixture
async def two(
    database: Database, store_url: str, opened: Callable[[Database], Intake]
) -> AsyncIterator[tuple[Intake, Intake]]:
    """Two API processes on one database."""
    other = Database(store_url, pool_size=5, application="tests")
    yield opened(database), opened(other)
    await other.close()


async def test_50_requests_at_once_with_one_key_make_one_notification_and_49_replays(
    two: tuple[Intake, Intake], database: Database, publisher: Publisher, broker: Broker
) -> None:
    caller = await a_service(database)
    answers = await asyncio.gather(*(two[n % 2].accept(a_request(caller, key="order 991")) for n in range(50)))
    publisher.close()
    assert Counter(answer.replayed for answer in answers) == {True: 49, False: 1}
    (first,) = (answer.body for answer in answers if not answer.replayed)
    assert all(answer.body == first for answer in answers)
    rows = await sql(database, "SELECT n.id::text FROM notifications n JOIN deliveries d ON d.notification_id = n.id")
    assert [row["id"] for row in rows] == [first["id"]]
    assert len([id for hint in broker.published() for id in hint.ids]) == 1


async def test_many_keys_at_once_each_several_times_make_one_notification_each(
    two: tuple[Intake, Intake], database: Database
) -> None:
    """Groups of two processes share keys in every order: none waits for the other for good."""
    caller = await a_service(database)
    keys = [f"k{n * 7 % 40}" for n in range(200)]
    async with asyncio.timeout(30):
        answers = await asyncio.gather(
            *(two[n % 2].accept(a_request(caller, key=key, body=key)) for n, key in enumerate(keys))
        )
    ids = {key: {a.body["id"] for a, used in zip(answers, keys, strict=True) if used == key} for key in keys}
    assert all(len(same) == 1 for same in ids.values())
    assert len(set.union(*ids.values())) == 40
    assert (await sql(database, "SELECT count(*) AS n FROM notifications"))[0]["n"] == 40


async def test_two_bodies_at_once_under_one_key_one_is_accepted_the_other_refused(
    two: tuple[Intake, Intake], database: Database
) -> None:
    caller = await a_service(database)
    asked = [two[n % 2].accept(a_request(caller, key="a", body=f"body {n % 2}")) for n in range(20)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    kinds = Counter(type(answer).__name__ for answer in answers)
    assert kinds == {"Answer": 10, "IdempotencyKeyReused": 10}
    assert len(await sql(database, "SELECT 1 FROM notifications")) == 1


async def test_a_refused_request_leaves_its_key_free_for_the_mended_one(intake: Intake, database: Database) -> None:
    caller = await a_service(database)
    with pytest.raises(TemplateNotFound):
        await intake.accept(a_request(caller, key="a", body="wrong", template="nope"))
    assert not (await intake.accept(a_request(caller, key="a", body="right"))).replayed


async def test_a_key_belongs_to_its_route_and_service(intake: Intake, database: Database) -> None:
    mine, theirs = await a_service(database), await a_service(database, "till")
    assert not (await intake.accept(a_request(mine, key="a"))).replayed
    assert not (await intake.accept(a_request(theirs, key="a"))).replayed
    whole = Idempotency("notifications/batch", "a", fingerprint("the batch"))
    batch = await intake.accept_batch([], service_id=mine.service_id, whole=whole, summary=lambda _: {})
    assert not batch.replayed


async def test_a_batch_under_one_key_20_times_at_once_is_one_batch(
    two: tuple[Intake, Intake], database: Database
) -> None:
    caller = await a_service(database)
    whole = Idempotency("notifications/batch", "a", fingerprint("the batch"))

    def ask(n: int) -> Any:
        asked = [a_request(caller), a_request(caller)]
        return two[n % 2].accept_batch(
            asked,
            service_id=caller.service_id,
            whole=whole,
            summary=lambda results: {"ids": [r.body["id"] for r in results if isinstance(r, Answer)]},
        )

    answers = await asyncio.gather(*(ask(n) for n in range(20)))
    assert Counter(answer.replayed for answer in answers) == {True: 19, False: 1}
    assert len({str(answer.body) for answer in answers}) == 1
    assert len(await sql(database, "SELECT 1 FROM notifications")) == 2


async def test_an_items_key_counts_in_the_batch_and_outside_it(intake: Intake, database: Database) -> None:
    caller = await a_service(database)
    first = await intake.accept(a_request(caller, key="a"))

    def summary(results: Any) -> dict[str, Any]:
        return {"results": [(r.body["id"], r.replayed) if isinstance(r, Answer) else r.code for r in results]}

    asked = [a_request(caller, key="a"), a_request(caller, key="b"), a_request(caller, key="b")]
    asked += [a_request(caller, key="a", body="another")]
    answer = await intake.accept_batch(asked, service_id=caller.service_id, whole=None, summary=summary)
    one, two, three, four = answer.body["results"]
    assert one == (first.body["id"], True)
    assert (two[1], three) == (False, (two[0], True))
    assert four == IdempotencyKeyReused.code
    assert len(await sql(database, "SELECT 1 FROM notifications")) == 2
