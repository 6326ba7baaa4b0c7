"""/v1/notifications: send one or many, look them up, stop them, ask what happened."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from starlette.responses import Response

from notifier.api import answers, problems
from notifier.api.addresses import Addresses
from notifier.api.auth import Reads, Sends
from notifier.api.batches import summary
from notifier.api.bodies import MAX_ID, MAX_LIFE, Body, Data, JsonRoute, Moment, UserId, line
from notifier.api.houses import House, TheHouse
from notifier.api.origins import origin_of
from notifier.api.problems import problems as may
from notifier.api.replays import IdempotencyKey, answer, idempotency
from notifier.domain.ask import Ask, Idempotency
from notifier.domain.ask import Request as AskedBy
from notifier.domain.caller import Caller
from notifier.domain.delivery import Status
from notifier.domain.errors import NotifierError
from notifier.domain.idempotency import fingerprint, parse_key, route_of
from notifier.domain.notification import Channel, OnUnknown, Priority
from notifier.domain.origin import Origin
from notifier.domain.recipient import Recipient
from notifier.intake import read
from notifier.observe import logs

router = APIRouter(prefix="/v1/notifications", tags=["notifications"], route_class=JsonRoute)

MAX_BATCH = 1000


class To(Addresses):
    """A recipient of the directory by `id`, or somebody by their addresses."""

    id: UserId | None = None

    @model_validator(mode="after")
    def _one_way(self) -> To:
        by_address = self.model_fields_set - {"id"}
        if self.id is not None and by_address:
            raise ValueError("give either the id of a recipient or addresses, not both")
        if self.id is None and not (self.email or self.push_tokens or self.subscriptions):
            raise ValueError("give the id of a recipient, or an email, push_tokens or subscriptions")
        return self


class NotificationRequest(Body):
    """One notification to one recipient."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "template": "payment-received",
                    "recipient": {"id": 42},
                    "data": {"amount": "12.50", "currency": "EUR"},
                    "expires_in": 300,
                    "reference": "order-991",
                }
            ]
        }
    )

    template: Annotated[str, line(100)]
    recipient: To
    channels: list[Channel] | None = Field(None, min_length=1, max_length=10, description="All of the template's.")
    priority: Priority | None = Field(None, description="The template's.")
    data: Data = Field(default_factory=dict, description="The template's variables.")
    expires_in: Annotated[float, Field(strict=True, gt=0, le=MAX_LIFE)] | None = Field(
        None, description="Seconds from now; the template's if neither this nor expires_at is given."
    )
    expires_at: Moment | None = None
    send_at: Moment | None = None
    reference: Annotated[str, line(200)] | None = Field(
        None, description="Your own name for it; lists can be filtered by it."
    )
    collapse_key: Annotated[str, line(200)] | None = Field(
        None, description="A later message with the same key replaces the former."
    )
    on_unknown: OnUnknown | None = None

    @model_validator(mode="after")
    def _one_expiry(self) -> NotificationRequest:
        if self.expires_in is not None and self.expires_at is not None:
            raise ValueError("give expires_in or expires_at, not both")
        return self


class BatchItem(NotificationRequest):
    idempotency_key: Annotated[str, line(255)] | None = None


class Batch(Body):
    """Up to 1000 notifications, each accepted or rejected by itself."""

    notifications: list[dict[str, Any]] = Field(
        min_length=1, max_length=MAX_BATCH, json_schema_extra={"items": {"$ref": "#/components/schemas/BatchItem"}}
    )


class Filters(Body):
    """What a page is asked for. A filter that is misspelt is an error, or everything would seem to fit it."""

    reference: Annotated[str, line(200)] | None = None
    recipient_id: int | None = Field(None, ge=0, le=MAX_ID)
    status: Status | None = Field(None, description="Any of its deliveries has this status.")
    priority: Priority | None = None
    created_after: Moment | None = None
    limit: int = Field(50, ge=1, le=250)
    cursor: UUID | None = Field(None, description="`next` of the page before.")


_ITEM: TypeAdapter[BatchItem] = TypeAdapter(BatchItem)


@router.post("", status_code=202, responses=answers.ACCEPTED | may(400, 401, 403, 404, 408, 413, 415, 422, 429, 503))
async def create_notification(
    ask: NotificationRequest, request: Request, house: TheHouse, caller: Sends, key: IdempotencyKey = None
) -> Response:
    """Accept one notification for delivery: its rows are committed when this answers."""
    asked = _ask(ask, house)
    used = await idempotency(request, "notifications", key, caller.mode)
    given = await house.intake.accept(AskedBy(caller, asked, used, origin_of(request)))
    logs.bind(notification_id=given.body["id"])
    return answer(given, location=f"/v1/notifications/{given.body['id']}")


@router.post("/batch", status_code=202, responses=answers.BATCH | may(400, 401, 403, 408, 413, 415, 422, 429, 503))
async def create_notifications(
    batch: Batch, request: Request, house: TheHouse, caller: Sends, key: IdempotencyKey = None
) -> Response:
    """Accept up to 1000 notifications in one transaction; the answer has one result each, in order."""
    whole = await idempotency(request, "notifications/batch", key, caller.mode)
    origin = origin_of(request)
    asked = [_item(item, index, house, caller, origin) for index, item in enumerate(batch.notifications)]
    given = await house.intake.accept_batch(asked, service_id=caller.service_id, whole=whole, summary=summary)
    return answer(given)


@router.get("/{id}", responses=answers.NOTIFICATION | may(401, 403, 404, 422, 429, 503))
async def get_notification(id: UUID, house: TheHouse, caller: Reads) -> Response:
    """A notification with its deliveries as they stand now."""
    return answers.json(await read.find(house.database, caller.tenant, id))


@router.get("", responses=answers.NOTIFICATIONS | may(401, 403, 422, 429, 503))
async def list_notifications(house: TheHouse, caller: Reads, asked: Annotated[Filters, Query()]) -> Response:
    """A service's notifications, newest first."""
    filters = asked.model_dump(exclude={"limit", "cursor"})
    return answers.json(
        await read.page(house.database, caller.tenant, limit=asked.limit, before=asked.cursor, **filters)
    )


@router.post("/{id}/cancel", responses=answers.NOTIFICATION | may(401, 403, 404, 409, 413, 415, 422, 429, 503))
async def cancel_notification(id: UUID, house: TheHouse, caller: Sends) -> Response:
    """Stop whatever of it is not yet with a provider."""
    category = house.catalogue.category
    return answers.json(await read.cancel(house.database, caller.tenant, id, category=category, by=caller.key_id))


@router.get("/{id}/timeline", responses=answers.TIMELINE | may(401, 403, 404, 422, 429, 503))
async def get_notification_timeline(id: UUID, house: TheHouse, caller: Reads) -> Response:
    """Every decision about it with its time: accepted, hinted, claimed, provider called, and what came of it."""
    return answers.json(await read.timeline(house.database, caller.tenant, id))


def _ask(body: NotificationRequest, house: House, *loc: str | int) -> Ask:
    to: int | Recipient
    to = (
        body.recipient.id
        if body.recipient.id is not None
        else house.addresses.recipient(body.recipient, *(loc or ("body",)), "recipient")
    )
    return Ask(
        template=body.template,
        recipient=to,
        channels=tuple(body.channels) if body.channels else None,
        priority=body.priority,
        data=body.data,
        expires_in=timedelta(seconds=body.expires_in) if body.expires_in is not None else None,
        expires_at=body.expires_at,
        send_at=body.send_at,
        reference=body.reference,
        collapse_key=body.collapse_key,
        on_unknown=body.on_unknown,
    )


def _item(
    raw: dict[str, Any], index: int, house: House, caller: Caller, origin: Origin | None
) -> AskedBy | NotifierError:
    """One item of a batch: it is read by itself, so that a wrong one does not fail the others."""
    loc = ("body", "notifications", index)
    try:
        item = _ITEM.validate_python(raw)
        key = parse_key(item.idempotency_key)
        body = {name: value for name, value in raw.items() if name != "idempotency_key"}
        used = Idempotency(route_of("notifications", caller.mode), key, fingerprint(body)) if key else None
        return AskedBy(caller, _ask(item, house, *loc), used, origin)
    except ValidationError as error:
        return problems.invalid(error, loc)
    except NotifierError as error:
        return error
