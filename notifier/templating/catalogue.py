"""The templates of a folder: what each is called, needs and says, read and compiled once at start."""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from babel import Locale, UnknownLocaleError

from notifier.domain.errors import TemplateNotFound, TemplatesInvalid
from notifier.domain.notification import Channel, Priority
from notifier.domain.retry import RetryPolicy
from notifier.templating.names import TAKEN, problem
from notifier.templating.parts import DEFAULT, Folder, Parts, Source
from notifier.templating.source import read
from notifier.templating.variables import LONGEST, MAX_LENGTH, TYPES, Unfit, Variable

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_VARIABLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_KEYS = frozenset(
    ["title", "description", "category", "priority", "expires_in", "channels", "locale", "retry", "variables"]
)
_RETRY_KEYS = frozenset(["first_wait", "max_attempts"])
_VARIABLE_KEYS = frozenset(["type", "required", "default", "example", "max_length", "description", "from"])
LONGEST_LIFE = timedelta(days=30)
LONGEST_WAIT = timedelta(hours=1)
MOST_ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class Template:
    """One kind of notification. `locale` is the language of its files without one; `locales` are the others."""

    name: str
    title: str
    description: str
    category: str
    priority: Priority
    expires_in: timedelta
    retry: RetryPolicy
    channels: tuple[Channel, ...]
    variables: tuple[Variable, ...]
    locale: str
    locales: tuple[str, ...]
    #: First 12 hex digits of a SHA-256 over all its files and the layouts they use.
    version: str
    parts: Mapping[Channel, Mapping[str, Parts]] = field(repr=False)

    def example_data(self) -> dict[str, Any]:
        """`data` made of the variables' examples, for previews."""
        return {variable.name: variable.example for variable in self.variables if variable.example is not None}

    def sources(self) -> Iterator[Source]:
        """Every text of every channel and locale, as written."""
        for by_locale in self.parts.values():
            for parts in by_locale.values():
                yield from parts.sources

    def unknown_names(self) -> Iterator[tuple[Source, str]]:
        """Each text with each name that it uses, though it is no variable and no send gives it."""
        variables = {variable.name for variable in self.variables}
        for source in self.sources():
            for name in sorted(source.names_used() - variables - source.names):
                yield source, name


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every template by name. Iterates in order of the names."""

    templates: Mapping[str, Template]

    def get(self, name: str) -> Template:
        """The template called `name`; TemplateNotFound, with names that are near, if there is none."""
        if template := self.templates.get(name):
            return template
        near = difflib.get_close_matches(name[:64], self.templates, 3)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(self.templates) or 'none'}."
        shown = name[:64].encode("ascii", "backslashreplace").decode()
        raise TemplateNotFound(f"There is no template {shown!r}. {hint}")

    def category(self, name: str) -> str:
        """The category of a template, for metrics; "none" for one that only a newer release has."""
        template = self.templates.get(name)
        return template.category if template else "none"

    def __iter__(self) -> Iterator[Template]:
        return iter(self.templates.values())

    def __len__(self) -> int:
        return len(self.templates)


def load(folder: Path) -> Catalogue:
    """Read and compile every template in `folder`; TemplatesInvalid names all files that are wrong, and why."""
    found: dict[str, Template] = {}
    problems: list[str] = []
    for each in template_folders(folder):
        try:
            found[each.name] = load_one(each)
        except TemplatesInvalid as error:
            problems.append(error.detail)
    if problems:
        raise TemplatesInvalid("; ".join(problems))
    return Catalogue(MappingProxyType(found))


def template_folders(folder: Path) -> list[Path]:
    """The folders of templates within `folder`, by name; `_layouts` and what begins with a dot are not among them."""
    if not folder.is_dir():
        raise TemplatesInvalid(f"{folder}: there is no such folder. NOTIFIER_TEMPLATES_DIR says where templates are.")
    return sorted(each for each in folder.iterdir() if each.is_dir() and each.name[0] not in "._")


def load_one(folder: Path) -> Template:
    """The template in `folder`; TemplatesInvalid with the first thing that is wrong.

    A name that no send gives is refused here: what uses it would be accepted, and then fail at every send.
    """
    template = read_one(folder)
    if unknown := [f"{source}: {problem(name)}" for source, name in template.unknown_names()]:
        raise TemplatesInvalid("; ".join(unknown))
    return template


def read_one(folder: Path) -> Template:
    """As `load_one`, but whatever its names: for `check`, which tells of each with its place."""
    if not _NAME.fullmatch(folder.name) or len(folder.name) > 64:
        raise TemplatesInvalid(f"{folder}: a template's name is made of a-z, 0-9 and single hyphens")
    path = folder / "template.toml"
    try:
        card = _Card(path, tomllib.loads(read(path)))
    except tomllib.TOMLDecodeError as error:
        raise TemplatesInvalid(f"{path}: is not TOML ({error})") from None
    card.only(_KEYS)
    channels = card.channels()
    variables = tuple(_variable(card.path, name, table) for name, table in card.table("variables").items())
    files = Folder(folder)
    parts = {channel: MappingProxyType(files.channel(channel)) for channel in channels}
    locales = sorted({locale for by_locale in parts.values() for locale in by_locale} - {DEFAULT})
    for locale in locales:
        card.known_locale(locale)
    return Template(
        name=folder.name,
        title=card.text("title"),
        description=card.text("description", ""),
        category=card.text("category"),
        priority=card.priority(),
        expires_in=card.life(),
        retry=_retry(card.path, card.table("retry")),
        channels=channels,
        variables=variables,
        locale=card.known_locale(card.text("locale", "en")),
        locales=tuple(locales),
        version=_version({**files.bytes_read, f"{folder.name}/template.toml": path.read_bytes()}),
        parts=MappingProxyType(parts),
    )


def _version(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return digest.hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class _Card:
    """A table of template.toml: hands out its values, or says which is wrong."""

    path: Path
    values: Mapping[str, Any]
    where: str = ""

    def wrong(self, key: str, problem: str) -> TemplatesInvalid:
        return TemplatesInvalid(f"{self.path}: {self.where}{key} {problem}")

    def only(self, known: frozenset[str]) -> None:
        if unknown := sorted(self.values.keys() - known):
            near = difflib.get_close_matches(unknown[0], known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise self.wrong(unknown[0], f"is not known; {hint}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self.wrong(key, "must be given as text")
        return value

    def whole(self, key: str, default: int | None, low: int, high: int) -> int:
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, f"must be a whole number from {low} to {high}")
        return value

    def table(self, key: str) -> Mapping[str, Any]:
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "must be a table")
        return value

    def channels(self) -> tuple[Channel, ...]:
        names = self.values.get("channels")
        if not isinstance(names, list) or not names or not set(map(str, names)) <= set(Channel):
            raise self.wrong("channels", f"must list some of {', '.join(Channel)}")
        return tuple(channel for channel in Channel if channel in names)

    def priority(self) -> Priority:
        name = self.values.get("priority")
        if name not in set(Priority):
            raise self.wrong("priority", f"must be one of {', '.join(Priority)}")
        return Priority(name)

    def life(self) -> timedelta:
        return timedelta(seconds=self.whole("expires_in", None, 1, int(LONGEST_LIFE.total_seconds())))

    def known_locale(self, name: str) -> str:
        try:
            Locale.parse(name, sep="-")
        except (ValueError, UnknownLocaleError):
            raise self.wrong("locale", f"{name!r} is not known") from None
        return name


def _retry(path: Path, table: Mapping[str, Any]) -> RetryPolicy:
    card = _Card(path, table, "retry.")
    card.only(_RETRY_KEYS)
    wait = card.whole("first_wait", 0, 1, int(LONGEST_WAIT.total_seconds())) if "first_wait" in table else None
    return RetryPolicy(
        first_wait=None if wait is None else timedelta(seconds=wait),
        max_attempts=card.whole("max_attempts", None, 1, MOST_ATTEMPTS) if "max_attempts" in table else None,
    )


def _variable(path: Path, name: str, table: Any) -> Variable:
    card = _Card(path, table if isinstance(table, dict) else {}, f"variables.{name}.")
    card.only(_VARIABLE_KEYS)
    if not _VARIABLE_NAME.fullmatch(name) or name in TAKEN:
        raise card.wrong("", f"cannot be a variable's name (a-z, 0-9, _; not {', '.join(sorted(TAKEN))})")
    kind = card.text("type", "string")
    if kind not in TYPES:
        raise card.wrong("type", f"must be one of {', '.join(TYPES)}")
    source = card.text("from", "")
    if source and not re.fullmatch(r"attributes(\.\w+)+", source):
        raise card.wrong("from", 'must name an attribute of the recipient, such as "attributes.plan"')
    default = _plain(card.values.get("default"))
    required = card.values.get("required", default is None and not source)
    if not isinstance(required, bool) or (required and (default is not None or source)):
        raise card.wrong("required", "must be true or false, and not true when there is a default or a source")
    variable = Variable(
        name=name,
        type=kind,
        required=required,
        default=default,
        example=_plain(card.values.get("example")),
        max_length=card.whole("max_length", MAX_LENGTH, 1, LONGEST),
        description=card.text("description", ""),
        attribute=tuple(source.split(".")[1:]),
    )
    try:
        if not variable.has_no_default:
            variable.fitted(default)
    except Unfit as unfit:
        raise card.wrong("default", unfit.message) from None
    return variable


def _plain(value: Any) -> Any:
    """TOML's own dates and times as the text that a caller would send."""
    return value.isoformat() if hasattr(value, "isoformat") else value
