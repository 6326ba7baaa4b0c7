"""What a provider's `Retry-After` header asks for (RFC 9110 §10.2.3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

#: A provider that asks for more is believed this far: a header must not freeze a delivery for days.
LONGEST = timedelta(hours=1)

_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


def parse_retry_after(value: str | None, *, now: datetime) -> timedelta:
    """Seconds or an HTTP-date as a wait from `now`, between zero and LONGEST.

    Zero for no header, for a moment that has passed and for anything that cannot be read.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(timedelta(seconds=min(int(text), 86_400)), LONGEST)
    moment = parse_http_date(text)
    return min(max(moment - now, timedelta(0)), LONGEST) if moment else timedelta(0)


def parse_http_date(value: str | None) -> datetime | None:
    """A `Date` or `Retry-After` moment, aware and in UTC; None if it is none."""
    if not value:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, IndexError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
