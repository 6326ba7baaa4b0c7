"""/v1/deadletters: what has failed for good, why, and once more from the beginning."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field, StrictInt, model_validator
from starlette.responses import Response

from notifier.api import answers
from notifier.api.auth import Reads, Sends
from notifier.api.bodies import MAX_ID, MAX_LIFE, Body, JsonRoute, Moment, line
from notifier.api.houses import TheHouse
from notifier.api.problems import problems as may
from notifier.domain.caller import Scope
from notifier.domain.notification import Channel, Priority
from notifier.store.dead_letters import DeadLetter, DeadLetters, page

router = APIRouter(prefix="/v1/deadletters", tags=["dead letters"], route_class=JsonRoute)

MAX_IDS = 1000
#: Of a delivery, as it stands in answers: a number, in quotation marks since JavaScript has not enough digits.
DeliveryId = Annotated[str, Field(pattern=r"^[0-9]{1,18}$", examples=["4711"])]

_PRIORITIES = {Scope.SEND_URGENT: Priority.URGENT, Scope.SEND_BULK: Priority.BULK}


class Filter(Body):
    """Which dead letters are meant: all that is given must fit."""

    campaign_id: UUID | None = None
    notification_id: UUID | None = None
    recipient_id: Annotated[int, Field(ge=0, le=MAX_ID)] | None = None
    channel: Channel | None = None
    template: Annotated[str, line(100)] | None = None
    reason: Annotated[str, line(200)] | None = Field(None, description="As it stands in the list.")
    failed_after: Moment | None = None
    failed_before: Moment | None = None


class DeadLetterPage(Filter):
    """What a page is asked for."""

    limit: int = Field(50, ge=1, le=250)
    cursor: DeliveryId | None = Field(None, description="`next` of the page before.")


class ReplayRequest(Body):
    """Which ones are sent once more: those named, or those that fit. Saying it twice sends nothing twice."""

    delivery_ids: list[DeliveryId] | None = Field(None, min_length=1, max_length=MAX_IDS)
    filter: Filter | None = Field(None, description="`{}` means all.")
    expires_in: Annotated[StrictInt, Field(ge=1, le=MAX_LIFE)] | None = Field(
        None, description="Seconds to live from now on. Without it, what is past its life stays dead."
    )

    @model_validator(mode="after")
    def _names_some(self) -> ReplayRequest:
        if (self.delivery_ids is None) == (self.filter is None):
            raise ValueError("give delivery_ids, or filter")
        return self


@router.get("", responses=answers.DEAD_LETTERS | may(401, 403, 422, 429, 503))
async def list_dead_letters(house: TheHouse, caller: Reads, asked: Annotated[DeadLetterPage, Query()]) -> Response:
    """A service's failed deliveries, newest first, each with its reason and the provider's last answer."""
    which = DeadLetters(**asked.model_dump(exclude={"limit", "cursor"}))
    before = None if asked.cursor is None else int(asked.cursor)
    rows = await house.database.read(lambda tx: page(tx, caller.tenant, which, limit=asked.limit + 1, before=before))
    shown = rows[: asked.limit]
    return answers.json(
        {"items": [_shown(row) for row in shown], "next": str(shown[-1].id) if len(rows) > asked.limit else None}
    )


@router.post("/replay", responses=answers.REPLAYED_LETTERS | may(400, 401, 403, 408, 413, 415, 422, 429, 503))
async def replay_dead_letters(ask: ReplayRequest, house: TheHouse, caller: Sends) -> Response:
    """Queue dead letters with fresh attempts. Those of a priority (or campaigns) that the key may not send are left."""
    named = None if ask.delivery_ids is None else tuple(int(id) for id in ask.delivery_ids)
    which = DeadLetters(
        ids=named,
        priorities=tuple(priority for scope, priority in _PRIORITIES.items() if caller.may(scope)),
        with_campaigns=caller.may(Scope.CAMPAIGNS),
        **(ask.filter.model_dump() if ask.filter else {}),
    )
    life = None if ask.expires_in is None else timedelta(seconds=ask.expires_in)
    done = await house.replayer.replay(caller.tenant, which, expires_in=life)
    return answers.json({"replayed": done.queued, "expired": done.expired, "campaign_over": done.campaign_over})


def _shown(row: DeadLetter) -> dict[str, Any]:
    told = asdict(row) | {"delivery_id": str(row.id), "attempts": row.attempt}
    for name in ("notification_id", "campaign_id"):
        told[name] = told[name] and str(told[name])
    for name in ("created_at", "failed_at", "expires_at"):
        told[name] = told[name].isoformat()
    return {name: value for name, value in told.items() if name not in ("id", "attempt")}
