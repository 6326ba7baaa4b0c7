"""SES's own templates, as far as a mass mail uses them: `{{name}}` and `{{name.part}}`, filled from JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any

import orjson

_FIELD = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")


def filled(template: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
    """Subject, text and HTML of an inline template, with the defaults and the entry's own data.

    A stored template has only its name here; it is shown as that.
    """
    data = {**_data(template.get("TemplateData")), **_data(own.get("ReplacementTemplateData"))}
    content = template.get("TemplateContent")
    if not isinstance(content, dict):
        name = template.get("TemplateName") or template.get("TemplateArn")
        return f"(template {name})", orjson.dumps(data).decode(), None
    subject, text, html = (content.get(part) for part in ("Subject", "Text", "Html"))
    return (
        _fill(subject, data, is_html=False) or "",
        _fill(text, data, is_html=False),
        _fill(html, data, is_html=True),
    )


def _data(text: Any) -> dict[str, Any]:
    try:
        data = orjson.loads(text) if isinstance(text, str) else {}
    except ValueError:
        return {}  # SES accepts the call, and drops the mail with a Rendering Failure event
    return data if isinstance(data, dict) else {}


def _fill(text: Any, data: Mapping[str, Any], *, is_html: bool) -> str | None:
    if not isinstance(text, str):
        return None

    def value(match: re.Match[str]) -> str:
        found: Any = data
        for name in match[1].split("."):
            found = found.get(name, "") if isinstance(found, dict) else ""
        return escape(str(found)) if is_html else str(found)

    return _FIELD.sub(value, text)
