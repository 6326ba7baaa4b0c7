"""The application: middleware, routers, lifespan, on one screen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from notifier import bootstrap
from notifier.api import (
    campaigns,
    dead_letters,
    explanations,
    health,
    notifications,
    problems,
    provider_events,
    recipients,
    suppressions,
    templates,
)
from notifier.api.addresses import AddressCheck
from notifier.api.auth import Keys
from notifier.api.houses import House
from notifier.api.limits import Gate, Rates
from notifier.api.watch import Watch, watched
from notifier.settings import Settings

DESCRIPTION = """
Deliver email, push and desktop notifications. A `202` means: it is stored, and it will be delivered or end with a
reason you can ask for. Send an `Idempotency-Key` with every POST, and repeat it as often as you need.

The head of a request has at most 64 KiB, or the answer is `431`, and must arrive within 10 seconds, or it is `408`;
the connection is closed after either.

Every answer has an `X-Request-Id`: the one you sent (1 to 64 letters, digits and `._:-`), or a new one. It stands in
the logs of whatever the request has caused.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The API of one process. Connections are opened when it starts to serve."""
    settings = settings or bootstrap.prepare()
    reception = bootstrap.reception(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with bootstrap.tracing(settings, "api"):
            async with watched(settings):
                yield
        await reception.close()

    # FastAPI can make spans of its own, with paths and errors' words in them; ours have neither.
    telemetry: dict[str, Any] = {"telemetry": dict.fromkeys(("tracing", "metrics", "logs", "auto_configure"), False)}
    app = FastAPI(
        title="Notifier",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        redoc_url=None,
        redirect_slashes=False,  # a 307 to the address without it would be one more answer to document
        **telemetry,
    )
    app.state.house = House(
        reception.database,
        reception.catalogue,
        reception.intake,
        reception.campaigns,
        reception.estimator,
        reception.replayer,
        AddressCheck(settings.webpush_allowed_hosts),
        bootstrap.hashes(settings),
        reception.feedback,
        reception.ses_events,
    )
    rooms = (
        notifications,
        campaigns,
        dead_letters,
        explanations,
        recipients,
        suppressions,
        provider_events,
        templates,
        health,
    )
    routes = [route for room in rooms for route in room.router.routes]
    problems.install(app, routes=routes)
    for room in rooms:
        app.include_router(room.router)
    app.add_middleware(
        Gate,
        caller=Keys(reception.database).caller,
        rates=Rates(per_second=settings.key_rate_per_second, burst=settings.key_rate_burst),
        body_limit=lambda path: settings.max_batch_body_bytes if path.endswith("/batch") else settings.max_body_bytes,
        takes_events=reception.ses_events is not None,
    )
    app.add_middleware(Watch, routes=routes)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with the models that only our own references name, and our problems for theirs."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        for model in (problems.Problem, notifications.BatchItem, recipients.RecipientItem):
            extra = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(extra.pop("$defs", {}))
            schemas[model.__name__] = extra
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        app.openapi_schema = document
    return app.openapi_schema
