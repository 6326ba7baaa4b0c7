"""A request that comes twice makes one notification: the key, the fingerprint, and the first answer again."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from notifier.domain.errors import IdempotencyKeyInvalid, IdempotencyKeyReused
from notifier.domain.notification import Mode

MAX_LENGTH = 255


def parse_key(header: str | None) -> str | None:
    """The key in an `Idempotency-Key` header: a quoted structured-field string (RFC 8941 §3.3.3) or bare text."""
    if header is None:
        return None
    text = header.strip()
    if text.startswith('"'):
        text = _unquote(text)
    if not 1 <= len(text) <= MAX_LENGTH or not all(" " <= char <= "~" for char in text):
        raise IdempotencyKeyInvalid
    return text


def route_of(route: str, mode: Mode) -> str:
    """Under which route a key is kept: those of test keys apart, so that no test answers for a live request."""
    return route if mode is Mode.LIVE else f"{mode}:{route}"


def fingerprint(body: Any) -> bytes:
    """What stands for a body: the same for the same JSON value, whatever its white space or order of keys."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()


def replay(answer: Any, *, to: bytes, asked: bytes) -> Any:
    """The first answer, if what was asked `to` get it is asked again; IdempotencyKeyReused if something else is."""
    if to != asked:
        raise IdempotencyKeyReused
    return answer


def _unquote(text: str) -> str:
    if len(text) < 2 or not text.endswith('"'):
        raise IdempotencyKeyInvalid
    unquoted, escaped = [], False
    for char in text[1:-1]:
        if escaped:
            if char not in '"\\':
                raise IdempotencyKeyInvalid
            unquoted.append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == '"':
            raise IdempotencyKeyInvalid
        else:
            unquoted.append(char)
    if escaped:
        raise IdempotencyKeyInvalid
    return "".join(unquoted)
