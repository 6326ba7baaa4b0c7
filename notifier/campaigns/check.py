"""Whether a campaign can be carried out, and what exactly will be: everything a caller could get wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from notifier.campaigns.audience import Audiences
from notifier.domain.ask import AudienceAsk, CampaignAsk
from notifier.domain.caller import Caller, Scope
from notifier.domain.campaign import DIRECTORY, Audience, Plan
from notifier.domain.chunk import Axis, Chunk, Value, value_from_json
from notifier.domain.errors import (
    CampaignInvalid,
    ChannelNotInTemplate,
    FieldProblem,
    Invalid,
    NotifierError,
    ScopeMissing,
    TemplateNotFound,
)
from notifier.domain.notification import Channel, Priority
from notifier.domain.recipient import Device, Recipient, Subscription
from notifier.templating import Catalogue, Template, check_data

#: Whether the rendered messages fit what their channels carry; raises PayloadTooLarge.
CheckSizes = Callable[[Template, tuple[Channel, ...], Mapping[str, Any], Recipient], None]


#: Somebody with an address for every channel, to whom a message is rendered to see whether it fits.
ANYBODY = Recipient(id=0, email="", devices=(Device(""),), subscriptions=(Subscription("", "", ""),))


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator has set for every campaign."""

    max_attempts: int
    hint_life: Mapping[Priority, timedelta]
    #: Deliveries of one campaign that may be unfinished before its walker waits.
    unfinished_limit: int
    #: Deliveries a second that all workers together manage, as far as the operator knows.
    capacity: float
    #: Calls a second that a channel's first provider allows for each priority; a channel without a limit is not there.
    budgets: Mapping[tuple[Priority, Channel], float]
    #: Of 1000 deliveries of a channel, in `currency`.
    prices: Mapping[Channel, float]
    currency: str


class Checker:
    """Makes plans of what callers ask."""

    def __init__(self, *, catalogue: Catalogue, audiences: Audiences, check_sizes: CheckSizes) -> None:
        self._catalogue = catalogue
        self._audiences = audiences
        self._check_sizes = check_sizes

    def plan(self, caller: Caller, ask: CampaignAsk, *, now: datetime) -> tuple[Plan, Template]:
        """The plan and its template, or a NotifierError that names the field and the remedy."""
        if ask.priority is Priority.URGENT and not caller.may(Scope.SEND_URGENT):
            raise ScopeMissing(
                "An urgent campaign needs the scope send:urgent as well, which this API key lacks. "
                "Leave out priority, or `notifier keys create NAME --scope campaigns --scope send:urgent`."
            )
        template = self._template(ask.template)
        channels = self._channels(ask, template)
        data = check_data(template, ask.data)
        self._check_sizes(template, channels, data, ANYBODY)
        self._check_times(ask, now)
        plan = Plan(
            name=ask.name,
            template=template.name,
            channels=channels,
            data=dict(ask.data),
            audience=self._audience(caller, ask.audience),
            priority=ask.priority,
            on_unknown=ask.on_unknown,
            expires_in=ask.expires_in or template.expires_in,
            chunk_size=ask.chunk_size,
            pace=ask.pace,
            start_at=ask.start_at,
            not_after=ask.not_after,
            window=ask.window,
            repeat=ask.repeat,
            failure_limit=ask.failure_limit,
        )
        return plan, template

    def _template(self, name: str) -> Template:
        try:
            return self._catalogue.get(name)
        except TemplateNotFound as error:
            raise _at("template", error, TemplateNotFound) from None

    def _channels(self, ask: CampaignAsk, template: Template) -> tuple[Channel, ...]:
        for channel in ask.channels or ():
            if channel not in template.channels:
                message = f"Template {template.name} has no {channel}; it has {', '.join(template.channels)}."
                problem = FieldProblem(("body", "channels"), "not_in_template", message)
                raise ChannelNotInTemplate(message, fields=[problem])
        return tuple(dict.fromkeys(ask.channels or template.channels))

    def _audience(self, caller: Caller, ask: AudienceAsk) -> Audience:
        try:
            axis = self._audiences.axis(ask.source, caller.service)
        except Invalid as error:
            raise _at("audience.source", error, type(error)) from None
        if ask.source != DIRECTORY and (ask.locale or ask.attributes or ask.has_channel):
            raise wrong("audience.filter", "holds for the source recipients only; filter in the source's own query")
        start = _bound(axis, "start", ask.start)
        stop = _bound(axis, "stop", ask.stop)
        if start is not None and stop is not None:
            try:
                Chunk(start, stop)
            except ValueError:
                raise wrong("audience", f"ends ({ask.stop}) before it begins ({ask.start}); exchange the two") from None
        return Audience(ask.source, start, stop, ask.locale, dict(ask.attributes), ask.has_channel)

    @staticmethod
    def _check_times(ask: CampaignAsk, now: datetime) -> None:
        start = max(now, ask.start_at or now)
        if ask.repeat is not None:
            start = ask.repeat.first_run(start)
            if ask.pace.finish_by is not None:
                raise wrong("finish_by", "is one moment, and a repeating campaign has many; give rate_per_minute")
        if ask.not_after is not None and ask.not_after <= start:
            raise wrong("not_after", f"must lie after the start ({start.isoformat()})")
        if ask.window is not None:
            opening = ask.window.opening(start)
            if ask.not_after is not None and opening > ask.not_after:
                raise wrong("send_window", f"opens at {opening.isoformat()} only, which is later than not_after")
        check_finish(ask, start)


def check_finish(asked: CampaignAsk | Plan, start: datetime) -> None:
    """Raise CampaignInvalid if nothing at all could go out between `start` and `finish_by`."""
    finish_by = asked.pace.finish_by
    if finish_by is None:
        return
    opening = asked.window.opening(start) if asked.window else start
    if finish_by <= opening:
        raise wrong("finish_by", f"must lie after {opening.isoformat()}, when the first could go out")


def wrong(field: str, what: str) -> CampaignInvalid:
    """The error for a field of the body, such as `audience.source`."""
    return CampaignInvalid(
        f"{field} {what}.", fields=[FieldProblem(("body", *field.split(".")), "campaign_invalid", f"{field} {what}.")]
    )


def _at(field: str, error: NotifierError, kind: type[NotifierError]) -> NotifierError:
    """`error` with the field it is about."""
    return kind(error.detail, fields=[FieldProblem(("body", *field.split(".")), error.code, error.detail)])


def _bound(axis: Axis, name: str, raw: int | str | None) -> Value | None:
    if raw is None:
        return None
    field = f"audience.{'id_' if axis is Axis.ID else ''}{'from' if name == 'start' else 'to'}"
    try:
        return value_from_json(axis, raw)
    except ValueError as error:
        raise wrong(field, f"does not fit an audience by {axis}: {error}") from None
