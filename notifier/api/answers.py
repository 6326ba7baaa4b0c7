"""What the API answers with: the models that OpenAPI shows, and the quick way to send them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from notifier.api.problems import Problem
from notifier.domain.delivery import Status
from notifier.domain.notification import Channel, Mode, Priority


class AcceptedDelivery(BaseModel):
    channel: Channel
    status: Status
    reason: str | None = None


class Accepted(BaseModel):
    """Committed: it will be delivered, or end with a reason that you can ask for."""

    id: str
    status: str
    priority: Priority
    created_at: datetime
    expires_at: datetime
    deliveries: list[AcceptedDelivery]
    replayed: bool


class Rejected(BaseModel):
    error: Problem


class BatchAccepted(BaseModel):
    accepted: int
    rejected: int
    results: list[Accepted | Rejected]
    replayed: bool


class Delivery(BaseModel):
    id: str
    channel: Channel
    status: Status
    reason: str | None
    attempts: int
    provider: str | None
    provider_message_id: str | None
    updated_at: datetime


class Notification(BaseModel):
    id: str
    status: str
    template: str
    template_version: str
    priority: Priority
    mode: Mode
    recipient_id: int | None
    reference: str | None
    collapse_key: str | None
    send_at: datetime | None
    created_at: datetime
    expires_at: datetime
    deliveries: list[Delivery]


class Notifications(BaseModel):
    items: list[Notification]
    next: str | None


class TimelineItem(BaseModel):
    """One decision; what more it tells depends on the event."""

    model_config = ConfigDict(extra="allow")
    at: datetime
    event: str
    channel: Channel | None


class Timeline(BaseModel):
    id: str
    status: str
    items: list[TimelineItem]


class DeviceShown(BaseModel):
    token: str
    platform: str


class KeysShown(BaseModel):
    p256dh: str
    auth: str


class SubscriptionShown(BaseModel):
    endpoint: str
    keys: KeysShown


class RecipientShown(BaseModel):
    id: int
    email: str | None
    locale: str | None
    timezone: str | None
    attributes: dict[str, Any]
    devices: list[DeviceShown]
    subscriptions: list[SubscriptionShown]


class RecipientKept(BaseModel):
    id: int


class RecipientsKept(BaseModel):
    accepted: int
    rejected: int
    created: int
    results: list[RecipientKept | Rejected]


class SuppressionShown(BaseModel):
    """Nothing more is sent to this address. `reason`: bounced, complained, erased, or a caller's own code."""

    channel: Channel
    address: str
    reason: str
    created_at: datetime


class VariableShown(BaseModel):
    name: str
    type: str
    required: bool
    example: Any = None


class TemplateShown(BaseModel):
    name: str
    title: str
    category: str
    priority: Priority
    expires_in: float
    channels: list[Channel]
    locales: list[str]
    version: str
    variables: list[VariableShown]


class Templates(BaseModel):
    items: list[TemplateShown]
    next: str | None


class DeadLetterShown(BaseModel):
    """A delivery that has failed for good; `last_answer` is the provider's, if it was asked."""

    delivery_id: str
    notification_id: str | None
    campaign_id: str | None
    recipient_id: int | None
    channel: Channel
    priority: Priority
    mode: Mode
    template: str
    reason: str
    attempts: int
    provider: str | None
    created_at: datetime
    failed_at: datetime
    expires_at: datetime
    last_answer: dict[str, Any] | None


class DeadLettersShown(BaseModel):
    items: list[DeadLetterShown]
    next: str | None


class ReplayedLetters(BaseModel):
    """How many are queued again, and how many stay dead: past their life, or of a campaign that is over."""

    replayed: int
    expired: int
    campaign_over: int


class Health(BaseModel):
    status: str


def shows(status: int, model: type[BaseModel], what: str, **headers: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` entry of a route that answers with `model`."""
    described = {name: {"schema": {"type": "string"}, "description": text} for name, text in headers.items()}
    return {status: {"model": model, "description": what, "headers": described}}


REPLAYED = {"Idempotent-Replayed": "true, when this is the first answer again"}
ACCEPTED = shows(202, Accepted, "Accepted", Location="Where to look it up", **REPLAYED)
BATCH = shows(202, BatchAccepted, "One result per item, in order", **REPLAYED)
NOTIFICATION = shows(200, Notification, "The notification")
NOTIFICATIONS = shows(200, Notifications, "A page of notifications")
RECIPIENT = shows(200, RecipientShown, "The recipient")
RECIPIENTS_KEPT = shows(200, RecipientsKept, "One result per item, in order")
SUPPRESSION = shows(200, SuppressionShown, "The address is suppressed")
TEMPLATE = shows(200, TemplateShown, "The template")
TEMPLATES = shows(200, Templates, "Every template")
DEAD_LETTERS = shows(200, DeadLettersShown, "A page of dead letters")
REPLAYED_LETTERS = shows(200, ReplayedLetters, "What became of them")
HEALTH = shows(200, Health, "Yes")
GONE: dict[int | str, dict[str, Any]] = {204: {"description": "Done"}}
TIMELINE = shows(200, Timeline, "Every decision, oldest first")


def json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Send plain data as JSON, without a second validation."""
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
