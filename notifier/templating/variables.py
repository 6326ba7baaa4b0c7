"""What a template may be told: its variables, and whether `data` fits them.

`check` is asked at intake, so that nothing is accepted which could not be rendered; `resolved` at the
render: what the caller gave wins, then the recipient's attribute, then the default.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from notifier.domain.errors import FieldProblem, TemplateDataInvalid, TemplateDataMissing
from notifier.templating.filters import is_safe_link

if TYPE_CHECKING:
    from notifier.templating.catalogue import Template

#: Longest text, unless the variable says otherwise, and longest that it may say.
MAX_LENGTH = 1_000
LONGEST = 20_000
#: A list: its items, the levels below it (a list of objects is two), and all values in it.
MAX_ITEMS = 100
MAX_DEPTH = 3
MAX_VALUES = 1_000
#: How many unknown names one answer lists.
MAX_UNKNOWN = 20

_NUMBER = re.compile(r"[-+]?\d{1,18}(\.\d{1,12})?")
#: Line breaks and tabs are text; other control characters and halves of surrogate pairs are damage.
_DAMAGE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")


class Unfit(ValueError):
    """A value does not fit its variable. `code` is stable; the message says what would fit, never the value."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a template, as `[variables.NAME]` in template.toml declares it."""

    name: str
    type: str = "string"
    required: bool = True
    default: Any = None
    example: Any = None
    max_length: int = MAX_LENGTH
    description: str = ""
    #: The path of the recipient's attribute that fills it, such as ("plan",) for `from = "attributes.plan"`.
    attribute: tuple[str, ...] = ()

    def fitted(self, value: Any) -> Any:
        """`value` as templates want it (Decimal, date, …); Unfit when it is not of this variable's type."""
        return TYPES[self.type](value, self)

    @property
    def has_no_default(self) -> bool:
        """Whether it is None when nobody gives it; `default = ""` says so too, for types that have no empty value."""
        return self.default is None or (self.default == "" and self.type != "string")

    @property
    def remedy(self) -> str:
        """How a caller gives it."""
        example = "" if self.example is None else f", for example {str(self.example)[:80]!r}"
        return f"give data.{self.name}: {_DESCRIBED[self.type]}{example}"


# -- types --


def _string(value: Any, variable: Variable) -> str:
    if not isinstance(value, str):
        raise Unfit("wrong_type", "must be text")
    if len(value) > variable.max_length:
        raise Unfit("too_long", f"is longer than {variable.max_length} characters")
    if _DAMAGE.search(value):
        raise Unfit("control_characters", "holds control characters; remove them")
    return value


def _number(value: Any, _: Variable) -> Decimal:
    if isinstance(value, str) and _NUMBER.fullmatch(value) and value.isascii():
        return Decimal(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise Unfit("not_finite", "must be a finite number")
        if abs(value) >= 10**18:
            raise Unfit("too_large", "must be below 10^18")
        return Decimal(str(value))
    raise Unfit("wrong_type", 'must be a number, or a decimal number as text such as "12.50"')


def _integer(value: Any, _: Variable) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unfit("wrong_type", "must be a whole number")
    if abs(value) >= 10**18:
        raise Unfit("too_large", "must be below 10^18")
    return value


def _boolean(value: Any, _: Variable) -> bool:
    if not isinstance(value, bool):
        raise Unfit("wrong_type", "must be true or false")
    return value


def _date(value: Any, _: Variable) -> date:
    try:
        if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            return date.fromisoformat(value)
    except ValueError:
        raise Unfit("wrong_type", "is not a day of the calendar") from None
    raise Unfit("wrong_type", "must be a date such as 2025-10-31")


def _datetime(value: Any, _: Variable) -> datetime:
    try:
        if isinstance(value, str) and len(value) <= 40 and "T" in value.upper():
            moment = datetime.fromisoformat(value.upper())
            if moment.tzinfo is not None and 1 < moment.year < 9999:
                return moment
    except ValueError:
        raise Unfit("wrong_type", "is not a time of the calendar") from None
    raise Unfit("wrong_type", "must be a time with an offset such as 2025-10-31T09:30:00+01:00 (RFC 3339)")


def _url(value: Any, _: Variable) -> str:
    if not is_safe_link(value):
        raise Unfit("wrong_type", "must be a URL that begins with https://, http:// or mailto:")
    return str(value)


def _list(value: Any, variable: Variable) -> list[Any]:
    if not isinstance(value, list):
        raise Unfit("wrong_type", "must be a list")
    if len(value) > MAX_ITEMS:
        raise Unfit("too_long", f"has more than {MAX_ITEMS} items")
    left = MAX_VALUES
    level: list[Any] = value
    for depth in range(MAX_DEPTH + 1):
        left -= len(level)
        if left < 0:
            raise Unfit("too_long", f"holds more than {MAX_VALUES} values")
        if not level:
            return value
        if depth == MAX_DEPTH:
            break
        level = [inner for item in level for inner in _inside(item, variable)]
    raise Unfit("too_deep", f"is nested more than {MAX_DEPTH} deep")


def _inside(item: Any, variable: Variable) -> list[Any]:
    if isinstance(item, dict):
        for key in item:
            _string(key, variable)
        return list(item.values())
    if isinstance(item, list):
        return item
    if isinstance(item, str):
        _string(item, variable)
    elif isinstance(item, (int, float)) and not isinstance(item, bool):
        _number(item, variable)
    elif item is not None and not isinstance(item, bool):
        raise Unfit("wrong_type", "may hold text, numbers, true, false, null, lists and objects")
    return []


TYPES: Mapping[str, Callable[[Any, Variable], Any]] = MappingProxyType(
    {"string": _string, "number": _number, "integer": _integer, "boolean": _boolean}
    | {"date": _date, "datetime": _datetime, "url": _url, "list": _list}
)

_DESCRIBED = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "date": "a date",
    "datetime": "a time with an offset",
    "url": "a URL",
    "list": "a list",
}

# -- data --


def check(template: Template, data: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `data` that are given (null is not), if they fit the template's variables.

    Raises TemplateDataMissing when a required one is not there, else TemplateDataInvalid for unknown
    names and unfit values. Either names every problem, with its remedy, and no value.
    """
    given = {name: value for name, value in data.items() if value is not None}
    missing = [
        FieldProblem(_loc(variable.name), "missing", f"{variable.name} is missing: {variable.remedy}")
        for variable in template.variables
        if variable.required and variable.name not in given
    ]
    wrong = _unknown(template, given)
    for variable in template.variables:
        if variable.name in given:
            try:
                variable.fitted(given[variable.name])
            except Unfit as unfit:
                message = f"{variable.name} {unfit.message}; {variable.remedy}"
                wrong.append(FieldProblem(_loc(variable.name), unfit.code, message))
    if missing:
        names = ", ".join(problem.loc[-1] for problem in missing if isinstance(problem.loc[-1], str))
        raise TemplateDataMissing(f"Template {template.name} needs {names}: add to data.", fields=[*missing, *wrong])
    if wrong:
        raise TemplateDataInvalid(f"data does not fit template {template.name}: see errors.", fields=wrong)
    return given


def resolved(template: Template, data: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """A value for every variable: given, else the recipient's attribute if it fits, else the default.

    Raises Unfit for a given value of the wrong type; `check` has refused those at intake.
    """
    values: dict[str, Any] = {}
    for variable in template.variables:
        given = data.get(variable.name)
        if given is not None:
            values[variable.name] = variable.fitted(given)
        else:
            values[variable.name] = _without_data(variable, attributes)
    return values


def _without_data(variable: Variable, attributes: Mapping[str, Any]) -> Any:
    found: Any = attributes if variable.attribute else None
    for key in variable.attribute:
        found = found.get(key) if isinstance(found, Mapping) else None
    if found is not None:
        try:
            return variable.fitted(found)
        except Unfit:
            # An attribute was stored for other uses too; what does not fit here is as good as not there.
            found = None
    return None if variable.has_no_default else variable.fitted(variable.default)


def _unknown(template: Template, given: Mapping[str, Any]) -> list[FieldProblem]:
    known = [variable.name for variable in template.variables]
    problems = []
    for name in [name for name in given if name not in known][:MAX_UNKNOWN]:
        near = difflib.get_close_matches(name[:64], known, 1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'no variables'}; remove this one"
        shown = name[:64].encode("ascii", "backslashreplace").decode()
        problems.append(FieldProblem(_loc(name[:64]), "unknown_variable", f"{template.name} has no {shown}: {hint}"))
    return problems


def _loc(name: str) -> tuple[str | int, ...]:
    return ("body", "data", name)
