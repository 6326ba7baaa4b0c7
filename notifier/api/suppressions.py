"""/v1/suppressions: addresses to which a service sends nothing more, whoever asks for it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import ConfigDict, Field, StringConstraints
from starlette.responses import Response

from notifier.api import answers
from notifier.api.auth import Keeps, ReadsRecipients
from notifier.api.bodies import Body, JsonRoute, line
from notifier.api.houses import House, TheHouse
from notifier.api.problems import problems as may
from notifier.domain.errors import NotFound
from notifier.domain.notification import Channel
from notifier.domain.suppression import Suppression
from notifier.store import suppressions

router = APIRouter(prefix="/v1/suppressions", tags=["suppressions"], route_class=JsonRoute)

Address = Annotated[
    str,
    line(4096),
    Path(description="Percent-encoded: a mail address, a push token, or the endpoint of a browser's subscription."),
]
#: A code, so that nobody's address or name can stand in it.
Reason = Annotated[str, StringConstraints(strict=True, pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class SuppressionRequest(Body):
    """Why nothing more is sent to an address."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "unsubscribed"}]})

    reason: Reason | None = Field(None, description="A code in snake_case; `by_caller` when left out.")


@router.get("/{channel}/{address:path}", responses=answers.SUPPRESSION | may(401, 403, 404, 422, 429, 503))
async def get_suppression(channel: Channel, address: Address, house: TheHouse, caller: ReadsRecipients) -> Response:
    """Whether an address is suppressed, and why; 404 if it is not."""
    address = _normal(channel, address, house)
    hashes = house.hashes.all_of(channel, address)
    async with house.database.transaction() as tx:
        found = await suppressions.find(tx, channel, [(caller.service_id, hash) for hash in hashes])
    for hash in hashes:
        if suppression := found.get((caller.service_id, hash)):
            return answers.json(_shown(channel, address, suppression))
    raise NotFound("This address is not suppressed.")


@router.put(
    "/{channel}/{address:path}", responses=answers.SUPPRESSION | may(400, 401, 403, 408, 413, 415, 422, 429, 503)
)
async def put_suppression(
    channel: Channel, address: Address, house: TheHouse, caller: Keeps, body: SuppressionRequest | None = None
) -> Response:
    """Send nothing more to an address, from now on; what is queued for it ends as `suppressed`.

    To repeat it changes nothing, but for the reason if another one is given.
    """
    address = _normal(channel, address, house)
    async with house.database.transaction() as tx:
        suppression = await suppressions.put(
            tx, caller.service_id, channel, house.hashes.of(channel, address), reason=body.reason if body else None
        )
    return answers.json(_shown(channel, address, suppression))


@router.delete(
    "/{channel}/{address:path}",
    status_code=204,
    responses=answers.GONE | may(401, 403, 404, 413, 415, 422, 429, 503),
)
async def delete_suppression(channel: Channel, address: Address, house: TheHouse, caller: Keeps) -> Response:
    """Let an address be written to again, whatever it was suppressed for. What has ended stays as it ended."""
    hashes = house.hashes.all_of(channel, _normal(channel, address, house))
    async with house.database.transaction() as tx:
        if not await suppressions.lift(tx, caller.service_id, channel, hashes):
            raise NotFound("This address is not suppressed.")
    return Response(status_code=204)


def _normal(channel: Channel, address: str, house: House) -> str:
    """The address as deliveries have it: a mail address checked and in lower case, all others to the letter."""
    if channel is not Channel.EMAIL:
        return address
    checked = house.addresses.email(address, "path", "address")
    assert checked is not None
    return checked.lower()


def _shown(channel: Channel, address: str, suppression: Suppression) -> dict[str, Any]:
    return {
        "channel": channel,
        "address": address,
        "reason": suppression.reason,
        "created_at": suppression.created_at.isoformat(),
    }
