"""The names that a send gives to a template beside its own variables: one list for load, check and render."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypedDict


class Extra(TypedDict):
    """What the service adds at every send, from its settings (`bootstrap.template_extra`)."""

    brand: str


class Shared(Extra):
    """What every part of every template sees."""

    lang: str
    recipient: Mapping[str, Any]


SHARED = frozenset(Shared.__required_keys__)
#: The text and the HTML of a mail are rendered after its subject, and see it too.
SUBJECT = "subject"
#: Names that are kept for later and that no send gives yet, each with what an author does instead.
RESERVED: Mapping[str, str] = MappingProxyType(
    {
        "unsubscribe_url": "the service makes no such link yet. Take it out, or declare a variable of your own, "
        'such as [variables.leave_url] with type = "url", and give the link in data',
        "now": "a template has no clock. Take it out, or declare a variable of your own, "
        'such as [variables.sent_at] with type = "datetime", and give the time in data',
    }
)
#: What no variable may be called.
TAKEN = SHARED | {SUBJECT} | RESERVED.keys()


def problem(name: str) -> str:
    """Why a part may not use `name`, which is neither declared nor given to it, and what to do."""
    if name in RESERVED:
        return f"{name} is used here or in a layout, but no send gives it: {RESERVED[name]}"
    if name == SUBJECT:
        return f"{name} is used, but only the text and the HTML of a mail are given it"
    return f"{name} is used but not declared: add [variables.{name}] to template.toml"
