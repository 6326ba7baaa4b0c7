"""What /v1/campaigns answers with, as OpenAPI shows it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from notifier.api.answers import REPLAYED, Delivery, TimelineItem, shows
from notifier.domain.campaign import CampaignStatus, LimitedBy
from notifier.domain.notification import Channel, Mode, OnUnknown, Priority


class Progress(BaseModel):
    """Numbers of deliveries: `dispatched` are those that were made, of all that are `planned`."""

    planned: int
    recipients: int
    dispatched: int
    in_flight: int
    sent: int = Field(description="Accepted by a provider, whatever became of it later.")
    delivered: int
    bounced: int
    complained: int
    failed: int
    expired: int
    cancelled: int
    suppressed: int
    unknown: int
    percent: float
    eta: datetime | None
    limited_by: LimitedBy | None


class Campaign(BaseModel):
    id: str
    name: str
    status: CampaignStatus
    status_reason: str | None
    parent_id: str | None = Field(description="The repeating campaign of which this is a run.")
    template: str
    template_version: str
    channels: list[Channel]
    data: dict[str, Any]
    priority: Priority
    mode: Mode
    on_unknown: OnUnknown
    audience: dict[str, Any]
    start_at: datetime | None
    next_run_at: datetime | None
    not_after: datetime | None
    expires_in: float
    chunk_size: int
    sleep_timeout: float | None
    rate_per_minute: float | None
    finish_by: datetime | None
    send_window: dict[str, str] | None
    repeat: str | None
    repeat_timezone: str | None
    failure_limit: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: Progress
    cursor: int | str | None
    bound: int | str | None
    chunks: int


class Planned(Campaign):
    replayed: bool


class Retried(Campaign):
    retried: int


class Campaigns(BaseModel):
    items: list[Campaign]
    next: str | None


class Cost(BaseModel):
    amount: str
    currency: str
    per_1000: dict[Channel, float]


class Estimate(BaseModel):
    """Without what is not known yet: of a SQL source, who has an address."""

    recipients: int
    deliveries: int
    reachable: dict[Channel, int]
    chunks: int
    gaps: int | None = Field(description="Ids between the first and the last that belong to nobody in it.")
    largest_gap: int | None
    start_at: datetime
    duration_seconds: float
    finish_at: datetime
    limited_by: LimitedBy
    cost: Cost


class CampaignDelivery(Delivery):
    recipient_id: int


class CampaignDeliveries(BaseModel):
    items: list[CampaignDelivery]
    next: str | None


class CampaignRecipient(BaseModel):
    recipient_id: int
    explanation: str
    deliveries: list[CampaignDelivery]
    items: list[TimelineItem]


PLANNED = shows(202, Planned, "Planned", Location="Where to look it up", **REPLAYED)
CAMPAIGN = shows(200, Campaign, "The campaign")
CAMPAIGNS = shows(200, Campaigns, "A page of campaigns")
RETRIED = shows(200, Retried, "The campaign, and how many deliveries are tried again")
ESTIMATE = shows(200, Estimate, "The estimate")
DELIVERIES = shows(200, CampaignDeliveries, "A page of its deliveries")
RECIPIENT = shows(200, CampaignRecipient, "The recipient's deliveries, and why")
