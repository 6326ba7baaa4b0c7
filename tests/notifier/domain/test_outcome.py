"""One outcome of several targets'."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.outcome import AddressGone, Outcome, Permanent, Sent, Throttled, Transient, Unknown, combine

ONE_OF_EACH: list[Outcome] = [
    Sent("id"), Transient("refused"), Throttled("slow_down"), Permanent("no"), AddressGone("gone"), Unknown("reset"),
]  # fmt: skip
BY_TARGET = st.dictionaries(st.text(min_size=1, max_size=4), st.sampled_from(ONE_OF_EACH), max_size=8)


@given(outcomes=BY_TARGET)
def test_every_target_that_has_the_message_is_named_and_no_other(outcomes: dict[str, Outcome]) -> None:
    _, sent = combine(outcomes)
    assert sent == {key for key, outcome in outcomes.items() if isinstance(outcome, Sent)}


@given(outcomes=BY_TARGET, data=st.data())
def test_the_order_of_targets_changes_nothing(outcomes: dict[str, Outcome], data: st.DataObject) -> None:
    shuffled = dict(data.draw(st.permutations(list(outcomes.items()))))
    assert combine(shuffled) == combine(outcomes)


@given(outcomes=BY_TARGET)
def test_the_outcome_of_all_is_that_of_one_of_them(outcomes: dict[str, Outcome]) -> None:
    outcome, _ = combine(outcomes)
    assert outcome in outcomes.values() or (not outcomes and outcome == Permanent("no_address"))


@given(outcomes=BY_TARGET)
def test_no_retry_is_asked_for_while_one_target_may_have_it(outcomes: dict[str, Outcome]) -> None:
    outcome, _ = combine(outcomes | {"silent": Unknown("reset")})
    assert not isinstance(outcome, Transient | Throttled)


def test_one_device_that_is_refused_for_the_moment_is_worth_another_attempt() -> None:
    assert combine({"a": Sent("id"), "b": Transient("refused")}) == (Transient("refused"), frozenset({"a"}))


def test_one_device_that_has_it_outweighs_those_that_are_gone() -> None:
    assert combine({"a": AddressGone("gone"), "b": Sent("id")}) == (Sent("id"), frozenset({"b"}))


def test_an_unknown_beside_a_success_is_not_worth_a_duplicate() -> None:
    assert combine({"a": Sent("id"), "b": Unknown("reset")}) == (Sent("id"), frozenset({"a"}))
