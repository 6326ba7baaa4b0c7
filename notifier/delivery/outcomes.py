"""What each state of a delivery means to somebody who asks, in words and codes. Pure: rows in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notifier.domain.delivery import Status
from notifier.domain.finding import Code, Finding, clock, span
from notifier.domain.notification import Channel, Lane, Priority
from notifier.domain.timeline import stays, waited
from notifier.store.explanations import Explained
from notifier.store.waits import NO_BUDGET

Events = Sequence[Mapping[str, Any]]

#: Why somebody could not be told, by the reason on the row. Others are told by their code.
_SUPPRESSED = {
    "no_address": "the recipient had no address for it",
    "address_invalid": "the address that the source gave is malformed",
    "recipient_not_found": "the source gave no address, and the directory does not have the recipient",
}
_FAILED = {
    "no_address": "the recipient had no address for it any more",
    "recipient_erased": "the recipient was erased before it was sent",
    "template_data_invalid": "its data does not fit the template any more",
    "template_data_missing": "the template needs variables that its data does not have",
    "template_render_failed": "the template could not be rendered with its data",
}
_UNKNOWN = {
    "worker_lost": "the worker died in the call",
    "worker_stopped": "the worker was stopped in the call",
    "lease_running_out": "the call took longer than a worker may hold a delivery",
}


@dataclass(frozen=True, slots=True)
class _Case:
    row: Explained
    events: Events
    now: datetime
    backlog: int

    @property
    def the(self) -> str:
        """The delivery, as a sentence begins with it."""
        whose = f"campaign {self.row.campaign_id}" if self.row.campaign_id else f"the {self.row.template} notification"
        return f"The {self.row.channel} delivery of {whose}"

    @property
    def last_call(self) -> dict[str, Any] | None:
        """The provider's last answer, if one was ever asked."""
        calls = [call for event in self.events for call in (event["detail"] or {}).get("calls", ())]
        return dict(calls[-1]) if calls else None

    @property
    def said(self) -> str:
        """What the provider said last, in words."""
        call = self.last_call
        if call is None:
            return "no provider was asked"
        words = f" ({call['detail']})" if call.get("detail") else ""
        return f"{call['provider']} answered {call['answer']}{words}"

    @property
    def lane(self) -> Lane:
        return Lane(Priority(self.row.priority), Channel(self.row.channel))

    def found(
        self,
        code: Code,
        says: str,
        detail: Mapping[str, Any] | None = None,
        *,
        leads: bool = True,
        at: datetime | None = None,
    ) -> Finding:
        kept = {name: value for name, value in (detail or {}).items() if value is not None}
        return Finding(code, f"{self.the} {says}.", at or self.row.updated_at, kept, leads)


def findings(row: Explained, events: Events, *, now: datetime, backlog: int) -> list[Finding]:
    """What is to be said of one delivery; the first finding is its outcome. `backlog`: how many its lane has queued."""
    case = _Case(row, events, now, backlog)
    found = _OUTCOMES[Status(row.status)](case)
    if row.campaign_id is not None:
        at = f" by chunk {row.chunk} of the walk" if row.chunk is not None else ""
        says = f"The recipient is in the audience of campaign {row.campaign_id}{at}, at {clock(row.created_at)}."
        found.append(Finding(Code.IN_AUDIENCE, says, row.created_at, {"chunk": row.chunk}, leads=False))
    if (reason := row.reason or "").startswith("sent_to_some:"):
        rest = reason.removeprefix("sent_to_some:")
        says = f"reached some of the recipient's devices; the others: {rest}"
        found.append(case.found(Code.SENT_TO_SOME, says, {"reason": rest}, leads=False))
    if row.status != Status.UNKNOWN:
        found += [
            case.found(
                Code.UNKNOWN_RETRIED,
                f"had an attempt of which nobody knows what came ({event['reason']}); on_unknown is retry, so it was "
                "tried again",
                {"reason": event["reason"]},
                leads=False,
                at=event["at"],
            )
            for event in events
            if event["status_to"] == Status.UNKNOWN
        ]
    return found


def _sent(case: _Case) -> list[Finding]:
    row = case.row
    words = {
        Status.SENT: "was sent",
        Status.DELIVERED: "was delivered",
        Status.BOUNCED: "was sent, and came back",
        Status.COMPLAINED: "was delivered, and the recipient complained of it as spam",
    }
    says = f"{words[Status(row.status)]}: {row.provider or 'the provider'} has accepted it"
    if (accepted := _at(case.events, Status.SENT)) is not None:
        says += f" at {clock(accepted)}"
    if row.status != Status.SENT and row.reason:
        says += f", and told later: {row.reason}"
    detail = {
        "provider": row.provider,
        "provider_message_id": row.provider_message_id,
        "attempts": row.attempt,
        "last_answer": case.last_call,
        "reason": row.reason,
    }
    return [case.found(Code(row.status), says, detail)]


def _expired(case: _Case) -> list[Finding]:
    row, end = case.row, case.row.updated_at
    where = waited(stays(row, case.events))
    says = f"expired at {clock(end)}, {span((end - row.created_at).total_seconds())} after it was asked for"
    if where:
        told = ", ".join(
            f"{span(each['seconds'])} {each['in']}" + (f" ({each['why']})" if each["why"] else "")
            for each in where
            if each["seconds"] >= 0.05 or len(where) == 1
        )
        says += f"; it had waited {told}" if told else ""
    waited_for = next((_detail(event).get("waited_for") for event in reversed(case.events)), None)
    if waited_for == NO_BUDGET:
        says += ", at last for its provider's budget"
    if case.last_call:
        says += f"; {case.said}"
    detail = {
        "reason": row.reason,
        "waited": where,
        "waited_for": waited_for,
        "queue": case.lane.queue,
        "attempts": row.attempt,
        "last_answer": case.last_call,
    }
    return [case.found(Code.EXPIRED, says, detail, at=end)]


def _suppressed(case: _Case) -> list[Finding]:
    reason = case.row.reason or "suppressed"
    if reason in _SUPPRESSED:
        return [case.found(Code(reason), f"was not sent: {_SUPPRESSED[reason]}", {"reason": reason})]
    why = reason.removeprefix("suppressed:")
    return [case.found(Code.SUPPRESSED, f"was not sent: the address is suppressed ({why})", {"reason": reason})]


def _failed(case: _Case) -> list[Finding]:
    row = case.row
    reason = row.reason or "failed"
    used_up = reason.startswith("attempts_used_up:")
    why = f"its {row.attempt} attempts are used up; {case.said}" if used_up else _FAILED.get(reason, case.said)
    if case.last_call is None and reason not in _FAILED:
        why = reason
    detail = {"reason": reason, "attempts": row.attempt, "provider": row.provider, "last_answer": case.last_call}
    hint = case.found(Code.REPLAYABLE, "is kept as a dead letter and can be replayed", leads=False)
    return [case.found(Code.FAILED, f"failed at {clock(row.updated_at)}: {why}", detail), hint]


def _cancelled(case: _Case) -> list[Finding]:
    by = next((_detail(event).get("by") for event in case.events if event["status_to"] == Status.CANCELLED), None)
    if case.row.reason == "campaign_cancelled":
        says = "was cancelled with its campaign, by the service that owns it"
    else:
        says = "was cancelled by the service that had asked for it" + (f", with the key {by}" if by else "")
    says += f", at {clock(case.row.updated_at)}, before it was with a provider"
    return [case.found(Code.CANCELLED, says, {"reason": case.row.reason, "by": by})]


def _unknown(case: _Case) -> list[Finding]:
    row, reason = case.row, case.row.reason or "unknown"
    why = _UNKNOWN.get(reason, case.said if case.last_call else reason)
    says = f"may or may not have arrived: {why}, at {clock(row.updated_at)}"
    detail = {"reason": reason, "attempts": row.attempt, "provider": row.provider, "last_answer": case.last_call}
    if row.due_at is not None and row.goes_out is False:
        policy = case.found(Code.UNKNOWN_RETRY_HELD, "is tried again when its campaign goes on", leads=False)
    elif row.due_at is not None:
        says_when = f"is tried once more at {clock(row.due_at)}, since on_unknown is retry"
        policy = case.found(Code.UNKNOWN_RETRY_DUE, says_when, leads=False, at=row.due_at)
    elif row.on_unknown == "hold":
        says_held = "is held: on_unknown is hold, so it is never sent a second time"
        policy = case.found(Code.UNKNOWN_HELD, says_held, leads=False)
    else:
        says_not = "is not tried again: its one retry was used up, or did not fit before it expires"
        policy = case.found(Code.UNKNOWN_NOT_RETRIED, says_not, leads=False)
    return [case.found(Code.UNKNOWN, says, detail | {"on_unknown": row.on_unknown}), policy]


def _scheduled(case: _Case) -> list[Finding]:
    at = case.row.send_at or case.row.due_at
    return [case.found(Code.WAITS_FOR_SEND_AT, f"waits until {clock(at)}" if at else "waits", at=at)]


def _retrying(case: _Case) -> list[Finding]:
    if (held := _held(case)) is not None:
        return [held]
    row = case.row
    when = f" at {clock(row.due_at)}" if row.due_at else ""
    says = f"waits to be tried again{when}: {case.said if case.last_call else row.reason}"
    detail = {"reason": row.reason, "attempts": row.attempt, "last_answer": case.last_call}
    return [case.found(Code.WAITS_FOR_RETRY, says, detail, at=row.due_at)]


def _queued(case: _Case) -> list[Finding]:
    row, queue = case.row, case.lane.queue
    if (held := _held(case)) is not None:
        return [held]
    if row.reason == NO_BUDGET:
        return [case.found(Code.WAITS_FOR_BUDGET, "waits for its provider's budget", {"queue": queue}, at=row.due_at)]
    says = f"is queued in {queue} with {case.backlog} deliveries, itself among them"
    return [case.found(Code.WAITS_IN_LANE, says, {"queue": queue, "queued": case.backlog})]


def _sending(case: _Case) -> list[Finding]:
    row = case.row
    since = f" since {clock(row.claimed_at)}" if row.claimed_at else ""
    until = f", and is looked after at {clock(row.due_at)} if the worker is lost" if row.due_at else ""
    return [
        case.found(Code.SENDING, f"is in a worker's hands{since}{until}", {"attempt": row.attempt}, at=row.claimed_at)
    ]


def _held(case: _Case) -> Finding | None:
    """What holds back a delivery of a campaign, if anything does."""
    row = case.row
    if row.goes_out is not False:
        return None
    detail = {"campaign_status": row.campaign_status, "status_reason": row.campaign_reason}
    if row.campaign_status == "paused":
        why = f" ({row.campaign_reason})" if row.campaign_reason else ""
        return case.found(Code.WAITS_FOR_RESUME, f"waits: its campaign is paused{why}", detail)
    if row.campaign_status in ("running", "finished"):
        return case.found(Code.WAITS_FOR_WINDOW, "waits for its campaign's send window to open", detail)
    return case.found(Code.ENDS_WITH_CAMPAIGN, f"ends with its campaign, which is {row.campaign_status}", detail)


def _at(events: Events, status: Status) -> datetime | None:
    moments: list[datetime] = [event["at"] for event in events if event["status_to"] == status]
    return moments[-1] if moments else None


def _detail(event: Mapping[str, Any]) -> Mapping[str, Any]:
    return event["detail"] or {}


_OUTCOMES: dict[Status, Callable[[_Case], list[Finding]]] = {
    Status.SCHEDULED: _scheduled,
    Status.QUEUED: _queued,
    Status.SENDING: _sending,
    Status.RETRYING: _retrying,
    Status.SENT: _sent,
    Status.DELIVERED: _sent,
    Status.BOUNCED: _sent,
    Status.COMPLAINED: _sent,
    Status.UNKNOWN: _unknown,
    Status.EXPIRED: _expired,
    Status.CANCELLED: _cancelled,
    Status.SUPPRESSED: _suppressed,
    Status.FAILED: _failed,
}
