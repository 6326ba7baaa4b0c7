"""What a person will read, rendered and ready for any provider of its channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EmailContent:
    """A mail: `subject` has no line break; `html` is a whole document with its CSS inlined."""

    subject: str
    text: str
    html: str | None = None


@dataclass(frozen=True, slots=True)
class PushContent:
    """A phone notification. `data` reaches the app; keys and values are text (FCM takes nothing else)."""

    title: str
    body: str
    url: str | None = None
    image: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DesktopContent:
    """A browser notification, in the words of the Notifications API (title, body, icon, url)."""

    title: str
    body: str
    url: str | None = None
    icon: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)


Content = EmailContent | PushContent | DesktopContent
