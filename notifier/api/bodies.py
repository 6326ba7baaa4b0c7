"""What the fields of every body have in common: bounds, moments, durations, plain JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StringConstraints,
    model_validator,
)
from starlette.exceptions import HTTPException
from starlette.responses import Response

from notifier.api import words
from notifier.domain.errors import Invalid

#: Plain data may be nested so deep, have so many values in all, and texts of so many characters.
MAX_DEPTH = 8
MAX_VALUES = 2000
MAX_TEXT = 10_000
#: No object of a request has so many fields of its own.
MAX_FIELDS = 40
#: The largest user id: PostgreSQL's bigint has room for one more, where a half-open range may stop.
MAX_ID = 2**63 - 2
#: The longest life of a notification, in seconds.
MAX_LIFE = 30 * 86_400

_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


class Body(BaseModel):
    """A request body: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        # Each unknown field is an error of its own: 70,000 of them in one body kept an API process busy for seconds.
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise ValueError(f"has more than {MAX_FIELDS} fields, which no object of this request has")
        return value


class JsonRoute(APIRoute):
    """Reads bodies with orjson: faster, and with a bound on nesting where `json` runs out of stack."""

    def get_route_handler(self) -> Any:
        handler = super().get_route_handler()

        async def read(request: Request) -> Response:
            return await handler(_OrjsonRequest(request.scope, request.receive))

        return read


class _OrjsonRequest(Request):
    async def json(self) -> Any:
        try:
            return orjson.loads(await self.body())
        except orjson.JSONDecodeError as error:
            if "depth limit" in error.msg or "recursion" in error.msg.lower():  # orjson's words, new and old
                # FastAPI lets nothing but an HTTPException out of here.
                raise HTTPException(422) from Invalid(f"The body is nested deeper than {MAX_DEPTH} levels.")
            raise


def _rfc3339(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be a time in RFC 3339 with an offset, such as 2026-01-31T12:00:00Z")
    return value


def _in_reach(moment: datetime) -> datetime:
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError("must lie between the years 2000 and 2200")
    return moment.astimezone(UTC)


def _plain(value: Any) -> Any:
    """`value` if it is plain JSON within the bounds."""
    waiting: list[tuple[Any, int]] = [(value, 0)]
    seen = 0
    while waiting:
        item, depth = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
        if seen > MAX_VALUES:
            raise ValueError(f"has more than {MAX_VALUES} values")
        if isinstance(item, str) and (len(item) > MAX_TEXT or "\x00" in item):
            raise ValueError(f"has a text of more than {MAX_TEXT} characters, or one with a NUL character")
        if isinstance(item, dict):
            for key, inner in item.items():
                if len(key) > 200 or "\x00" in key:
                    raise ValueError("has a key of more than 200 characters, or one with a NUL character")
                waiting.append((inner, depth + 1))
        elif isinstance(item, list):
            waiting += [(inner, depth + 1) for inner in item]
        elif isinstance(item, int) and not isinstance(item, bool) and abs(item) >= 2**63:
            raise ValueError("has a whole number of more than 64 bits")
    return value


def line(longest: int) -> StringConstraints:
    """One line of text: 1 to `longest` characters, none of them a control character."""
    return StringConstraints(strict=True, min_length=1, max_length=longest, pattern=words.LINE)


Moment = Annotated[AwareDatetime, BeforeValidator(_rfc3339), AfterValidator(_in_reach)]
Data = Annotated[dict[str, Any], AfterValidator(_plain)]
#: A recipient's id, as the product numbers its users.
UserId = Annotated[StrictInt, Field(ge=0, le=MAX_ID)]
