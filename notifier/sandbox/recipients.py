"""Simulated recipients: addresses that give a team each outcome on purpose.

Write the name as the local part of a mail address, at the beginning of an FCM token, or of the id (the last
part of the endpoint) of a subscription: `bounced@shop.example`, `down+7@…`, `slow:token-1`, `gone-3`. A name
ends where no letter follows. A fault script (`PUT /faults`) that fits goes before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from notifier.sandbox.plan import PLAIN, Ending, Plan, Provider, Refusal

SES, FCM, WEBPUSH, SMTP = Provider


@dataclass(frozen=True, slots=True)
class Simulated:
    """What the name stands for. A provider without a plan of its own takes the `plan` for all."""

    says: str
    plan: Plan = PLAIN
    by_provider: Mapping[Provider, Plan] = field(default_factory=dict)


def _refusals(**refusals: Refusal) -> dict[Provider, Plan]:
    return {Provider(name): Plan(refusal=refusal) for name, refusal in refusals.items()}


_GONE = _refusals(
    fcm=Refusal(error="UNREGISTERED"), webpush=Refusal(status=410), smtp=Refusal(status=550, error="5.1.1")
)

SIMULATED: dict[str, Simulated] = {
    "delivered": Simulated("accepted, and delivered"),
    "bounced": Simulated("accepted; bounces later"),
    "complaint": Simulated("accepted; the reader complains later"),
    "slow": Simulated("accepted; the answer takes 2 s", Plan(delay=2.0)),
    "down": Simulated(
        "provider unavailable (503, UNAVAILABLE, SMTP 451)",
        by_provider=_refusals(
            ses=Refusal(status=503), fcm=Refusal(error="UNAVAILABLE"), webpush=Refusal(status=503), smtp=Refusal(451)
        ),
    ),
    "throttled": Simulated(
        "too many requests (429, QUOTA_EXCEEDED, SMTP 454); Retry-After where the provider has it",
        by_provider=_refusals(
            ses=Refusal(error="TooManyRequestsException"),
            fcm=Refusal(error="QUOTA_EXCEEDED", retry_after="10"),
            webpush=Refusal(status=429, retry_after="10"),
            smtp=Refusal(454),
        ),
    ),
    "rejected": Simulated(
        "refused for good (MessageRejected, INVALID_ARGUMENT, 400, SMTP 554)",
        by_provider=_refusals(
            ses=Refusal(error="MessageRejected"),
            fcm=Refusal(error="INVALID_ARGUMENT"),
            webpush=Refusal(status=400),
            smtp=Refusal(554),
        ),
    ),
    "gone": Simulated("nobody there now (UNREGISTERED, 410, SMTP 550; SES accepts, it bounces)", by_provider=_GONE),
    "unregistered": Simulated("the same as gone", by_provider=_GONE),
    "unknown": Simulated(
        "never heard of (FCM: no valid token, Web Push: 404)",
        by_provider=_refusals(
            fcm=Refusal(error="INVALID_TOKEN"), webpush=Refusal(status=404), smtp=Refusal(status=550, error="5.1.1")
        ),
    ),
    "mismatch": Simulated(
        "belongs to another sender (SENDER_ID_MISMATCH, 403)",
        by_provider=_refusals(fcm=Refusal(error="SENDER_ID_MISMATCH"), webpush=Refusal(status=403)),
    ),
    "hang": Simulated("never answered, not accepted", Plan(ending=Ending.HANG, accepts=False)),
    "reset": Simulated("connection reset, not accepted", Plan(ending=Ending.RESET, accepts=False)),
    "accepted-hang": Simulated("accepted, but never answered", Plan(ending=Ending.HANG)),
    "accepted-reset": Simulated("accepted, then the connection is reset", Plan(ending=Ending.RESET)),
    "garbage": Simulated("answered with nonsense, not accepted", Plan(ending=Ending.GARBAGE, accepts=False)),
}

_NAME = re.compile(rf"({'|'.join(sorted(SIMULATED, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)


def name_in(provider: Provider, address: str) -> str | None:
    """The simulated recipient that `address` names, if it names one."""
    text = address.rstrip("/").rpartition("/")[2] if provider is Provider.WEBPUSH else address
    match = _NAME.match(text)
    return match[1].lower() if match else None


def simulated(provider: Provider, address: str) -> Plan | None:
    """What `address` asks for by its name; None if it is nobody in particular."""
    name = name_in(provider, address)
    return _PLANS[name, provider] if name else None


def _named(name: str, provider: Provider) -> Plan:
    entry = SIMULATED[name]
    plan = entry.by_provider.get(provider, entry.plan)
    return Plan(refusal=plan.refusal, delay=plan.delay, ending=plan.ending, accepts=plan.accepts, cause=name)


_PLANS = {(name, provider): _named(name, provider) for name in SIMULATED for provider in Provider}
