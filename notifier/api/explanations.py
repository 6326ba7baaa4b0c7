"""/v1/explain: why somebody did or did not get a message, in words and codes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, model_validator
from starlette.responses import Response

from notifier.api import answers
from notifier.api.answers import TimelineItem, shows
from notifier.api.auth import Reads
from notifier.api.bodies import MAX_ID, Body, JsonRoute, Moment, line
from notifier.api.houses import TheHouse
from notifier.api.problems import problems as may
from notifier.campaigns import explain as campaigns
from notifier.delivery import explain as delivery
from notifier.domain.delivery import Status
from notifier.domain.finding import Code, Finding, answer, clock
from notifier.domain.notification import Channel, Mode, Priority
from notifier.store import database

router = APIRouter(prefix="/v1/explain", tags=["explain"], route_class=JsonRoute)

#: How far back is looked if nobody says.
USUALLY = timedelta(days=30)


class Asked(Body):
    """About whom, and about what: one campaign, everything of a template, or simply everything."""

    recipient_id: int = Field(ge=0, le=MAX_ID)
    campaign_id: UUID | None = None
    template: Annotated[str, line(100)] | None = None
    since: Moment | None = Field(None, description="Accepted since then; 30 days ago if it is not given.")

    @model_validator(mode="after")
    def _one_thing(self) -> Asked:
        if self.campaign_id is not None and self.template is not None:
            raise ValueError("give campaign_id or template, not both")
        return self


class FindingShown(BaseModel):
    """One reason. Codes are stable; docs/explain.md says what each means."""

    code: Code
    says: str
    at: datetime | None
    detail: dict[str, Any]


class ExplainedDelivery(BaseModel):
    id: str
    notification_id: str | None
    campaign_id: str | None
    reference: str | None
    template: str
    channel: Channel
    priority: Priority
    mode: Mode
    status: Status
    reason: str | None
    attempts: int
    provider: str | None
    provider_message_id: str | None
    due_at: datetime | None
    created_at: datetime
    expires_at: datetime
    updated_at: datetime
    timeline: list[TimelineItem]


class Explanation(BaseModel):
    recipient_id: int
    answer: str = Field(description="One plain sentence.")
    findings: list[FindingShown]
    deliveries: list[ExplainedDelivery]


EXPLANATION = shows(200, Explanation, "Why, in words and codes")


@router.get("", responses=EXPLANATION | may(401, 403, 404, 422, 429, 503))
async def explain(house: TheHouse, caller: Reads, asked: Annotated[Asked, Query()]) -> Response:
    """Was the recipient in the audience, which rule dropped the delivery, where did it wait, what said the provider?"""
    who = asked.recipient_id
    since = asked.since or await _usually(house)
    considered = await campaigns.consider(
        house.database, caller.tenant, who, campaign_id=asked.campaign_id, template=asked.template, since=since
    )
    told = await delivery.explain(
        house.database,
        caller.tenant,
        who,
        template=asked.template,
        since=since,
        campaign_ids=considered.ids,
        with_notifications=asked.campaign_id is None,
    )
    findings = told.findings + considered.findings
    if not any(finding.leads for finding in findings):
        findings = [_nothing(asked, since), *findings]
    return answers.json(
        {
            "recipient_id": who,
            "answer": answer(findings),
            "findings": [finding.to_json() for finding in findings],
            "deliveries": told.deliveries,
        }
    )


async def _usually(house: TheHouse) -> datetime:
    async with house.database.transaction() as tx:
        return await database.now(tx) - USUALLY


def _nothing(asked: Asked, since: datetime) -> Finding:
    what = f" with the template {asked.template}" if asked.template else ""
    says = f"Nothing{what} was accepted for recipient {asked.recipient_id} since {clock(since)}."
    return Finding(Code.NOTHING_ACCEPTED, says, detail={"since": since.isoformat()})
