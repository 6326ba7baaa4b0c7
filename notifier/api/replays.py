"""`Idempotency-Key`: read from a request, and told of in its answer."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import Header, Request
from starlette.responses import Response

from notifier.api import answers
from notifier.domain.ask import Answer, Idempotency
from notifier.domain.idempotency import fingerprint, parse_key, route_of
from notifier.domain.notification import Mode

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", description="The same key and body again: the first answer again. ≤ 255 characters."
    ),
]


async def idempotency(request: Request, route: str, header: str | None, mode: Mode) -> Idempotency | None:
    """The key of a request with what stands for its body; IdempotencyKeyInvalid if it is none."""
    key = parse_key(header)
    if key is None:
        return None
    return Idempotency(route_of(route, mode), key, fingerprint(orjson.loads(await request.body())))


def answer(given: Answer, *, location: str | None = None) -> Response:
    """202, with where to look it up, and whether it is the first answer again."""
    headers = {"Location": location} if location else {}
    if given.replayed:
        headers["Idempotent-Replayed"] = "true"
    return answers.json({**given.body, "replayed": given.replayed}, 202, headers)
