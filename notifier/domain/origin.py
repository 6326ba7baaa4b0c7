"""The HTTP request that asked for something: one id from there to the provider's call, for logs and traces only.

It decides nothing. Who reads it (from a header, from a hint) believes its form and no more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: No space and no "@": a caller's id for a request must not be somebody's name or address.
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
#: W3C Trace Context §3.2, version 00; ids of zeros only are invalid.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Origin:
    """A request's id, and its place in a trace (`traceparent`) if traces are made."""

    request_id: str
    traceparent: str | None = None

    @classmethod
    def read(cls, request_id: object, traceparent: object = None) -> Origin | None:
        """What somebody says that we cannot trust; None if the id is none."""
        if not (isinstance(request_id, str) and is_request_id(request_id)):
            return None
        is_sound = isinstance(traceparent, str) and _TRACEPARENT.fullmatch(traceparent) is not None
        return cls(request_id, str(traceparent) if is_sound else None)


def is_request_id(text: str) -> bool:
    """Whether a request may be called that: 1 to 64 letters, digits and `._:-`, a letter or digit first."""
    return _REQUEST_ID.fullmatch(text) is not None
