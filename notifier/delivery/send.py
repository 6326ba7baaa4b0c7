"""One attempt of one delivery: render it, call its provider for each target, and say what came of it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from notifier.channels.contract import HasDestinations, Message, Provider
from notifier.delivery.budget import Budget, Flow, Grant
from notifier.delivery.unnamed import unnamed
from notifier.domain.content import Content
from notifier.domain.errors import Invalid, TemplateNotFound
from notifier.domain.notification import Channel, Lane, Mode
from notifier.domain.outcome import (
    AddressGone,
    Outcome,
    Permanent,
    Sent,
    Suppressed,
    Throttled,
    Transient,
    Unknown,
    combine,
)
from notifier.domain.recipient import Recipient, Target, target_key
from notifier.observe import failpoint, logs, metrics, tracing
from notifier.store.deliveries import Claim
from notifier.templating import Catalogue, Extra, check_data, render

log = logs.get(__name__)

#: Which providers carry a channel, in order of preference, for each mode.
Providers = Mapping[tuple[Mode, Channel], Sequence[Provider]]


#: The outcome of an attempt that came too late to make a call.
EXPIRED = Transient("expired_before_call")


@dataclass(slots=True)
class Attempt:
    """What an attempt has come to so far: the outcome, which targets have the message, which are gone, every call."""

    outcome: Outcome | Suppressed
    sent: frozenset[str] = frozenset()
    gone: tuple[Target, ...] = ()
    provider: str | None = None
    provider_message_id: str | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    #: Targets that were left out because they are on the suppression list, and why.
    suppressed: dict[str, str] = field(default_factory=dict)
    #: How long its provider is left alone, if the breaker is open: then the attempt is the provider's fault alone.
    outage: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """A delivery that only needs its provider to be called."""

    claim: Claim
    lane: Lane
    targets: tuple[Target, ...]
    content: Content
    #: Targets that are not called: they are on the suppression list, for this reason.
    suppressed: Mapping[str, str] = field(default_factory=dict)


class Sender:
    """Makes attempts. Knows templates and providers; knows nothing of rows that change, leases or retries."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        providers: Providers,
        budget: Budget,
        timeout: timedelta,
        extra: Extra,
    ) -> None:
        self._catalogue = catalogue
        self._providers = providers
        self._budget = budget
        self._timeout = timeout
        self._extra = extra
        #: What tells the destination of a target, for the accounts that have several.
        self._destination_of = {
            account_of(provider): provider.destination
            for (mode, _), some in providers.items()
            for provider in some
            if mode is Mode.LIVE and isinstance(provider, HasDestinations)
        }

    def concurrency(self, lane: Lane) -> int:
        """How many deliveries of `lane` its first provider carries well at once."""
        return self._providers[Mode.LIVE, lane.channel][0].concurrency

    async def may_call(self, lane: Lane, count: int) -> Grant:
        """How many calls the lane's providers have a slot for now, and which of them."""
        return await self._budget.take(self._accounts(lane), count, lane.priority)

    async def flow(self, lane: Lane) -> Flow:
        """What the lane's providers will carry in the near future."""
        return await self._budget.look(self._accounts(lane), lane.priority)

    async def call_rate(self, lane: Lane) -> float | None:
        """Calls a second that the lane's providers may have now; None: any number."""
        return (await self.flow(lane)).rate

    def _accounts(self, lane: Lane) -> list[str]:
        return [account_of(provider) for provider in self._providers[Mode.LIVE, lane.channel]]

    def category(self, claim: Claim) -> str:
        """The category of `claim`'s template, for metrics."""
        return self._catalogue.category(claim.template)

    def first_wait(self, claim: Claim) -> timedelta | None:
        """The wait of `claim`'s template after a first failure; None if it has no wish of its own."""
        template = self._catalogue.templates.get(claim.template)
        return template.retry.first_wait if template else None

    def prepare(self, claim: Claim, lane: Lane, recipient: Recipient | None) -> Attempt | Ready:
        """Render a delivery for every target that does not have it yet, or say why it cannot be sent."""
        if recipient is None:
            return Attempt(Permanent("recipient_erased"), sent=claim.settled)
        targets = tuple(t for t in recipient.targets(lane.channel) if target_key(t) not in claim.settled)
        if not targets:
            return Attempt(Permanent("no_address"), sent=claim.settled)
        try:
            return Ready(claim, lane, targets, self._render(claim, lane.channel, recipient))
        except TemplateNotFound:
            # A newer release's template: leave it to its workers.
            return Attempt(Transient("template_not_found"), sent=claim.settled)
        except Invalid as error:
            log.warning("render_failed", reason=error.code)
            return Attempt(Permanent(error.code), sent=claim.settled)

    async def call(self, ready: Ready, attempt: Attempt, now: Callable[[], datetime], *, first: int = 0) -> None:
        """Call each target. `now` is the database's clock, `first` the place of the provider that has a slot for us.

        `attempt` is filled as the answers come in, so that a call that is cut short takes none of them along;
        its outcome is set when all are there.
        """
        providers = self._providers[ready.claim.mode, ready.lane.channel]
        providers = providers[first:] if ready.claim.mode is Mode.LIVE else providers
        if ready.claim.mode is Mode.LIVE and len(ready.targets) > 1:
            await self._budget.spend(account_of(providers[0]), len(ready.targets) - 1)
        outcomes = await asyncio.gather(
            *(self._target(ready, target, attempt, now, providers) for target in ready.targets)
        )
        attempt.outcome, _ = combine(
            {target_key(target): outcome for target, outcome in zip(ready.targets, outcomes, strict=True)}
        )

    async def _target(
        self,
        ready: Ready,
        target: Target,
        attempt: Attempt,
        now: Callable[[], datetime],
        providers: Sequence[Provider],
    ) -> Outcome:
        outcome = await self._call(ready, target, attempt, now, providers)
        if isinstance(outcome, Sent):
            attempt.sent |= {target_key(target)}
            attempt.provider_message_id = attempt.provider_message_id or outcome.provider_id
        elif isinstance(outcome, AddressGone):
            attempt.gone += (target,)
        return outcome

    def _render(self, claim: Claim, channel: Channel, recipient: Recipient) -> Content:
        template = self._catalogue.get(claim.template)
        data = check_data(template, claim.data)
        return render(template, channel, data=data, recipient=recipient, locale=recipient.locale, extra=self._extra)

    async def _call(
        self,
        ready: Ready,
        target: Target,
        attempt: Attempt,
        now: Callable[[], datetime],
        providers: Sequence[Provider],
    ) -> Outcome:
        """Ask `providers` in order until one does more than refuse for the moment. The first has a slot for us."""
        claim, lane = ready.claim, ready.lane
        outcome: Outcome = Transient("no_provider", is_outage=False)
        deferral: Transient | None = None
        for position, provider in enumerate(providers):
            if position and not await self._has_slot(provider, claim.mode, lane):
                continue
            at = now()
            ttl = claim.standing.expires_at - at
            if ttl <= timedelta(0):
                return outcome if attempt.calls else EXPIRED
            account = account_of(provider)
            destination = self._destination(account, claim.mode, target)
            if rest := self._rest(account, destination, lane, ttl):
                outcome = Throttled("destination_rests", rest)
                continue
            message = Message(claim.id, claim.attempt, tag_of(claim), target, ready.content, lane.priority, ttl)
            attempt.provider = provider.name
            began = time.monotonic()
            with tracing.call("send", {"notifier.provider": provider.name, "notifier.channel": lane.channel}) as span:
                outcome = await _ask(provider, message, timeout=min(self._timeout, ttl))
                said = type(outcome).__name__.lower()
                failed = None if isinstance(outcome, Sent) else outcome.reason
                span.tell({"notifier.outcome": said}, error=failed)
            took = time.monotonic() - began
            metrics.CALL.labels(provider.name, said).observe(took)
            tell = log.debug if claim.campaign_id else log.info
            tell("provider_called", provider=provider.name, outcome=said, reason=failed, duration_ms=_ms(took))
            attempt.calls.append(_told(outcome, provider.name, target, at, took))
            failpoint.passing("after_call")
            if claim.mode is Mode.LIVE:
                outage = await self._budget.report(account, outcome, destination=destination)
                attempt.outage = outage or attempt.outage
            if isinstance(outcome, Throttled):
                rest = self._rest(account, destination, lane, claim.standing.expires_at - now())
                outcome = replace(outcome, retry_after=max(outcome.retry_after, rest))
            elif not isinstance(outcome, Transient):
                return outcome
            if isinstance(outcome, Transient) and outcome.is_deferral:
                deferral = outcome
        # One who takes it later stays worth waiting for, whatever the others' trouble is.
        return deferral if deferral and isinstance(outcome, Transient) else outcome

    def _destination(self, account: str, mode: Mode, target: Target) -> str | None:
        """The part of the account that a call to `target` asks; None: the account is one, or nobody's (test mode)."""
        name = self._destination_of.get(account)
        return name(target) if name and mode is Mode.LIVE else None

    def _rest(self, account: str, destination: str | None, lane: Lane, life: timedelta) -> timedelta:
        """How long a message with so much life left waits for a destination that rests; zero if it need not."""
        if destination is None:
            return timedelta(0)
        return self._budget.rests.wait(account, destination, priority=lane.priority, life=life)

    async def _has_slot(self, provider: Provider, mode: Mode, lane: Lane) -> bool:
        if mode is Mode.TEST:
            return True
        grant = await self._budget.take([account_of(provider)], 1, lane.priority)
        if grant.count:
            await grant.slot(0).comes()
        return bool(grant.count)


async def _ask(provider: Provider, message: Message, *, timeout: timedelta) -> Outcome:
    """One call, whatever comes of it, in words that can be kept and are about nobody."""
    try:
        outcome = _legible(await provider.send(message, timeout=timeout))
    except Exception as error:  # a bug of ours, after which the provider may or may not have the message
        metrics.ERRORS.labels("provider", type(error).__name__).inc()
        log.exception("provider_raised", provider=provider.name)
        outcome = Unknown(f"provider_raised:{type(error).__name__}")
    return _about_nobody(outcome, message.target)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def account_of(provider: Provider) -> str:
    """The name of a provider's budget. (Each channel has a provider `sandbox`.)"""
    return f"{provider.channel}:{provider.name}"


def tag_of(claim: Claim) -> str:
    """32 hex digits, the same for every attempt of a delivery, or for all with one collapse key of one recipient.

    A recipient's deliveries of one notification or campaign share it: each goes over another channel.
    """
    if claim.collapse_key is None and claim.notification_id is not None:
        return claim.notification_id.hex
    text = f"{claim.service_id}\0{claim.recipient_id}\0{claim.collapse_key or claim.campaign_id}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _legible(outcome: Outcome) -> Outcome:
    """`outcome` without what PostgreSQL cannot keep (NUL, half a surrogate pair): a provider may answer anything."""
    texts = {field.name: getattr(outcome, field.name) for field in fields(outcome)}
    clean: dict[str, Any] = {
        name: text.replace("\0", "\ufffd").encode(errors="replace").decode()
        for name, text in texts.items()
        if isinstance(text, str)
    }
    return replace(outcome, **clean)


def _about_nobody(outcome: Outcome, target: Target) -> Outcome:
    """`outcome` with the provider's words, and its name for the message, less the address."""
    if isinstance(outcome, Sent):
        id = outcome.provider_id
        return replace(outcome, provider_id=unnamed(id, target)) if isinstance(id, str) else outcome
    return replace(outcome, detail=outcome.detail and unnamed(outcome.detail, target))


def _told(outcome: Outcome, provider: str, target: Target, at: datetime, took: float) -> dict[str, Any]:
    """A provider's answer as the timeline tells it: codes, never the address."""
    told: dict[str, Any] = {
        "at": at.astimezone(UTC).isoformat(),
        "provider": provider,
        "target": target_key(target),
        "duration_ms": _ms(took),
        "outcome": type(outcome).__name__.lower(),
        "answer": outcome.reason,
    }
    if isinstance(outcome, Sent):
        return told | {"provider_message_id": outcome.provider_id}
    return told | {"detail": outcome.detail}
