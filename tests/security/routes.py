"""Every route that the service has: those of the OpenAPI document, and those that it does not tell of."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from starlette.routing import BaseRoute, Route

from notifier.api.app import create_app
from notifier.settings import PREFIX, load
from tests.running import Running

#: What anybody may ask. Whoever adds a route for strangers says so here, and why nothing of anybody can be seen there.
PUBLIC = {
    ("GET", "/livez"),  # that the process runs
    ("GET", "/readyz"),  # that PostgreSQL answers and takes writes
    ("POST", "/v1/providers/ses/events"),  # signed by SNS instead, and of no use to whoever asks: tests of F37
    ("GET", "/openapi.json"),  # the contract
    ("GET", "/docs"),
    ("GET", "/docs/oauth2-redirect"),
}

Operation = tuple[str, str]


async def documented(running: Running) -> dict[Operation, dict[str, Any]]:
    """(method, path) → operation, as the OpenAPI document has them."""
    paths = (await running.get("/openapi.json")).body["paths"]
    return {(method.upper(), path): told for path, item in paths.items() for method, told in item.items()}


async def guarded(running: Running) -> list[Operation]:
    """Every documented route that is not for strangers."""
    return [operation for operation in await documented(running) if operation not in PUBLIC]


def every_route(running: Running) -> list[Operation]:
    """Every route of the application itself, documented or not."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            patch.delenv(name)
        for name, value in running.env.items():
            patch.setenv(name, value)
        load.cache_clear()
        settings = load()
    load.cache_clear()
    return sorted(set(_routes(create_app(settings).routes)))


def _routes(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[Operation]:
    for route in routes:
        if isinstance(route, Route):
            for method in (route.methods or {"GET"}) - {"HEAD"}:
                yield method, prefix + re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
        # A mount has routes of its own; FastAPI keeps an included router whole.
        elif isinstance(inner := getattr(getattr(route, "original_router", route), "routes", None), Sequence):
            yield from _routes(inner, prefix + getattr(route, "path", ""))
        else:
            yield "ANY", prefix + str(getattr(route, "path", type(route).__name__))


def any_path(route: str) -> str:
    """`route` with something in the place of its parameters."""
    return re.sub(r"\{\w+\}", "1", route)


def schema_of(operation: Mapping[str, Any]) -> bool:
    """Whether it takes a body."""
    return "requestBody" in operation
