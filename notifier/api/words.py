"""What pydantic found, in words that name the remedy; never with the value, which may be personal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Patterns of text fields. They stand in the OpenAPI document too, so they are kept to what every dialect reads.
LINE = r"^[^\x00-\x1f\x7f]*$"
VISIBLE = r"^[!-~]+$"
LOCALE = r"^[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8}){0,3}$"

_PATTERNS = {
    LINE: "must be one line of text; remove line breaks and other control characters",
    VISIBLE: "must be printable ASCII without blanks; give the token as the device got it",
    LOCALE: "must be a language tag, such as de or pt-BR",
}

_MOMENT = "must be a time in RFC 3339 with an offset, such as 2026-01-31T12:00:00Z"
_OBJECT = 'must be an object, such as {{"name": "value"}}'

#: By pydantic's code (docs.pydantic.dev, "Validation Errors"); what is in braces is the error's own context.
_WORDS: Mapping[str, str] = {
    "missing": "is missing; add it",
    "extra_forbidden": "is not a field of this request; remove it or correct its spelling",
    "string_type": "must be text",
    "string_too_long": "must have {max_length} characters at most; shorten it",
    "string_too_short": "must have {min_length} characters at least",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of at most 64 bits",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "too_short": "must have {min_length} items at least",
    "too_long": "must have {max_length} items at most; it has {actual_length}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "uuid_type": "must be a UUID, as an earlier answer gave it",
    "uuid_parsing": "must be a UUID, as an earlier answer gave it",
    "datetime_type": _MOMENT,
    "datetime_parsing": _MOMENT,
    "datetime_from_date_parsing": _MOMENT,
    "datetime_object_invalid": _MOMENT,
    "timezone_aware": _MOMENT,
}


def words_for(problem: Mapping[str, Any]) -> str:
    """One sentence without its subject, which is the field."""
    code, context = problem["type"], {name: _whole(value) for name, value in (problem.get("ctx") or {}).items()}
    if code == "string_pattern_mismatch" and context["pattern"] in _PATTERNS:
        return _PATTERNS[context["pattern"]]
    if code in ("string_too_short", "too_short") and context["min_length"] == 1:
        return "must not be empty"
    if code in _WORDS:
        return _WORDS[code].format(**context)
    return str(problem["msg"]).removeprefix("Value error, ")


def _whole(value: Any) -> Any:
    """Bounds as people write them: 300, not 300.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
