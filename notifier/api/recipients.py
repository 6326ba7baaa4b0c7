"""/v1/recipients: the directory of users, their devices and their browsers, each service's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from starlette.responses import Response

from notifier.api import answers, problems
from notifier.api.addresses import MAX_DEVICES, DeviceBody, Email, Locale, Platform, SubscriptionBody, Token, Zone
from notifier.api.auth import Keeps
from notifier.api.bodies import MAX_ID, Body, Data, JsonRoute, UserId
from notifier.api.houses import House, TheHouse
from notifier.api.problems import problems as may
from notifier.domain.errors import FieldProblem, Invalid, NotFound, NotifierError, RecipientNotFound
from notifier.domain.notification import Channel
from notifier.domain.recipient import Device, Recipient
from notifier.domain.suppression import ERASED
from notifier.store import notifications, recipients, suppressions
from notifier.store.database import Connection
from notifier.store.recipients import RecipientChange

router = APIRouter(prefix="/v1/recipients", tags=["recipients"], route_class=JsonRoute)

MAX_BATCH = 1000
RecipientId = Annotated[int, Path(ge=0, le=MAX_ID, description="The product's own user id.")]


class RecipientRequest(Body):
    """What is known of a recipient; it replaces what was known before."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"email": "ada@example.com", "locale": "de", "attributes": {"plan": "gold"}}]}
    )

    email: Email | None = None
    locale: Locale | None = None
    timezone: Zone | None = None
    attributes: Data = Field(default_factory=dict)


class RecipientItem(RecipientRequest):
    """One recipient of a batch; `devices` and `subscriptions`, when given, replace those there are.

    A device or browser that a batch gives to several recipients belongs to the last of them.
    """

    id: UserId
    devices: list[DeviceBody] | None = Field(None, max_length=MAX_DEVICES)
    subscriptions: list[SubscriptionBody] | None = Field(None, max_length=MAX_DEVICES)


class RecipientBatch(Body):
    """Up to 1000 recipients, each created or replaced."""

    recipients: list[dict[str, Any]] = Field(
        min_length=1, max_length=MAX_BATCH, json_schema_extra={"items": {"$ref": "#/components/schemas/RecipientItem"}}
    )


class DeviceRequest(Body):
    platform: Platform = "unknown"


_ITEM: TypeAdapter[RecipientItem] = TypeAdapter(RecipientItem)


@router.put("/{id}", responses=answers.RECIPIENT | may(400, 401, 403, 408, 413, 415, 422, 429, 503))
async def put_recipient(id: RecipientId, body: RecipientRequest, house: TheHouse, caller: Keeps) -> Response:
    """Create a recipient, or replace what is known of one; devices and subscriptions stay.

    If their mail address is suppressed for no other reason than an erasure, it no longer is.
    """
    change = RecipientChange(
        id, house.addresses.email(body.email, "body", "email"), body.locale, body.timezone, body.attributes
    )
    async with house.database.transaction() as tx:
        await _keep(tx, house, caller.service_id, [change])
        found = await _recipient(tx, caller.service_id, id)
    return answers.json(_body(found))


@router.get("/{id}", responses=answers.RECIPIENT | may(401, 403, 404, 422, 429, 503))
async def get_recipient(id: RecipientId, house: TheHouse, caller: Keeps) -> Response:
    """All that is known of a recipient."""
    async with house.database.transaction() as tx:
        return answers.json(_body(await _recipient(tx, caller.service_id, id)))


@router.delete("/{id}", status_code=204, responses=answers.GONE | may(401, 403, 404, 413, 415, 422, 429, 503))
async def delete_recipient(id: RecipientId, house: TheHouse, caller: Keeps) -> Response:
    """Erase a recipient: addresses, attributes, and the data of every notification they were sent.

    A hash of their mail address stays on the suppression list, with the reason `erased` unless there is one
    already: nothing is sent to that address any more, until somebody is registered with it again.
    """
    async with house.database.transaction() as tx:
        emails = await recipients.erase(tx, caller.service_id, id)
        if emails is None:
            raise RecipientNotFound(f"There is no recipient {id}.")
        await notifications.erase_recipient(tx, caller.service_id, id)
        hashes = [house.hashes.of(Channel.EMAIL, email) for email in emails]
        await suppressions.add(tx, caller.service_id, Channel.EMAIL, hashes, reason=ERASED)
    return Response(status_code=204)


@router.post("/batch", responses=answers.RECIPIENTS_KEPT | may(400, 401, 403, 408, 413, 415, 422, 429, 503))
async def put_recipients(batch: RecipientBatch, house: TheHouse, caller: Keeps) -> Response:
    """Create or replace up to 1000 recipients in one transaction; wrong ones are left out, each with its error."""
    read = [_item(raw, index, house) for index, raw in enumerate(batch.recipients)]
    changes = [item for item in read if isinstance(item, RecipientChange)]
    async with house.database.transaction() as tx:
        created = await _keep(tx, house, caller.service_id, changes) if changes else 0
    return answers.json(
        {
            "accepted": len(changes),
            "rejected": len(read) - len(changes),
            "created": created,
            "results": [
                {"id": item.id} if isinstance(item, RecipientChange) else {"error": problems.body_of(item)}
                for item in read
            ],
        }
    )


@router.put(
    "/{id}/devices/{token:path}",
    status_code=204,
    responses=answers.GONE | may(400, 401, 403, 404, 408, 413, 415, 422, 429, 503),
)
async def put_device(
    id: RecipientId,
    token: Annotated[Token, Path()],
    house: TheHouse,
    caller: Keeps,
    body: DeviceRequest | None = None,
) -> Response:
    """Register a device. A token that another recipient had moves to this one."""
    async with house.database.transaction() as tx:
        await _recipient(tx, caller.service_id, id)
        platform = body.platform if body else "unknown"
        await recipients.put_device(tx, caller.service_id, id, Device(token, platform))
    return Response(status_code=204)


@router.delete(
    "/{id}/devices/{token:path}", status_code=204, responses=answers.GONE | may(401, 403, 404, 413, 415, 422, 429, 503)
)
async def delete_device(id: RecipientId, token: Annotated[Token, Path()], house: TheHouse, caller: Keeps) -> Response:
    """Forget a device of this recipient."""
    async with house.database.transaction() as tx:
        if not await recipients.drop_devices(tx, [(caller.service_id, token)], recipient_id=id):
            raise NotFound(f"Recipient {id} has no such device.")
    return Response(status_code=204)


@router.put(
    "/{id}/subscriptions",
    status_code=204,
    responses=answers.GONE | may(400, 401, 403, 404, 408, 413, 415, 422, 429, 503),
)
async def put_subscription(id: RecipientId, body: SubscriptionBody, house: TheHouse, caller: Keeps) -> Response:
    """Register a browser: the JSON that `PushSubscription.toJSON()` gives."""
    subscription = house.addresses.subscription(body, "body")
    async with house.database.transaction() as tx:
        await _recipient(tx, caller.service_id, id)
        await recipients.put_subscriptions(tx, caller.service_id, [(id, subscription)])
    return Response(status_code=204)


@router.delete(
    "/{id}/subscriptions",
    status_code=204,
    responses=answers.GONE | may(401, 403, 404, 413, 415, 422, 429, 503),
)
async def delete_subscription(
    id: RecipientId,
    house: TheHouse,
    caller: Keeps,
    endpoint: Annotated[str, Query(min_length=1, max_length=2048, description="The subscription's endpoint.")],
) -> Response:
    """Forget a browser of this recipient."""
    if "\x00" in endpoint:
        problem = FieldProblem(("query", "endpoint"), "invalid", "must not have a NUL character")
        raise Invalid("query.endpoint: must not have a NUL character", fields=[problem])
    async with house.database.transaction() as tx:
        if not await recipients.drop_subscriptions(tx, [(caller.service_id, endpoint)], recipient_id=id):
            raise NotFound(f"Recipient {id} has no such subscription.")
    return Response(status_code=204)


async def _keep(tx: Connection, house: House, service_id: int, changes: Sequence[RecipientChange]) -> int:
    """Create or replace recipients; returns how many are new. Who had been erased is welcome back."""
    created = await recipients.upsert(tx, service_id, changes)
    emails = [change.email for change in changes if change.email]
    if hashes := [hash for email in emails for hash in house.hashes.all_of(Channel.EMAIL, email)]:
        await suppressions.lift_erased(tx, service_id, Channel.EMAIL, hashes)
    return created


async def _recipient(tx: Connection, service_id: int, id: int) -> Recipient:
    found = (await recipients.load(tx, [(service_id, id)])).get((service_id, id))
    if found is None:
        raise RecipientNotFound(f"There is no recipient {id}. PUT /v1/recipients/{id} creates one.")
    return found


def _item(raw: dict[str, Any], index: int, house: House) -> RecipientChange | NotifierError:
    loc = ("body", "recipients", index)
    try:
        item = _ITEM.validate_python(raw)
        devices, browsers = item.devices, item.subscriptions
        return RecipientChange(
            id=item.id,
            email=house.addresses.email(item.email, *loc, "email"),
            locale=item.locale,
            timezone=item.timezone,
            attributes=item.attributes,
            devices=None if devices is None else [Device(device.token, device.platform) for device in devices],
            subscriptions=None if browsers is None else house.addresses.subscriptions(browsers, *loc, "subscriptions"),
        )
    except ValidationError as error:
        return problems.invalid(error, loc)
    except NotifierError as error:
        return error


def _body(recipient: Recipient) -> dict[str, Any]:
    return {
        "id": recipient.id,
        "email": recipient.email,
        "locale": recipient.locale,
        "timezone": recipient.timezone,
        "attributes": recipient.attributes,
        "devices": [{"token": device.token, "platform": device.platform} for device in recipient.devices],
        "subscriptions": [
            {"endpoint": s.endpoint, "keys": {"p256dh": s.p256dh, "auth": s.auth}} for s in recipient.subscriptions
        ],
    }
