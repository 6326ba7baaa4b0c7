"""/v1/campaigns: plan one, watch it, change its pace, stop it, ask who got it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import time, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, ConfigDict, Field, StrictInt, model_validator
from starlette.responses import Response

from notifier.api import answers, campaign_answers
from notifier.api.addresses import Locale, Zone
from notifier.api.auth import Plans, ReadsCampaigns
from notifier.api.batches import summary
from notifier.api.bodies import MAX_ID, MAX_LIFE, Body, Data, JsonRoute, Moment, UserId, line
from notifier.api.houses import TheHouse
from notifier.api.problems import problems as may
from notifier.api.replays import IdempotencyKey, answer, idempotency
from notifier.campaigns import read
from notifier.domain.ask import Ask, AudienceAsk, CampaignAsk
from notifier.domain.ask import Request as AskedBy
from notifier.domain.caller import Scope
from notifier.domain.campaign import DIRECTORY, CampaignStatus
from notifier.domain.delivery import Status
from notifier.domain.errors import FieldProblem, Invalid
from notifier.domain.notification import Channel, OnUnknown, Priority
from notifier.domain.pace import HIGHEST_RATE, Pace
from notifier.domain.repeat import Repeat
from notifier.domain.window import SendWindow

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"], route_class=JsonRoute)

MAX_CHUNK = 10_000
MAX_TESTED = 10
#: The share of failures at which a campaign pauses itself, if nothing else is said.
FAILURE_LIMIT = 0.5

_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?")
_CURSOR = re.compile(r"(\d{1,19})\.(email|push|desktop)")


def _clock(text: str) -> str:
    if not _CLOCK.fullmatch(text):
        raise ValueError("must be a time of day, such as 09:00")
    return text


Clock = Annotated[str, line(8), AfterValidator(_clock)]


class SendWindowBody(Body):
    """Hours of the day, by the clocks of a time zone."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=False)
    start: Clock = Field(alias="from", examples=["09:00"])
    to: Clock = Field(examples=["18:00"])
    timezone: Zone = Field(examples=["Europe/Berlin"])

    @model_validator(mode="after")
    def _opens(self) -> SendWindowBody:
        self.window()
        return self

    def window(self) -> SendWindow:
        return SendWindow(time.fromisoformat(self.start), time.fromisoformat(self.to), self.timezone)


class Filter(Body):
    """Which recipients of the directory are meant."""

    locale: Locale | None = Field(None, description="`de` means de-AT as well.")
    attributes: Data = Field(default_factory=dict, description="They have at least these.")
    has_channel: Channel | None = Field(None, description="They have an address for it.")


class AudienceBody(Body):
    """Who is told. The directory is walked by id; a SQL source by what its query is ordered by."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=False)
    source: Annotated[str, line(63)] = Field(DIRECTORY, description="`recipients`, or a configured SQL source.")
    id_from: Annotated[StrictInt, Field(ge=0, le=MAX_ID)] | None = Field(None, description="The first id.")
    id_to: Annotated[StrictInt, Field(ge=0, le=MAX_ID + 1)] | None = Field(None, description="The first id not meant.")
    start: Annotated[str, line(40)] | None = Field(
        None, alias="from", description="The first date or moment, for a source by time."
    )
    stop: Annotated[str, line(40)] | None = Field(None, alias="to", description="The first one not meant.")
    filter: Filter = Field(default_factory=Filter)

    @model_validator(mode="after")
    def _one_axis(self) -> AudienceBody:
        if (self.id_from is not None or self.id_to is not None) and (self.start is not None or self.stop is not None):
            raise ValueError("give id_from and id_to, or from and to")
        return self

    def ask(self) -> AudienceAsk:
        return AudienceAsk(
            source=self.source,
            start=self.start if self.id_from is None else self.id_from,
            stop=self.stop if self.id_to is None else self.id_to,
            locale=self.filter.locale,
            attributes=self.filter.attributes,
            has_channel=self.filter.has_channel,
        )


class Tempo(Body):
    """What can be changed while a campaign runs."""

    chunk_size: Annotated[StrictInt, Field(ge=1, le=MAX_CHUNK)] = Field(1000, description="Recipients, at most.")
    sleep_timeout: Annotated[float, Field(strict=True, ge=0, le=86_400)] | None = Field(
        None, description="Seconds between chunks."
    )
    rate_per_minute: Annotated[float, Field(strict=True, gt=0, le=HIGHEST_RATE)] | None = Field(
        None, description="Deliveries a minute."
    )
    finish_by: Moment | None = Field(None, description="Spread evenly until then.")
    send_window: SendWindowBody | None = None
    failure_limit: Annotated[float, Field(strict=True, gt=0, le=1)] | None = Field(
        FAILURE_LIMIT, description="Pauses itself when more than this share of the latest results are failures."
    )

    @model_validator(mode="after")
    def _one_pace(self) -> Tempo:
        self.pace()
        return self

    def pace(self) -> Pace:
        """ValueError if more than one is given."""
        sleep = None if self.sleep_timeout is None else timedelta(seconds=self.sleep_timeout)
        return Pace(sleep, self.rate_per_minute, self.finish_by)

    def window(self) -> SendWindow | None:
        return self.send_window.window() if self.send_window else None


class CampaignRequest(Tempo):
    """A template, sent to an audience."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "October statement",
                    "template": "monthly-statement",
                    "channels": ["email"],
                    "audience": {"source": "recipients", "filter": {"locale": "de", "attributes": {"plan": "gold"}}},
                    "rate_per_minute": 20000,
                    "send_window": {"from": "09:00", "to": "18:00", "timezone": "Europe/Berlin"},
                }
            ]
        }
    )

    name: Annotated[str, line(200)]
    template: Annotated[str, line(100)]
    channels: list[Channel] | None = Field(None, min_length=1, max_length=10, description="All of the template's.")
    data: Data = Field(default_factory=dict, description="The template's variables, the same for everybody.")
    audience: AudienceBody = Field(default_factory=AudienceBody)
    start_at: Moment | None = Field(None, description="At once, if not given.")
    not_after: Moment | None = Field(None, description="Expires if it could not start by then.")
    expires_in: Annotated[float, Field(strict=True, gt=0, le=MAX_LIFE)] | None = Field(
        None, description="Life of each delivery in seconds, from its chunk on; the template's if not given."
    )
    repeat: Annotated[str, line(100)] | None = Field(
        None,
        description="Cron expression; each run is a campaign of its own, the first one not before `start_at`.",
        examples=["0 9 1 * *"],
    )
    repeat_timezone: Zone = "UTC"
    priority: Priority = Priority.BULK
    on_unknown: OnUnknown = OnUnknown.HOLD

    @model_validator(mode="after")
    def _repeats(self) -> CampaignRequest:
        self.runs()
        return self

    def runs(self) -> Repeat | None:
        if self.repeat is None:
            return None
        try:
            return Repeat(self.repeat, self.repeat_timezone)
        except ValueError as error:
            raise ValueError(f"repeat {error}") from None

    def ask(self) -> CampaignAsk:
        return CampaignAsk(
            name=self.name,
            template=self.template,
            audience=self.audience.ask(),
            channels=tuple(self.channels) if self.channels else None,
            data=self.data,
            start_at=self.start_at,
            not_after=self.not_after,
            expires_in=None if self.expires_in is None else timedelta(seconds=self.expires_in),
            chunk_size=self.chunk_size,
            pace=self.pace(),
            window=self.window(),
            repeat=self.runs(),
            priority=self.priority,
            on_unknown=self.on_unknown,
            failure_limit=self.failure_limit,
        )


class CampaignChange(Tempo):
    """What is to be different; what is not named stays. A new pace takes the place of the old one; null ends it."""

    @model_validator(mode="after")
    def _something(self) -> CampaignChange:
        if not self.model_fields_set:
            raise ValueError(f"name what is to be different: {', '.join(Tempo.model_fields)}")
        return self

    def changes(self) -> dict[str, Any]:
        given, changes = self.model_fields_set, dict[str, Any]()
        if given & {"sleep_timeout", "rate_per_minute", "finish_by"}:
            changes["pace"] = self.pace()
        if "send_window" in given:
            changes["window"] = self.window()
        return changes | {name: getattr(self, name) for name in ("chunk_size", "failure_limit") if name in given}


class Tested(Body):
    recipient_ids: list[UserId] = Field(min_length=1, max_length=MAX_TESTED)


class Filters(Body):
    """What a page is asked for."""

    status: CampaignStatus | None = None
    limit: int = Field(50, ge=1, le=250)
    cursor: UUID | None = Field(None, description="`next` of the page before.")


class DeliveryFilters(Body):
    status: Status | None = None
    limit: int = Field(50, ge=1, le=250)
    cursor: Annotated[str, line(30)] | None = Field(None, description="`next` of the page before.")


RecipientId = Annotated[int, Path(ge=0, le=MAX_ID, description="The product's own user id.")]
_CHANGES = may(401, 403, 404, 409, 413, 415, 422, 429, 503)


@router.post("", status_code=202, responses=campaign_answers.PLANNED | may(400, 401, 403, 408, 413, 415, 422, 429, 503))
async def create_campaign(
    ask: CampaignRequest, request: Request, house: TheHouse, caller: Plans, key: IdempotencyKey = None
) -> Response:
    """Plan a campaign: it starts by itself when its time has come."""
    used = await idempotency(request, "campaigns", key, caller.mode)
    given = await house.campaigns.create(caller, ask.ask(), used)
    return answer(given, location=f"/v1/campaigns/{given.body['id']}")


@router.post("/estimate", responses=campaign_answers.ESTIMATE | may(400, 401, 403, 408, 413, 415, 422, 429, 503))
async def estimate_campaign(ask: CampaignRequest, house: TheHouse, caller: Plans) -> Response:
    """What it would come to, if it ran now. Sends nothing."""
    return answers.json(await house.estimator.estimate(caller, ask.ask()))


@router.get("", responses=campaign_answers.CAMPAIGNS | may(401, 403, 422, 429, 503))
async def list_campaigns(house: TheHouse, caller: ReadsCampaigns, asked: Annotated[Filters, Query()]) -> Response:
    """A service's campaigns, newest first."""
    return answers.json(
        await read.page(house.database, caller.tenant, limit=asked.limit, before=asked.cursor, status=asked.status)
    )


@router.get("/{id}", responses=campaign_answers.CAMPAIGN | may(401, 403, 404, 422, 429, 503))
async def get_campaign(id: UUID, house: TheHouse, caller: ReadsCampaigns) -> Response:
    """How far it is, when it will be done, and what limits it."""
    return answers.json(await read.find(house.database, caller.tenant, id))


@router.patch("/{id}", responses=campaign_answers.CAMPAIGN | may(400) | _CHANGES)
async def change_campaign(id: UUID, change: CampaignChange, house: TheHouse, caller: Plans) -> Response:
    """Another pace, chunk size, window or failure limit, effective with the next chunk."""
    return answers.json(await house.campaigns.change(caller.tenant, id, change.changes()))


@router.post("/{id}/pause", responses=campaign_answers.CAMPAIGN | _CHANGES)
async def pause_campaign(id: UUID, house: TheHouse, caller: Plans) -> Response:
    """Hold it, and whatever of it is queued already."""
    return answers.json(await house.campaigns.pause(caller.tenant, id))


@router.post("/{id}/resume", responses=campaign_answers.CAMPAIGN | _CHANGES)
async def resume_campaign(id: UUID, house: TheHouse, caller: Plans) -> Response:
    """Go on where it was paused."""
    return answers.json(await house.campaigns.resume(caller.tenant, id))


@router.post("/{id}/cancel", responses=campaign_answers.CAMPAIGN | _CHANGES)
async def cancel_campaign(id: UUID, house: TheHouse, caller: Plans) -> Response:
    """End it; what is not yet with a provider is cancelled."""
    return answers.json(await house.campaigns.cancel(caller.tenant, id))


@router.post("/{id}/retry-failed", responses=campaign_answers.RETRIED | _CHANGES)
async def retry_failed_deliveries(id: UUID, house: TheHouse, caller: Plans) -> Response:
    """Queue what failed once more, with fresh attempts and a fresh life."""
    done = await house.replayer.replay_campaign(caller.tenant, id)
    return answers.json({**await read.find(house.database, caller.tenant, id), "retried": done.queued})


@router.post(
    "/{id}/test", status_code=202, responses=answers.BATCH | may(400, 401, 403, 404, 408, 413, 415, 422, 429, 503)
)
async def send_campaign_test(
    id: UUID, tested: Tested, request: Request, house: TheHouse, caller: Plans, key: IdempotencyKey = None
) -> Response:
    """Send it to a few recipients now, as notifications of their own; the campaign itself does not notice."""
    plan = (await house.campaigns.find(caller.tenant, id)).plan
    sender = replace(caller, scopes=caller.scopes | {Scope.SEND_BULK})
    asks = [
        Ask(plan.template, to, plan.channels, Priority.BULK, plan.data, plan.expires_in, reference=f"test of {id}")
        for to in tested.recipient_ids
    ]
    whole = await idempotency(request, f"campaigns/{id}/test", key, caller.mode)
    given = await house.intake.accept_batch(
        [AskedBy(sender, ask) for ask in asks], service_id=caller.service_id, whole=whole, summary=summary
    )
    return answer(given)


@router.get("/{id}/deliveries", responses=campaign_answers.DELIVERIES | may(401, 403, 404, 422, 429, 503))
async def list_campaign_deliveries(
    id: UUID, house: TheHouse, caller: ReadsCampaigns, asked: Annotated[DeliveryFilters, Query()]
) -> Response:
    """Who got it and who did not, in order of recipient."""
    cursor = None
    if asked.cursor is not None:
        if not (found := _CURSOR.fullmatch(asked.cursor)) or int(found[1]) > MAX_ID:
            problem = FieldProblem(("query", "cursor"), "cursor_invalid", "must be `next` of the page before")
            raise Invalid("query.cursor must be `next` of the page before.", fields=[problem])
        cursor = int(found[1]), found[2]
    return answers.json(
        await read.deliveries(house.database, caller.tenant, id, limit=asked.limit, cursor=cursor, status=asked.status)
    )


@router.get("/{id}/recipients/{recipient_id}", responses=campaign_answers.RECIPIENT | may(401, 403, 404, 422, 429, 503))
async def get_campaign_recipient(
    id: UUID, recipient_id: RecipientId, house: TheHouse, caller: ReadsCampaigns
) -> Response:
    """Why a recipient did or did not get it."""
    return answers.json(await read.recipient(house.database, caller.tenant, id, recipient_id))
