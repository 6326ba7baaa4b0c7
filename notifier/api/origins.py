"""The id of a request, and its place in a trace: given by `Watch`, for whoever goes on with it."""

from __future__ import annotations

from starlette.requests import Request

from notifier.domain.origin import Origin

#: Where it is kept, in the request's scope.
ORIGIN = "notifier.origin"
HEADER = "X-Request-Id"


def origin_of(request: Request) -> Origin | None:
    """Where what this request asks for comes from; None in an app without `Watch`."""
    origin: Origin | None = request.scope.get(ORIGIN)
    return origin
