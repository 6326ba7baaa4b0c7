"""Errors → `application/problem+json` (RFC 9457). The one place where an error gets its HTTP status."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from notifier.api.origins import HEADER, origin_of
from notifier.api.words import words_for
from notifier.domain import errors
from notifier.domain.errors import FieldProblem, NotifierError
from notifier.observe import logs, metrics

log = logs.get(__name__)

Loc = tuple[str | int, ...]

#: The first class that fits decides.
STATUS: Mapping[type[NotifierError], int] = {
    errors.IdempotencyKeyInvalid: 400,
    errors.BadJson: 400,
    errors.Unauthenticated: 401,
    errors.ScopeMissing: 403,
    errors.LiveOnly: 403,
    errors.EventForged: 403,
    errors.NotFound: 404,
    errors.BodyTooSlow: 408,
    errors.HeadTooSlow: 408,
    errors.TooLate: 409,
    errors.WrongState: 409,
    errors.BodyTooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.Invalid: 422,
    errors.RateLimited: 429,
    errors.BacklogFull: 429,
    errors.HeadTooLarge: 431,
    errors.TooManyAtOnce: 503,
    errors.Unavailable: 503,
    errors.SourceUnavailable: 503,
    errors.SourceInvalid: 503,
}


class ProblemField(BaseModel):
    """What is wrong with one field."""

    loc: list[str | int] = Field(examples=[["body", "data", "amount"]])
    code: str = Field(examples=["missing"])
    message: str = Field(examples=["The template needs amount. Add it to data."])


class Problem(BaseModel):
    """An RFC 9457 problem. `code` is stable; `detail` says what to do."""

    type: str = Field(examples=["about:blank"])
    title: str
    status: int
    detail: str
    code: str = Field(examples=["validation_error"])
    errors: list[ProblemField] = []


_WHAT = {
    400: "The request cannot be read",
    401: "No valid API key",
    403: "The key lacks a scope, or is a test key where only live keys may",
    404: "Not there, or of another service or mode",
    408: "The body took too long to arrive",
    409: "Too late, or in the wrong state",
    413: "The body is too large",
    415: "Not plain JSON",
    422: "Not valid; `errors` names the fields",
    429: "Too many requests, or too much waits; see Retry-After",
    503: "The database is away; nothing was accepted",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer these problems."""
    shown: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        shown[status] = {
            "description": _WHAT[status],
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        if status in (429, 503):
            shown[status]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds"}}
    return shown


def status_of(error: NotifierError) -> int:
    """The HTTP status of an error."""
    return next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)


def body_of(error: NotifierError, *, within: Loc = ()) -> dict[str, Any]:
    """The problem as JSON; also what stands for a rejected item of a batch, which is `within` the body."""
    return {
        "type": "about:blank",
        "title": error.title,
        "status": status_of(error),
        "detail": error.detail,
        "code": error.code,
        "errors": [{"loc": list(_within(f.loc, within)), "code": f.code, "message": f.message} for f in error.fields],
    }


def _methods(routes: Sequence[BaseRoute], path: str) -> list[str]:
    fitting = [route for route in routes if isinstance(route, Route) and route.path_regex.match(path)]
    return sorted({method for route in fitting for method in route.methods or ()})


def _within(loc: Loc, place: Loc) -> Loc:
    return (*place, *loc[1:]) if place and loc[: len(place)] != place else loc


def response(error: NotifierError) -> Response:
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return Response(orjson.dumps(body_of(error)), status_of(error), headers, media_type="application/problem+json")


def invalid(raw: RequestValidationError | ValidationError, within: Loc = ()) -> NotifierError:
    """What pydantic found, in our words."""
    problems = raw.errors()
    for problem in problems:
        if problem["type"] == "json_invalid":
            return errors.BadJson(f"The body is not JSON: {problem['ctx']['error']}, at byte {problem['loc'][-1]}.")
    found = [FieldProblem((*within, *p["loc"]), str(p["type"]), words_for(p)) for p in problems]
    first = found[0]
    detail = f"{'.'.join(str(part) for part in first.loc)}: {first.message}"
    if len(found) > 1:
        detail += f" (and {len(found) - 1} more, see errors)"
    return errors.Invalid(detail, fields=found)


def install(app: FastAPI, *, routes: Sequence[BaseRoute]) -> None:
    """Answer every error of `app` with a problem; `routes` are those a wrong method is told of."""

    @app.exception_handler(NotifierError)
    async def _ours(_: Request, error: NotifierError) -> Response:
        return response(error)

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> Response:
        return response(invalid(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, NotifierError):
            return response(error.__cause__)
        title = {404: "Not found", 405: "Method not allowed"}.get(error.status_code, "Error")
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        body = {"type": "about:blank", "title": title, "status": error.status_code}
        body |= {"detail": str(error.detail), "code": code, "errors": []}
        headers = dict(error.headers or {})
        if error.status_code == 405 and (allowed := _methods(routes, request.scope["path"])):
            headers["Allow"] = ", ".join(allowed)  # all of them (RFC 9110 §15.5.6); Starlette knows one route's
            body["detail"] = f"{request.method} is not for this path. Allowed: {headers['Allow']}."
        return Response(orjson.dumps(body), error.status_code, headers, media_type="application/problem+json")

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> Response:
        metrics.ERRORS.labels("api", type(error).__name__).inc()
        # Not the path as it was asked for: a device's token stands in it.
        log.error("request_failed", route=getattr(request.scope.get("route"), "path", None), exc_info=error)
        body = {"type": "about:blank", "title": "Internal error", "status": 500, "code": "internal_error"}
        body |= {"detail": "Something broke on our side; it has been logged. Try again.", "errors": []}
        # Here, since Starlette answers for us beyond all middleware.
        headers = {HEADER: origin.request_id} if (origin := origin_of(request)) else None
        return Response(orjson.dumps(body), 500, headers, media_type="application/problem+json")
