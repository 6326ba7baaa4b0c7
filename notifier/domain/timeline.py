"""Decisions about a delivery as a reader is told of them, one item each with its time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def decisions(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What one row of history tells: an attempt tells of its hint, its claim and each call as well."""
    channel, detail = event["channel"], dict(event["detail"] or {})
    shared = {"delivery_id": event["delivery_id"], "attempt": event["attempt"]}
    items = []
    if hinted_at := detail.pop("hinted_at", None):
        items.append(event_of(_moment(hinted_at), "hinted", channel, by=detail.pop("hinted_by", None), **shared))
    if claimed_at := detail.pop("claimed_at", None):
        items.append(event_of(_moment(claimed_at), "claimed", channel, **shared))
    for call in detail.pop("calls", ()):
        called_at = _moment(call.pop("at"))
        items.append(event_of(called_at, "provider_called", channel, **shared, **call))
    items.append(event_of(event["at"], event["status_to"], channel, reason=event["reason"], **shared, **detail))
    return items


def event_of(at: datetime, what: str, channel: str | None, **rest: Any) -> dict[str, Any]:
    """One item of a timeline."""
    return {"at": at.isoformat(), "event": what, "channel": channel, **rest}


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
