"""Hints: what one says, that nothing else is taken for one, and how they are grouped."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notifier.domain.notification import LANES, Lane
from notifier.domain.origin import Origin
from notifier.queues import CONTROL_QUEUE, ENVELOPE, HINT_SIZE, Hint, HintNotUnderstood, celery_app, hints
from tests.builders import BULK_EMAIL, URGENT_EMAIL, URGENT_PUSH

#: No deadline: a machine may be busy.
quickly = settings(max_examples=60)
IDS = st.integers(0, 2**63 - 1)
MOMENTS = st.floats(0, datetime(9999, 1, 1, tzinfo=UTC).timestamp())
PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=16)
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ORIGINS = st.none() | st.builds(
    Origin,
    request_id=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z"),
    traceparent=st.none() | st.just(TRACEPARENT),
)
ASKED = st.lists(st.tuples(ORIGINS, st.integers(1, 10)), max_size=10)
A_HINT = st.builds(
    lambda lane, ids, at, by, asked: Hint(lane, ids, at, by) if ids is not None else a_hint_of(asked, lane, at, by),
    st.sampled_from(LANES),
    st.none() | st.lists(IDS, max_size=HINT_SIZE).map(tuple),
    MOMENTS,
    PRINTABLE,
    ASKED,
)


def a_hint_of(asked: list[tuple[Origin | None, int]], lane: Lane, at: float = 1.0, by: str = "intake") -> Hint:
    """A hint whose deliveries were asked for by these requests."""
    return Hint(lane, tuple(range(sum(count for _, count in asked))), at, by, tuple(asked))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)


def a_message(**changes: Any) -> dict[str, Any]:
    return {"v": ENVELOPE, "lane": "urgent.email", "ids": [1, 2], "at": 1.0, "by": "intake"} | changes


# -- one hint --


@quickly
@given(hint=A_HINT)
def test_a_hint_is_read_as_it_was_written_even_after_its_way_through_json(hint: Hint) -> None:
    assert Hint.parse(json.loads(json.dumps(hint.message()))) == hint


@quickly
@given(hint=A_HINT, more=st.dictionaries(st.text(min_size=6), JSON, max_size=3))
def test_what_a_newer_release_adds_is_passed_over(hint: Hint, more: dict[str, Any]) -> None:
    assert Hint.parse(more | hint.message()) == hint


def test_a_hint_holds_ids_and_nothing_of_anybody() -> None:
    """Whoever reads the broker learns nothing: no address, no text."""
    (hint,) = hints([(7, URGENT_EMAIL)], by="intake")
    assert hint.message().keys() == {"v", "lane", "ids", "at", "by"}
    assert hint.message() | {"at": 0} == {"v": 1, "lane": "urgent.email", "ids": [7], "at": 0, "by": "intake"}


@quickly
@given(message=st.dictionaries(st.sampled_from(["v", "lane", "ids", "at", "by", "requests", "x"]), JSON))
@example(message=a_message(ids="9" * 5000))
@example(message=a_message(ids=["9" * 5000]))
@example(message=a_message(ids=[float("inf")]))
@example(message=a_message(ids=[float("nan")]))
@example(message=a_message(at="9" * 400))
@example(message=a_message(at=1e300))
@example(message=a_message(at=float("nan")))
@example(message=a_message(lane="urgent.email.more"))
@example(message=a_message(by=["\x00", "\ud800"]))
def test_whatever_is_no_hint_is_not_understood_and_nothing_worse(message: dict[str, Any]) -> None:
    try:
        hint = Hint.parse(message)
    except HintNotUnderstood:
        return
    assert hint.lane in LANES
    assert len(hint.ids) <= HINT_SIZE
    assert all(0 <= id < 1 << 63 for id in hint.ids)
    assert datetime.fromtimestamp(hint.hinted_at, UTC).year >= 1
    assert len(hint.by) <= 16
    assert hint.by.isprintable()


@pytest.mark.parametrize(
    "wrong",
    [
        {"v": 2},
        {"v": None},
        {"v": "1"},
        {"lane": "urgent.fax"},
        {"lane": "email"},
        {"lane": None},
        {"ids": None},
        {"ids": 7},
        {"ids": ["x"]},
        {"ids": [None]},
        {"ids": [-1]},
        {"ids": [1 << 63]},
        {"at": "soon"},
        {"at": []},
    ],
)
def test_a_message_with_something_wrong_in_it_is_not_understood(wrong: dict[str, Any]) -> None:
    with pytest.raises(HintNotUnderstood):
        Hint.parse(a_message(**wrong))


@pytest.mark.parametrize("missing", ["v", "lane", "ids"])
def test_a_message_that_lacks_something_is_not_understood(missing: str) -> None:
    message = a_message()
    del message[missing]
    with pytest.raises(HintNotUnderstood):
        Hint.parse(message)


def test_a_message_nested_too_deep_to_be_written_out_is_not_understood() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(HintNotUnderstood):
        Hint.parse(a_message(by=deep))
    with pytest.raises(HintNotUnderstood):
        Hint.parse(a_message(lane=deep))
    with pytest.raises(HintNotUnderstood):
        Hint.parse(a_message(v=deep))
    while deep:  # or the interpreter takes it apart recursively, too
        (deep,) = deep


def test_a_forged_hint_names_no_more_than_a_worker_claims_at_once() -> None:
    assert Hint.parse(a_message(ids=list(range(100_000)))).ids == tuple(range(HINT_SIZE))


# -- whose they are --


def test_a_hint_names_its_requests_by_id_and_place_in_their_traces() -> None:
    """Still nothing of anybody; and no field more if nobody knows, so an older release reads what it always did."""
    one, other = Origin("one", TRACEPARENT), Origin("other")
    (hint,) = hints([(id, URGENT_EMAIL) for id in (9, 7, 8, 6)], by="intake", origins={6: one, 7: one, 9: other})
    assert hint.message()["requests"] == [["one", TRACEPARENT, 2], [None, None, 1], ["other", None, 1]]
    assert hint.origins() == {6: one, 7: one, 9: other}
    (hint,) = hints([(7, URGENT_EMAIL)], by="sweep", origins={8: one})
    assert "requests" not in hint.message()


@quickly
@given(told=JSON)
@example(told=[["one", None, 2]])
@example(told=[["one", None, 1], ["two", None, 0]])
@example(told=[["one", None, True]])
@example(told=[["one", None, 10**400]])
@example(told=[["a b", None, 1]])
@example(told=[["ada@example.com", None, 1]])
@example(told=[["x" * 65, None, 1]])
def test_nonsense_about_requests_is_passed_over_and_the_hint_is_good(told: Any) -> None:
    hint = Hint.parse(a_message(ids=[7], requests=told))
    assert hint.ids == (7,)
    assert hint.origins() == {}


@pytest.mark.parametrize("wrong", ["", 7, [], "x" * 55, TRACEPARENT + "\n", TRACEPARENT.upper(), "00-" + "0" * 52])
def test_a_place_in_a_trace_that_is_none_is_left_out(wrong: Any) -> None:
    hint = Hint.parse(a_message(ids=[7], requests=[["one", wrong, 1]]))
    assert hint.origins() == {7: Origin("one")}


# -- many deliveries --


@quickly
@given(born=st.lists(st.tuples(IDS, st.sampled_from(LANES)), max_size=500))
def test_every_delivery_is_hinted_in_its_own_lane_and_urgent_ones_first(born: list[tuple[int, Lane]]) -> None:
    made = hints(born, by="test")
    assert sorted((id, hint.lane) for hint in made for id in hint.ids) == sorted(born)
    assert all(1 <= len(hint.ids) <= HINT_SIZE for hint in made)
    assert all(list(hint.ids) == sorted(hint.ids) for hint in made)
    assert all(LANES.index(one.lane) <= LANES.index(next.lane) for one, next in pairwise(made))


def test_no_more_hints_are_made_than_needed() -> None:
    born = [(id, lane) for lane in (BULK_EMAIL, URGENT_PUSH) for id in range(250)]
    assert [(hint.lane, len(hint.ids)) for hint in hints(born, by="sweep")] == [
        (URGENT_PUSH, 100),
        (URGENT_PUSH, 100),
        (URGENT_PUSH, 50),
        (BULK_EMAIL, 100),
        (BULK_EMAIL, 100),
        (BULK_EMAIL, 50),
    ]
    assert hints([], by="sweep") == []


def test_a_hint_says_when_it_was_given_and_by_whom() -> None:
    before = time.time()
    (hint,) = hints([(1, URGENT_EMAIL)], by="sweep")
    assert before <= hint.hinted_at <= time.time()
    assert hint.by == "sweep"


# -- what producer and worker agree on --


def test_there_is_a_queue_for_each_lane_and_one_for_control_and_no_other() -> None:
    with celery_app("redis://127.0.0.1:1/0") as app:
        names = [queue.name for queue in app.conf.task_queues]
        assert names == [lane.queue for lane in LANES] + [CONTROL_QUEUE]
        assert app.conf.task_create_missing_queues is False


def test_nothing_but_json_is_read_and_no_result_is_kept() -> None:
    with celery_app("redis://127.0.0.1:1/0") as app:
        assert (app.conf.accept_content, app.conf.task_serializer) == (["json"], "json")
        assert not app.conf.result_backend
        assert app.conf.task_ignore_result is True


def test_a_socket_is_written_as_everyone_writes_it() -> None:
    with celery_app("unix:///run/redis.sock") as app:
        assert app.conf.broker_url == "redis+socket:///run/redis.sock"
