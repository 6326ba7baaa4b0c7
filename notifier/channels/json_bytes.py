"""JSON for a provider, whatever text a template made."""

from __future__ import annotations

import json

import orjson


def json_bytes(value: object) -> bytes:
    """`value` as JSON in UTF-8. Half a surrogate pair has no UTF-8 and stays an escape, which JSON can hold."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()
