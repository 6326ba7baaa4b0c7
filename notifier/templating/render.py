"""Templates become content: in the recipient's language, within bounds, with nothing unsafe in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from jinja2 import Template as Compiled
from jinja2 import UndefinedError
from jinja2.exceptions import SecurityError

from notifier.domain.content import Content, DesktopContent, EmailContent, PushContent
from notifier.domain.errors import ChannelNotInTemplate, TemplateRenderFailed
from notifier.domain.notification import Channel
from notifier.domain.recipient import Recipient
from notifier.templating.catalogue import Template
from notifier.templating.filters import is_safe_link
from notifier.templating.names import SUBJECT, Extra, Shared
from notifier.templating.parts import DEFAULT, Parts, fallbacks
from notifier.templating.sandbox import Allowance, Exhausted, Unsafe, run
from notifier.templating.variables import Unfit, resolved

#: Largest parts, in bytes of UTF-8.
MAX_HTML = 512 * 1024
MAX_TEXT = 128 * 1024
MAX_FIELD = 4 * 1024
#: Longest subject, in characters; no client shows more than a third of it.
MAX_SUBJECT = 255

#: What ends a line or moves the writing direction: none of it has any business in a header.
_NOT_IN_A_LINE = re.compile("[\x00-\x20\x7f-\xa0\u00ad\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
_BLANK_LINES = re.compile(r"[ \t]*\n(?:[ \t]*\n){2,}")


def render(
    template: Template,
    channel: Channel,
    *,
    data: Mapping[str, Any],
    recipient: Recipient,
    locale: str | None,
    extra: Extra,
) -> Content:
    """What `recipient` will read on `channel`, in the nearest language to `locale` that the template has.

    A template sees its variables and the names of `names.Shared`, and no others. Raises ChannelNotInTemplate,
    or TemplateRenderFailed, which names the part and what went wrong but never a value.
    """
    by_locale = template.parts.get(channel)
    if by_locale is None:
        names = ", ".join(template.channels)
        raise ChannelNotInTemplate(f"Template {template.name} has no {channel}; it has {names}.")
    chosen = next(tried for tried in fallbacks(locale) if tried in by_locale)
    language = _language(chosen or template.locale, locale)
    job = _Render(template, channel, Allowance(language, _zone(recipient.timezone)))
    shared: Shared = {
        **extra,
        "lang": str(language).replace("_", "-"),
        "recipient": {"id": recipient.id, "attributes": dict(recipient.attributes)},
    }
    values = {**shared, **job.attempt("data", lambda: resolved(template, data, recipient.attributes))}
    return _BUILD[channel](job, by_locale[chosen], values)


class _Render:
    """One render: all its parts share one allowance, and fail alike."""

    def __init__(self, template: Template, channel: Channel, allowed: Allowance) -> None:
        self.template = template
        self.channel = channel
        self.allowed = allowed

    def part(self, name: str, compiled: Compiled, values: Mapping[str, Any], limit_bytes: int) -> str:
        text: str = self.attempt(name, lambda: run(compiled, values, self.allowed, limit_bytes=limit_bytes))
        return text

    def attempt(self, part: str, act: Callable[[], Any]) -> Any:
        """What `act` returns; TemplateRenderFailed when it raises, for values are in Jinja2's own messages."""
        try:
            return act()
        except Exception as error:  # a template can raise anything that an expression can
            problem = _problem(error)
        # Raised out here, so that the error with its values is not even its context.
        raise TemplateRenderFailed(f"Template {self.template.name}, {self.channel} {part}: {problem}.")

    def fields(self, parts: Parts, values: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
        """The rendered fields and data of a JSON part."""
        fields = {key: self.part(key, one, values, MAX_FIELD).strip() for key, one in parts.fields.items()}
        data = {key: self.part(f"data.{key}", one, values, MAX_FIELD) for key, one in parts.data.items()}
        fields["title"] = one_line(fields["title"])
        for key in ("url", "image", "icon"):
            if (link := fields.get(key)) and not (is_safe_link(link) and link.startswith("http")):
                raise TemplateRenderFailed(
                    f"Template {self.template.name}, {self.channel} {key}: is not an http or https URL."
                )
        return fields, data


def _problem(error: Exception) -> str:
    match error:
        case Exhausted() | Unsafe():
            return str(error.message)
        case SecurityError():
            return "reaches for what templates may not touch"
        case UndefinedError():
            return "uses something that is not there; `notifier templates check` names undeclared variables"
        case Unfit():
            return f"a value {error.message}"
        case UnicodeError():
            return "a value is not valid Unicode text"
        case RecursionError():
            return "is nested too deeply"
        case _:
            return f"an expression failed ({type(error).__name__})"


def _email(job: _Render, parts: Parts, values: dict[str, Any]) -> EmailContent:
    subject = one_line(job.part("subject", parts.fields["subject"], values, MAX_FIELD))
    values[SUBJECT] = subject
    text = job.part("text", parts.fields["text"], values, MAX_TEXT)
    return EmailContent(
        subject=subject,
        text=_BLANK_LINES.sub("\n\n", text).strip() + "\n",
        html=job.part("html", parts.fields["html"], values, MAX_HTML),
    )


def _push(job: _Render, parts: Parts, values: dict[str, Any]) -> PushContent:
    fields, data = job.fields(parts, values)
    return PushContent(fields["title"], fields["body"], fields.get("url") or None, fields.get("image") or None, data)


def _desktop(job: _Render, parts: Parts, values: dict[str, Any]) -> DesktopContent:
    fields, data = job.fields(parts, values)
    return DesktopContent(fields["title"], fields["body"], fields.get("url") or None, fields.get("icon") or None, data)


_BUILD: Mapping[Channel, Callable[[_Render, Parts, dict[str, Any]], Content]] = MappingProxyType(
    {Channel.EMAIL: _email, Channel.PUSH: _push, Channel.DESKTOP: _desktop}
)


def one_line(text: str) -> str:
    """`text` as one line of at most MAX_SUBJECT characters: breaks, controls and direction marks become one space."""
    line = _NOT_IN_A_LINE.sub(" ", text).strip()
    return line if len(line) <= MAX_SUBJECT else line[: MAX_SUBJECT - 1].rstrip() + "…"


@lru_cache(maxsize=256)
def _language(written: str, asked: str | None) -> Locale:
    """How numbers and dates are written: as the reader asked if the text is in that language, else as the text is."""
    own = Locale.parse(written, sep="-")
    for tried in fallbacks(asked):
        if tried != DEFAULT:
            try:
                wanted = Locale.parse(tried, sep="-")
            except (ValueError, UnknownLocaleError):
                continue
            return wanted if wanted.language == own.language else own
    return own


@lru_cache(maxsize=1024)
def _zone(name: str | None) -> ZoneInfo | None:
    """The timezone called `name`, or None if there is none: a stored name must not stop a message."""
    try:
        return ZoneInfo(name) if name else None
    except (ValueError, OSError, LookupError):
        return None
