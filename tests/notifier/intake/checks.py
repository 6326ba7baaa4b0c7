"""Checking one request, as of NOW."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from notifier.domain.ask import Request
from notifier.domain.errors import NotifierError
from notifier.domain.notification import Priority
from notifier.domain.recipient import Recipient
from notifier.intake.check import Checked, check
from notifier.templating import Catalogue
from tests.builders import NOW, a_caller, an_ask, the_catalogue, the_rules


def checked(
    *,
    found: Recipient | None = None,
    caller: dict[str, Any] | None = None,
    catalogue: Catalogue | None = None,
    admit: Callable[[Priority], None] = lambda _: None,
    **ask: Any,
) -> Checked:
    """What a request comes to, as of NOW; `found` is who its id names."""
    return check(
        Request(a_caller(**(caller or {})), an_ask(**ask)),
        catalogue=catalogue or the_catalogue(),
        recipient=found,
        rules=the_rules(),
        now=NOW,
        admit=admit,
    )


def field_of(error: pytest.ExceptionInfo[NotifierError]) -> tuple[str | int, ...]:
    """Which field the caller is pointed to."""
    (problem,) = error.value.fields
    assert problem.message == error.value.detail
    return problem.loc
