"""Data is checked at intake: every problem at once, each with its remedy, and no value repeated."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.errors import FieldProblem, TemplateDataInvalid, TemplateDataMissing
from notifier.templating import Template, Variable, check_data, load
from notifier.templating.variables import Unfit, resolved
from tests.notifier.templating.builders import SHIPPED

PAYMENT = load(SHIPPED).get("payment-received")
STATEMENT = load(SHIPPED).get("monthly-statement")
GOOD = {"amount": "12.50", "currency": "EUR"}


def _problems(data: dict[str, Any], template: Template = PAYMENT) -> dict[Any, FieldProblem]:
    with pytest.raises((TemplateDataMissing, TemplateDataInvalid)) as refusal:
        check_data(template, data)
    return {problem.loc[-1]: problem for problem in refusal.value.fields}


def test_data_that_fits_is_returned_without_its_nulls() -> None:
    assert check_data(PAYMENT, {**GOOD, "payer": None}) == GOOD


def test_missing_variables_are_named_with_what_to_give() -> None:
    with pytest.raises(TemplateDataMissing, match="payment-received needs amount, currency") as refusal:
        check_data(PAYMENT, {"payer": 5})
    amount, currency, payer = refusal.value.fields
    assert (amount.loc, amount.code) == (("body", "data", "amount"), "missing")
    assert amount.message == "amount is missing: give data.amount: a number, for example '1250.00'"
    assert (currency.code, payer.code) == ("missing", "wrong_type")


def test_null_is_as_good_as_missing() -> None:
    assert _problems({"amount": None, "currency": "EUR"})["amount"].code == "missing"


def test_an_unknown_variable_is_refused_with_the_name_that_was_meant() -> None:
    problem = _problems({**GOOD, "refernce": "x"})["refernce"]
    assert (problem.code, problem.loc) == ("unknown_variable", ("body", "data", "refernce"))
    assert "did you mean reference?" in problem.message


def test_a_flood_of_unknown_variables_is_answered_briefly() -> None:
    problems = _problems({**GOOD, **{f"{number}{'x' * 10_000}": 1 for number in range(500)}})
    assert len(problems) == 20
    assert all(len(problem.message) < 300 for problem in problems.values())


def repr_of(value: object) -> str:
    """A short name for a test, whatever the value."""
    return "a huge number" if isinstance(value, int) and value > 10**18 else ascii(value)[:24]


@pytest.mark.parametrize("amount", ["12.50", "-3", "+0.1", 12, 12.5, -1, 0, "999999999999999999.999999999999"])
def test_an_amount_is_a_number_or_a_decimal_number_as_text(amount: object) -> None:
    check_data(PAYMENT, {**GOOD, "amount": amount})


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        ("NaN", "wrong_type"),
        ("Infinity", "wrong_type"),
        ("1e5", "wrong_type"),
        ("1,50", "wrong_type"),
        ("", "wrong_type"),
        (" 1", "wrong_type"),
        ("1\n", "wrong_type"),
        ("١٢", "wrong_type"),
        ("9" * 5000, "wrong_type"),
        (True, "wrong_type"),
        ([1], "wrong_type"),
        ({}, "wrong_type"),
        (float("nan"), "not_finite"),
        (float("inf"), "not_finite"),
        (-float("inf"), "not_finite"),
        (10**18, "too_large"),
        (10**5000, "too_large"),
        (1e300, "too_large"),
    ],
    ids=repr_of,
)
def test_an_amount_that_is_no_number_is_refused(amount: object, code: str) -> None:
    assert _problems({**GOOD, "amount": amount})["amount"].code == code


FITS: list[tuple[str, Any, Any]] = [
    ("string", "two\nlines\tü😀", "two\nlines\tü😀"),
    ("number", 0.1, Decimal("0.1")),
    ("integer", 7, 7),
    ("boolean", False, False),
    ("date", "2024-02-29", date(2024, 2, 29)),
    ("datetime", "2025-10-31T09:30:00Z", datetime(2025, 10, 31, 9, 30, tzinfo=UTC)),
    ("url", "https://a.example/b?c=d#e", "https://a.example/b?c=d#e"),
    ("url", "mailto:a@b.example", "mailto:a@b.example"),
    ("list", [1, "a", None, True, {"b": [1]}], [1, "a", None, True, {"b": [1]}]),
]
UNFIT: list[tuple[str, Any, str]] = [
    ("string", 5, "wrong_type"),
    ("string", "x" * 1001, "too_long"),
    ("string", "a\x00b", "control_characters"),
    ("string", "a\x1bb", "control_characters"),
    ("string", "\ud800", "control_characters"),
    ("integer", 1.0, "wrong_type"),
    ("integer", True, "wrong_type"),
    ("integer", "7", "wrong_type"),
    ("integer", 10**30, "too_large"),
    ("boolean", 0, "wrong_type"),
    ("boolean", "true", "wrong_type"),
    ("date", "2025-02-29", "wrong_type"),
    ("date", "20250228", "wrong_type"),
    ("date", "2025-10-31T09:30:00Z", "wrong_type"),
    ("date", 5, "wrong_type"),
    ("datetime", "2025-10-31T09:30:00", "wrong_type"),
    ("datetime", "2025-10-31", "wrong_type"),
    ("datetime", "0001-01-01T00:00:00+14:00", "wrong_type"),
    ("datetime", "2025-10-31T25:30:00Z", "wrong_type"),
    ("url", "javascript:alert(1)", "wrong_type"),
    ("url", "https://", "wrong_type"),
    ("url", "https://[", "wrong_type"),
    ("url", "https://a.example/" + "x" * 3000, "wrong_type"),
    ("url", "", "wrong_type"),
    ("list", "abc", "wrong_type"),
    ("list", {}, "wrong_type"),
    ("list", [1] * 101, "too_long"),
    ("list", [[1] * 100] * 11, "too_long"),
    ("list", [[[[1]]]], "too_deep"),
    ("list", [{"a": {"b": {"c": 1}}}], "too_deep"),
    ("list", ["x" * 1001], "too_long"),
    ("list", [{"x" * 1001: 1}], "too_long"),
    ("list", [float("nan")], "not_finite"),
    ("list", [...], "wrong_type"),
]


@pytest.mark.parametrize(("kind", "value", "read"), FITS)
def test_a_value_that_fits_is_read_as_its_type(kind: str, value: object, read: object) -> None:
    assert Variable("a", kind).fitted(value) == read


@pytest.mark.parametrize(("kind", "value", "code"), UNFIT, ids=repr_of)
def test_a_value_that_does_not_fit_is_refused(kind: str, value: object, code: str) -> None:
    with pytest.raises(Unfit) as refusal:
        Variable("a", kind).fitted(value)
    assert refusal.value.code == code


def test_a_list_nested_ten_thousand_deep_is_refused_and_not_walked() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(Unfit, match="nested"):
        Variable("a", "list").fitted(deep)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.sampled_from([variable.name for variable in PAYMENT.variables]) | st.text(), JSON))
def test_whatever_is_sent_is_accepted_or_refused_by_name(data: dict[str, Any]) -> None:
    problems: tuple[FieldProblem, ...] | None = None
    try:
        check_data(PAYMENT, data)
        resolved(PAYMENT, data, {})
    except (TemplateDataMissing, TemplateDataInvalid) as refusal:
        problems = refusal.fields
    assert problems is None or problems
    assert all(problem.loc[:2] == ("body", "data") and problem.code for problem in problems or ())


@given(st.text(min_size=12, alphabet="abcdefghijklm"))
def test_no_message_repeats_a_value(secret: str) -> None:
    data = {"amount": secret, "currency": secret, "received_at": secret, "url": secret}
    assert all(secret not in problem.message for problem in _problems(data).values())


def test_what_is_given_wins_over_the_attribute_and_the_attribute_over_the_default() -> None:
    assert resolved(STATEMENT, {"plan": "Pro"}, {"plan": "Gold"})["plan"] == "Pro"
    assert resolved(STATEMENT, {}, {"plan": "Gold", "balance": "7.10"})["plan"] == "Gold"
    assert resolved(STATEMENT, {}, {"plan": "Gold", "balance": "7.10"})["balance"] == Decimal("7.10")
    assert resolved(STATEMENT, {}, {})["plan"] == "Standard"
    assert resolved(STATEMENT, {"plan": None}, {})["plan"] == "Standard"


def test_an_attribute_that_does_not_fit_gives_way_to_the_default() -> None:
    assert resolved(STATEMENT, {}, {"plan": 5, "balance": "much", "statement_url": "javascript:x"}) == resolved(
        STATEMENT, {}, {}
    )


def test_an_attribute_is_found_by_its_path() -> None:
    template_variable = Variable("plan", required=False, default="none", attribute=("billing", "plan"))
    template = _with(template_variable)
    assert resolved(template, {}, {"billing": {"plan": "Gold"}})["plan"] == "Gold"
    assert resolved(template, {}, {"billing": "Gold"})["plan"] == "none"


def _with(*variables: Variable) -> Template:
    return Template(
        name="note",
        title="",
        description="",
        category="",
        priority=PAYMENT.priority,
        expires_in=PAYMENT.expires_in,
        retry=PAYMENT.retry,
        channels=(),
        variables=variables,
        locale="en",
        locales=(),
        version="",
        parts={},
    )
