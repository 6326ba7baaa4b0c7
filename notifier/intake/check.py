"""Whether a request can be carried out, and what exactly will be: everything a caller could get wrong."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from notifier.channels.desktop import compose as desktop
from notifier.channels.push import compose as push
from notifier.domain.ask import Ask, Request
from notifier.domain.caller import Scope
from notifier.domain.content import DesktopContent, PushContent
from notifier.domain.delivery import Status
from notifier.domain.errors import (
    ChannelNotInTemplate,
    ExpiryInvalid,
    FieldProblem,
    PayloadTooLarge,
    RecipientNotFound,
    ScopeMissing,
    TemplateNotFound,
)
from notifier.domain.ids import uuid7
from notifier.domain.notification import Channel, Lane, OnUnknown, Priority
from notifier.domain.recipient import Recipient
from notifier.store.deliveries import NewDelivery
from notifier.store.notifications import NotificationRow
from notifier.templating import Catalogue, Extra, Template, check_data, render

_SCOPE = {Priority.URGENT: Scope.SEND_URGENT, Priority.BULK: Scope.SEND_BULK}


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator has set for every notification."""

    max_attempts: int
    hint_life: Mapping[Priority, timedelta]
    extra: Extra  # what every template is given beside its variables


@dataclass(frozen=True, slots=True)
class Checked:
    """A request that can be carried out, as the rows it becomes."""

    notification: NotificationRow
    deliveries: tuple[NewDelivery, ...]


def check(
    request: Request,
    *,
    catalogue: Catalogue,
    recipient: Recipient | None,
    rules: Rules,
    now: datetime,
    admit: Callable[[Priority], None],
) -> Checked:
    """The rows `request` becomes, or a NotifierError that says what is wrong with it.

    `recipient` is who the request's id names, None if nobody; `now` is the database's clock;
    `admit` raises when too much waits already in a priority.
    """
    ask, caller = request.ask, request.caller
    template = _template(ask, catalogue)
    priority = ask.priority or template.priority
    if not caller.may(_SCOPE[priority]):
        raise ScopeMissing(
            f"Sending {priority} notifications needs the scope {_SCOPE[priority]}, which this API key lacks. "
            f"`notifier keys create NAME --scope {_SCOPE[priority]}` makes one that has it."
        )
    if isinstance(ask.recipient, Recipient):
        recipient = ask.recipient
    if recipient is None:
        raise RecipientNotFound(
            f"No recipient has the id {ask.recipient}. PUT /v1/recipients/{ask.recipient} first, "
            "or give addresses in place of the id."
        )
    channels = _channels(ask, template)
    data = check_data(template, ask.data)
    expires_at = _expires_at(ask, template, now)
    check_sizes(template, channels, data, recipient, extra=rules.extra)
    admit(priority)

    id = uuid7(now, secrets.randbits(74))
    notification = NotificationRow(
        id=id,
        service_id=caller.service_id,
        template=template.name,
        template_version=template.version,
        priority=priority,
        mode=caller.mode,
        recipient_id=recipient.id,
        address=asdict(recipient) if recipient.id is None else None,
        data=dict(ask.data),
        reference=ask.reference,
        collapse_key=ask.collapse_key,
        send_at=ask.send_at,
        expires_at=expires_at,
        created_at=now,
    )
    attempts = template.retry.max_attempts or rules.max_attempts
    return Checked(
        notification,
        tuple(
            _delivery(notification, Lane(priority, channel), request, recipient, rules, max_attempts=attempts)
            for channel in channels
        ),
    )


def _template(ask: Ask, catalogue: Catalogue) -> Template:
    try:
        return catalogue.get(ask.template)
    except TemplateNotFound as error:
        problem = FieldProblem(("body", "template"), error.code, error.detail)
        raise TemplateNotFound(error.detail, fields=[problem]) from None


def _channels(ask: Ask, template: Template) -> tuple[Channel, ...]:
    for channel in ask.channels or ():
        if channel not in template.channels:
            has = ", ".join(template.channels)
            message = f"Template {template.name} has no {channel}; it has {has}."
            raise ChannelNotInTemplate(message, fields=[FieldProblem(("body", "channels"), "not_in_template", message)])
    return tuple(dict.fromkeys(ask.channels or template.channels))


def _expires_at(ask: Ask, template: Template, now: datetime) -> datetime:
    start = max(now, ask.send_at or now)
    if ask.expires_at is not None:
        field, expires_at = "expires_at", ask.expires_at
    elif ask.expires_in is not None:
        field, expires_at = "expires_in", now + ask.expires_in
    else:
        field, expires_at = "expires_in", start + template.expires_in
    if expires_at <= now:
        message = f"{field} lies in the past ({expires_at.isoformat()}); it is {now.isoformat()} now."
    elif expires_at <= start:
        message = f"send_at ({start.isoformat()}) is not before the expiry ({expires_at.isoformat()})."
    else:
        return expires_at
    raise ExpiryInvalid(message, fields=[FieldProblem(("body", field), "expiry_invalid", message)])


def check_sizes(
    template: Template,
    channels: tuple[Channel, ...],
    data: Mapping[str, object],
    recipient: Recipient,
    *,
    extra: Extra,
) -> None:
    """Push and desktop payloads have hard limits at their providers, so they are rendered here once."""
    for channel in channels:
        if channel is Channel.EMAIL or not recipient.targets(channel):
            continue
        content = render(template, channel, data=data, recipient=recipient, locale=recipient.locale, extra=extra)
        if isinstance(content, PushContent):
            size, limit = push.size_bytes(content), push.LIMIT_BYTES
        elif isinstance(content, DesktopContent):
            size, limit = desktop.size_bytes(content), desktop.LIMIT_BYTES
        else:
            continue
        if size > limit:
            message = f"The {channel} message is {size} bytes long; {limit} is the limit. Shorten the values in data."
            raise PayloadTooLarge(message, fields=[FieldProblem(("body", "data"), "payload_too_large", message)])


def _delivery(
    notification: NotificationRow,
    lane: Lane,
    request: Request,
    recipient: Recipient,
    rules: Rules,
    *,
    max_attempts: int,
) -> NewDelivery:
    now, expires_at, send_at = notification.created_at, notification.expires_at, notification.send_at
    reason, due_at = None, None
    if not recipient.targets(lane.channel):
        status, reason = Status.SUPPRESSED, "no_address"
    elif send_at is not None and send_at > now:
        status, due_at = Status.SCHEDULED, send_at
    else:
        status, due_at = Status.QUEUED, min(now + rules.hint_life[lane.priority], expires_at)
    return NewDelivery(
        notification_id=notification.id,
        service_id=notification.service_id,
        recipient_id=notification.recipient_id,
        lane=lane,
        mode=request.caller.mode,
        status=status,
        reason=reason,
        max_attempts=max_attempts,
        on_unknown=request.ask.on_unknown or OnUnknown.RETRY,
        due_at=due_at,
        expires_at=expires_at,
        created_at=now,
    )
