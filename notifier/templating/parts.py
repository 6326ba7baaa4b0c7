"""The parts of a template: which files each channel is made of, in which locales, compiled.

email: `email.subject.txt`, `email.html`, and `email.txt` (made from the HTML when there is none).
push, desktop: one JSON file whose string values are templates. A locale stands before the ending:
`email.subject.de.txt`, `email.de.html`, `push.de-AT.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Template as Compiled
from jinja2 import TemplateError, TemplateSyntaxError, meta

from notifier.domain.errors import TemplatesInvalid
from notifier.domain.notification import Channel
from notifier.templating.filters import KNOWN
from notifier.templating.markup import as_text, inlined
from notifier.templating.names import SHARED, SUBJECT
from notifier.templating.sandbox import Sandbox
from notifier.templating.source import composed, read

LAYOUTS = "_layouts"
#: The locale of the files that have none in their names.
DEFAULT = ""

HTML = Sandbox(html=True, filters=KNOWN)
TEXT = Sandbox(html=False, filters=KNOWN)

#: file stem, ending and whether the channel can do without it
_FILES: Mapping[Channel, tuple[tuple[str, str, bool], ...]] = {
    Channel.EMAIL: (("email.subject", "txt", True), ("email", "html", True), ("email", "txt", False)),
    Channel.PUSH: (("push", "json", True),),
    Channel.DESKTOP: (("desktop", "json", True),),
}
_LOCALE = r"(?:\.([a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*))?"
#: The keys of a JSON part beside `title` and `body`.
_OPTIONAL_KEYS = {Channel.PUSH: ("url", "image"), Channel.DESKTOP: ("url", "icon")}


@dataclass(frozen=True, slots=True)
class Source:
    """One template text as written: where it stands, and with its layouts filled in."""

    path: Path
    text: str
    #: `key` within a JSON part; empty for a file that is one template
    key: str = ""
    #: the names that a send gives to it, beside the template's variables
    names: frozenset[str] = SHARED

    def __str__(self) -> str:
        return f"{self.path}{': ' + self.key if self.key else ''}"

    def names_used(self) -> set[str]:
        """The names that it uses and does not set itself; the source must be one that compiles."""
        return meta.find_undeclared_variables(TEXT.parse(self.text)) - TEXT.globals.keys()


@dataclass(frozen=True, slots=True)
class Parts:
    """One channel in one locale, ready to render. `fields` by name: subject, text, html or title, body, url, …"""

    fields: Mapping[str, Compiled]
    data: Mapping[str, Compiled]
    sources: tuple[Source, ...]


class Folder:
    """One template's folder, read once; `bytes_read` by file name is what its version is made of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bytes_read: dict[str, bytes] = {}

    def channel(self, channel: Channel) -> dict[str, Parts]:
        """The parts of `channel` by locale (lower case; DEFAULT without one). TemplatesInvalid if one is missing."""
        found = self._files(channel)
        for stem, ending, needed in _FILES[channel]:
            for locale in {DEFAULT, *found}:
                if needed and (stem, ending) not in found.get(locale, {}):
                    dot_locale = f".{locale}" if locale else ""
                    raise TemplatesInvalid(f"{self.folder / f'{stem}{dot_locale}.{ending}'}: this part is missing")
        build = self._email if channel is Channel.EMAIL else self._json
        return {locale: build(channel, locale, files) for locale, files in found.items()}

    def _files(self, channel: Channel) -> dict[str, dict[tuple[str, str], Path]]:
        found: dict[str, dict[tuple[str, str], Path]] = {}
        for path in sorted(self.folder.iterdir()):
            for stem, ending, _ in _FILES[channel]:
                if match := re.fullmatch(re.escape(stem) + _LOCALE + re.escape(f".{ending}"), path.name):
                    found.setdefault((match[1] or DEFAULT).lower(), {})[stem, ending] = path
        return found

    def _email(self, _: Channel, locale: str, files: Mapping[tuple[str, str], Path]) -> Parts:
        subject = Source(path := files["email.subject", "txt"], self._composed(path, locale))
        after_subject = SHARED | {SUBJECT}
        html = Source(path := files["email", "html"], self._composed(path, locale), names=after_subject)
        sources = [subject, html]
        if path_of_text := files.get(("email", "txt")):
            text = Source(path_of_text, self._composed(path_of_text, locale), names=after_subject)
            sources.append(text)
        else:
            text = Source(html.path, _understood(html, lambda: as_text(html.text)), "as text")
        fields = {
            "subject": _compiled(subject, TEXT),
            "text": _compiled(text, TEXT),
            "html": _compiled(Source(html.path, _understood(html, lambda: inlined(html.text))), HTML),
        }
        return Parts(fields, {}, tuple(sources))

    def _json(self, channel: Channel, _: str, files: Mapping[tuple[str, str], Path]) -> Parts:
        path = files[channel.value, "json"]
        self._note(path)
        try:
            document = json.loads(read(path))
        except ValueError as error:
            raise TemplatesInvalid(f"{path}: is not JSON ({error})") from None
        except RecursionError:
            raise TemplatesInvalid(f"{path}: is nested too deeply") from None
        fields, data = _fields(path, document, _OPTIONAL_KEYS[channel])
        sources = [Source(path, text, key) for key, text in fields.items()]
        sources += [Source(path, text, f"data.{key}") for key, text in data.items()]
        return Parts(
            {key: _compiled(Source(path, text, key), TEXT) for key, text in fields.items()},
            {key: _compiled(Source(path, text, f"data.{key}"), TEXT) for key, text in data.items()},
            tuple(sources),
        )

    def _composed(self, path: Path, locale: str) -> str:
        self._note(path)
        source = Source(path, read(path))
        return _understood(source, lambda: composed(source.text, lambda name: self._layout(name, locale)))

    def _layout(self, name: str, locale: str) -> str | None:
        """A file of `_layouts/`, in the locale if it is there: `email.html` → `email.de.html`."""
        stem, _, ending = name.rpartition(".")
        layouts = self.folder.parent / LAYOUTS
        names = [f"{stem}.{tried}.{ending}" for tried in fallbacks(locale) if tried] + [name]
        files = {path.name.lower(): path for path in layouts.iterdir()} if layouts.is_dir() else {}
        for candidate in names:
            if path := files.get(candidate.lower()):
                self._note(path)
                return read(path)
        return None

    def _note(self, path: Path) -> None:
        if path.is_file():
            self.bytes_read[path.relative_to(self.folder.parent).as_posix()] = path.read_bytes()


def fallbacks(locale: str | None) -> Iterator[str]:
    """`de-AT-x` → de-at-x, de-at, de, and DEFAULT at the end: where to look for a locale's texts, best first."""
    subtags = [tag for tag in re.split(r"[-_]", (locale or "").lower()[:35]) if tag]
    for length in range(len(subtags), 0, -1):
        yield "-".join(subtags[:length])
    yield DEFAULT


def _fields(path: Path, document: Any, optional: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """What a JSON part says, as (fields, data); TemplatesInvalid for anything it may not say."""
    if not isinstance(document, dict):
        raise TemplatesInvalid(f"{path}: must be an object with title and body")
    known = {"title", "body", *optional, "data"}
    if unknown := sorted(document.keys() - known):
        raise TemplatesInvalid(f"{path}: {unknown[0]!r} is not known; known are {', '.join(sorted(known))}")
    if missing := [key for key in ("title", "body") if key not in document]:
        raise TemplatesInvalid(f"{path}: {missing[0]!r} is missing")
    data = document.get("data", {})
    fields = {key: text for key, text in document.items() if key != "data"}
    if not isinstance(data, dict) or not all(isinstance(text, str) for text in (*fields.values(), *data.values())):
        raise TemplatesInvalid(f"{path}: every value must be text (a template), and data an object of texts")
    return fields, data


def _compiled(source: Source, sandbox: Sandbox) -> Compiled:
    return _understood(source, lambda: sandbox.compile_part(source.text, str(source)))


T = TypeVar("T")


def _understood(source: Source, act: Callable[[], T]) -> T:
    """What `act` makes of the source; TemplatesInvalid with file and line when it does not understand it."""
    try:
        return act()
    except TemplateSyntaxError as error:
        raise TemplatesInvalid(f"{source}, line {error.lineno}: {error.message}") from None
    except TemplateError as error:
        raise TemplatesInvalid(f"{source}: {error.message}") from None
