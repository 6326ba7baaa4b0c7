"""Errors that we raise on purpose."""

from __future__ import annotations

import inspect

import pytest

from notifier.domain import errors
from notifier.domain.errors import FieldProblem, Invalid, NotifierError

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, NotifierError)]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in ALL]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", ALL)
def test_every_error_says_what_to_do_even_if_nobody_says_more(kind: type[NotifierError]) -> None:
    error = kind()
    assert error.detail.endswith(".")
    assert str(error) == error.detail
    assert error.title
    assert error.code == error.code.lower()


def test_an_error_keeps_its_fields_and_its_patience() -> None:
    problem = FieldProblem(("body", "data"), "missing", "add it")
    error = Invalid("no", fields=[problem], retry_after=2.5)
    assert (error.detail, error.fields, error.retry_after) == ("no", (problem,), 2.5)
