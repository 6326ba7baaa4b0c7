"""What is wrong with the templates of a folder, before anybody is told anything by them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

from jinja2 import TemplateSyntaxError

from notifier.domain.content import DesktopContent, EmailContent, PushContent
from notifier.domain.errors import TemplateRenderFailed, TemplatesInvalid
from notifier.domain.notification import Channel
from notifier.domain.recipient import Recipient
from notifier.templating.catalogue import Template, read_one, template_folders
from notifier.templating.names import Extra, problem
from notifier.templating.parts import LAYOUTS
from notifier.templating.render import render
from notifier.templating.source import pieces, read
from notifier.templating.variables import Unfit

#: Characters of a subject that mail clients on phones still show, about.
LONG_SUBJECT = 78
#: Bytes of HTML beyond which Gmail cuts a mail.
LARGE_HTML = 102 * 1024
#: What a send adds, with the brand of whoever has set none.
EXTRA: Extra = {"brand": "Notifier"}
#: What FCM and Web Push carry, in bytes; our envelope takes some of it.
LARGE_PAYLOAD = 3 * 1024

_VOID = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"]
)


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something to mend. An `error` stops the service or a message; a `warning` is only not good."""

    template: str
    file: str
    line: int
    severity: Literal["error", "warning"]
    code: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.severity}: {self.message} [{self.code}]"


def check(folder: Path) -> list[Finding]:
    """Everything that is wrong with the templates in `folder`, in order of template, file and line."""
    try:
        folders = template_folders(folder)
    except TemplatesInvalid as error:
        return [Finding("", str(folder), 0, "error", "no_folder", error.detail)]
    findings = [Finding(LAYOUTS, *rest) for rest in _broken_html(sorted((folder / LAYOUTS).glob("*.html")))]
    for each in folders:
        findings += _check_one(each)
    return sorted(set(findings))


def _check_one(folder: Path) -> Iterator[Finding]:
    for rest in _broken_html(sorted(folder.glob("*.html"))):
        yield Finding(folder.name, *rest)
    try:
        template = read_one(folder)
    except TemplatesInvalid as error:
        yield Finding(folder.name, str(folder), 0, "error", "broken", error.detail)
        return
    card = str(folder / "template.toml")
    yield from _variables(template, card)
    yield from _stray_files(template, folder)
    for channel in template.channels:
        for locale in template.parts[channel]:
            yield from _rendered(template, channel, locale, str(folder))


def _variables(template: Template, card: str) -> Iterator[Finding]:
    for source, name in template.unknown_names():
        yield Finding(template.name, str(source), 0, "error", "undeclared_variable", problem(name))
    used = {name for source in template.sources() for name in source.names_used()}
    for variable in template.variables:
        if variable.name not in used:
            message = f"{variable.name} is declared, but no part uses it"
            yield Finding(template.name, card, 0, "warning", "unused_variable", message)
        if variable.example is None and variable.default is None:
            message = f"{variable.name} has neither a default nor an example: previews cannot show it"
            yield Finding(template.name, card, 0, "warning", "no_example", message)
        try:
            if variable.example is not None:
                variable.fitted(variable.example)
        except Unfit as unfit:
            yield Finding(template.name, card, 0, "error", "example_unfit", f"{variable.name}: example {unfit.message}")


def _stray_files(template: Template, folder: Path) -> Iterator[Finding]:
    used = {source.path for source in template.sources()}
    for path in sorted(folder.iterdir()):
        if path not in used and path.name != "template.toml" and not path.name.startswith("."):
            message = "is not a part of any channel: is its name right, and the channel in `channels`?"
            yield Finding(template.name, str(path), 0, "warning", "stray_file", message)


def _rendered(template: Template, channel: Channel, locale: str, folder: str) -> Iterator[Finding]:
    """What the examples come to, in one channel and locale."""
    where = f"{folder} ({channel}, {locale or template.locale})"
    recipient = Recipient(id=1, locale=locale or template.locale)
    try:
        content = render(
            template,
            channel,
            data=template.example_data(),
            recipient=recipient,
            locale=locale or template.locale,
            extra=EXTRA,
        )
    except TemplateRenderFailed as error:
        yield Finding(template.name, where, 0, "error", "render_failed", f"the examples do not render: {error.detail}")
        return
    for severity, code, message in _judged(content):
        yield Finding(template.name, where, 0, severity, code, message)


def _judged(
    content: EmailContent | PushContent | DesktopContent,
) -> Iterator[tuple[Literal["error", "warning"], str, str]]:
    if isinstance(content, EmailContent):
        if not content.subject:
            yield "error", "empty_subject", "the subject is empty"
        if len(content.subject) > LONG_SUBJECT:
            yield (
                "warning",
                "long_subject",
                f"the subject has {len(content.subject)} characters; keep it below {LONG_SUBJECT}",
            )
        if len((content.html or "").encode()) > LARGE_HTML:
            yield "warning", "large_html", "the HTML is larger than 102 KiB, and Gmail cuts it there"
        if not content.text.strip():
            yield "error", "empty_text", "the text part is empty"
        return
    if not content.title or not content.body:
        yield "error", "empty_field", "title or body is empty"
    size = sum(len(text.encode()) for text in (content.title, content.body, content.url or "", *content.data.values()))
    if size > LARGE_PAYLOAD:
        yield (
            "error",
            "large_payload",
            f"{size} bytes of texts; phones and browsers take 4096 in all, so keep below {LARGE_PAYLOAD}",
        )


# -- HTML --


def _broken_html(paths: Iterable[Path]) -> Iterator[tuple[str, int, Literal["error", "warning"], str, str]]:
    for path in paths:
        try:
            found = pieces(read(path))
        except TemplatesInvalid as error:
            yield str(path), 0, "error", "unreadable", error.detail
            continue
        except TemplateSyntaxError as error:
            yield str(path), error.lineno, "error", "syntax", str(error.message)
            continue
        reader = _Balance()
        # Jinja tags are left out, their line breaks are not: so the numbers of the lines stay right.
        reader.feed("".join(piece.text if piece.kind == "data" else "\n" * piece.text.count("\n") for piece in found))
        reader.close()
        for line, message in reader.finish():
            yield str(path), line, "error", "broken_html", message


class _Balance(HTMLParser):
    """Whether every element is closed, by its own end tag, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, int]] = []
        self.problems: list[tuple[int, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problems.append((self.getpos()[0], f"<{tag}> has {name}= twice"))
        if tag == "img" and "alt" not in names:
            self.problems.append((self.getpos()[0], "<img> has no alt="))
        if tag not in _VOID:
            self.open.append((tag, self.getpos()[0]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        line = self.getpos()[0]
        if tag not in [name for name, _ in self.open]:
            self.problems.append((line, f"</{tag}> closes nothing"))
            return
        while (last := self.open.pop())[0] != tag:
            self.problems.append((last[1], f"<{last[0]}> is not closed before </{tag}> in line {line}"))

    def finish(self) -> list[tuple[int, str]]:
        return self.problems + [(line, f"<{tag}> is never closed") for tag, line in self.open]
