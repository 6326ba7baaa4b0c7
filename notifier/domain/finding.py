"""What was found out about why somebody did or did not get a message, in words and codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

#: Findings that an answer names one by one; of more it says how many.
_NAMED = 3


class Code(StrEnum):
    """Every finding there is. docs/explain.md says what each means."""

    # what became of a delivery
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    EXPIRED = "expired"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    SUPPRESSED = "suppressed"
    NO_ADDRESS = "no_address"
    ADDRESS_INVALID = "address_invalid"
    RECIPIENT_NOT_FOUND = "recipient_not_found"
    # what it waits for
    WAITS_FOR_SEND_AT = "waits_for_send_at"
    WAITS_FOR_RETRY = "waits_for_retry"
    WAITS_FOR_BUDGET = "waits_for_budget"
    WAITS_IN_LANE = "waits_in_lane"
    WAITS_FOR_RESUME = "waits_for_resume"
    WAITS_FOR_WINDOW = "waits_for_window"
    ENDS_WITH_CAMPAIGN = "ends_with_campaign"
    SENDING = "sending"
    # how it came about
    IN_AUDIENCE = "in_audience"
    SENT_TO_SOME = "sent_to_some"
    REPLAYABLE = "replayable"
    UNKNOWN_HELD = "unknown_held"
    UNKNOWN_RETRIED = "unknown_retried"
    UNKNOWN_NOT_RETRIED = "unknown_not_retried"
    UNKNOWN_RETRY_DUE = "unknown_retry_due"
    UNKNOWN_RETRY_HELD = "unknown_retry_held"
    IDEMPOTENCY_KEY = "idempotency_key"
    OLDER_LEFT_OUT = "older_left_out"
    NOTHING_ACCEPTED = "nothing_accepted"
    # why a campaign has made nothing for somebody
    CAMPAIGN_NOT_STARTED = "campaign_not_started"
    CAMPAIGN_PAUSED = "campaign_paused"
    CAMPAIGN_CANCELLED = "campaign_cancelled"
    CAMPAIGN_FAILED = "campaign_failed"
    CAMPAIGN_EXPIRED = "campaign_expired"
    CAMPAIGN_FINISHED = "campaign_finished"
    CAMPAIGN_REPEATS = "campaign_repeats"
    AUDIENCE_EMPTY = "audience_empty"
    BEFORE_ID_RANGE = "before_id_range"
    BEYOND_ID_RANGE = "beyond_id_range"
    ENROLLED_AFTER_BOUND = "enrolled_after_bound"
    RECIPIENT_UNKNOWN = "recipient_unknown"
    LOCALE_DOES_NOT_FIT = "locale_does_not_fit"
    ATTRIBUTES_DO_NOT_FIT = "attributes_do_not_fit"
    HAS_NO_SUCH_CHANNEL = "has_no_such_channel"
    NOT_YET_WALKED = "not_yet_walked"
    NEVER_WALKED = "never_walked"
    NOT_RETURNED_BY_SOURCE = "not_returned_by_source"
    ENROLLED_AFTER_WALK = "enrolled_after_walk"
    CHANGED_SINCE_WALK = "changed_since_walk"
    WALKED_PAST = "walked_past"


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason. `says` is a sentence; `detail` has what a program would want to know of it."""

    code: Code
    says: str
    at: datetime | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    #: Whether it belongs in the answer; the others tell how it came about.
    leads: bool = True

    def to_json(self) -> dict[str, Any]:
        at = None if self.at is None else self.at.isoformat()
        return {"code": self.code, "says": self.says, "at": at, "detail": dict(self.detail)}


def answer(findings: Sequence[Finding]) -> str:
    """One plain sentence of the findings that lead."""
    leading = [finding.says.rstrip(".") for finding in findings if finding.leads]
    told = leading[:_NAMED] + ([f"and {len(leading) - _NAMED} more"] if len(leading) > _NAMED else [])
    return "; ".join([*told[:1], *(_within(text) for text in told[1:])]) + "."


def clock(moment: datetime) -> str:
    """A moment in a sentence, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def span(seconds: float) -> str:
    """A length of time in a sentence."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = timedelta(seconds=int(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    days = f"{whole.days} d " if whole.days else ""
    return f"{days}{hours} h {rest // 60} min" if days or hours else f"{rest // 60} min {rest % 60} s"


def _within(sentence: str) -> str:
    """A sentence as it stands after a semicolon."""
    first, *_ = sentence.split(" ", 1)
    return sentence[0].lower() + sentence[1:] if first in {"The", "A", "No", "It", "Recipient"} else sentence
