"""The file of SQL sources: which databases campaigns may read their recipients from, and how.

One TOML table a source:

    [customers]
    url = "postgresql://reader:password@db.example/shop"   # or url_file = "/run/secrets/customers"
    services = ["shop"]
    query = "SELECT id, email FROM users WHERE id >= :start AND id < :stop ORDER BY id LIMIT :limit"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from notifier.domain.campaign import DIRECTORY
from notifier.domain.chunk import Axis
from notifier.domain.errors import SettingsInvalid

DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "mysql": "mysql+aiomysql",
    "mariadb": "mysql+aiomysql",
    "sqlite": "sqlite+aiosqlite",
}
PARAMETERS = ("start", "stop", "limit")
KNOWN = {"url", "url_file", "services", "axis", "column", "query", "timeout"}
LONGEST_TIMEOUT = 60

_EXAMPLE = "SELECT id FROM users WHERE id >= :start AND id < :stop ORDER BY id LIMIT :limit"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_READS = re.compile(r"\s*(SELECT|WITH)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """One source. `column` of the query's result is its axis; only `services` may use it."""

    name: str
    url: URL
    services: frozenset[str]
    axis: Axis
    column: str
    query: str
    timeout: timedelta


def load(path: Path) -> dict[str, SourceOptions]:
    """Every source of the file, by name; SettingsInvalid names the one that is wrong, its problem and the remedy."""
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsInvalid(f"NOTIFIER_SOURCES_FILE: {path} cannot be read ({type(error).__name__}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"NOTIFIER_SOURCES_FILE: {path} is not TOML ({error}).") from None
    found = {}
    for name, table in tables.items():
        try:
            found[name] = _options(name, table)
        except ValueError as error:
            raise SettingsInvalid(f"NOTIFIER_SOURCES_FILE: {path}, source {name}: {error}.") from None
    return found


def _options(name: str, table: Any) -> SourceOptions:
    if not _NAME.fullmatch(name) or name == DIRECTORY:
        raise ValueError(f"the name must be lower-case letters, digits, _ and -, and not {DIRECTORY}")
    if not isinstance(table, dict):
        raise ValueError(f"must be a table: [{name}]")
    if unknown := sorted(set(table) - KNOWN):
        raise ValueError(f"{unknown[0]} is not known; known are {', '.join(sorted(KNOWN))}")
    axis = _axis(table)
    return SourceOptions(
        name=name,
        url=_url(table),
        services=_services(table),
        axis=axis,
        column=_column(table, axis),
        query=_query(table),
        timeout=_timeout(table),
    )


def _url(table: Mapping[str, Any]) -> URL:
    if ("url" in table) == ("url_file" in table):
        raise ValueError("give url or url_file, one of them")
    text = table.get("url")
    if text is None:
        try:
            text = Path(_text(table, "url_file")).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"url_file cannot be read ({type(error).__name__})") from None
    example = "postgresql://reader:password@db.example/shop"
    try:
        url = make_url(str(text))
    except (ArgumentError, ValueError):  # neither with the URL itself: it may hold a password
        raise ValueError(f"url is not a URL; an example: {example}") from None
    dialect = url.drivername.partition("+")[0]
    if dialect not in DRIVERS:
        raise ValueError(f"url must begin with postgresql://, mysql:// or sqlite://; an example: {example}")
    if dialect == "sqlite" and not url.database:
        raise ValueError("url names no file; an example: sqlite:////var/lib/shop/users.db")
    if dialect != "sqlite" and not url.host:
        raise ValueError(f"url names no host; an example: {example}")
    return url.set(drivername=DRIVERS[dialect])


def _services(table: Mapping[str, Any]) -> frozenset[str]:
    services = table.get("services")
    if not isinstance(services, list) or not services or not all(isinstance(name, str) and name for name in services):
        raise ValueError('services must list the services that may use it, such as ["shop"]')
    return frozenset(services)


def _axis(table: Mapping[str, Any]) -> Axis:
    try:
        return Axis(table.get("axis", Axis.ID))
    except ValueError:
        raise ValueError(f"axis must be one of {', '.join(Axis)}") from None


def _column(table: Mapping[str, Any], axis: Axis) -> str:
    if "column" not in table and axis is not Axis.ID:
        raise ValueError(f"column must name the column of the result that has the {axis}")
    column = _text(table, "column") if "column" in table else "id"
    if not _COLUMN.fullmatch(column):
        raise ValueError("column must be a plain name, such as created_at")
    return column


def _query(table: Mapping[str, Any]) -> str:
    query = _text(table, "query").strip().removesuffix(";")
    if not _READS.match(query) or ";" in query:
        raise ValueError("query must be one statement that begins with SELECT or WITH")
    for name in PARAMETERS:
        if not re.search(rf"(?<!:):{name}\b", query):
            raise ValueError(f"query must use :{name}; an example: {_EXAMPLE}")
    return query


def _timeout(table: Mapping[str, Any]) -> timedelta:
    seconds = table.get("timeout", 10)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_TIMEOUT:
        raise ValueError(f"timeout must be seconds, more than 0 and {LONGEST_TIMEOUT} at most")
    return timedelta(seconds=seconds)


def _text(table: Mapping[str, Any], name: str) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be text")
    return value
