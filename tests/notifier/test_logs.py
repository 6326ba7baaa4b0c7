"""Logs: one JSON object a line, with fields that are allowed and no words of anybody else's."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest

from notifier.observe import logs

log = logs.get("notifier.tests")


@pytest.fixture
def written() -> Iterator[StringIO]:
    """What is logged, as in production."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure(level="INFO", form="json")
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream := StringIO())
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def entries(written: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def fails(value: str) -> None:
    """An error that another one led to; both know what nobody else may."""
    try:
        raise KeyError(value)
    except KeyError as error:
        raise ValueError(value) from error


def test_an_event_is_one_line_of_json(written: StringIO) -> None:
    log.info("swept", count=3, lane="urgent.email")
    (entry,) = entries(written)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "swept",
        "count": 3,
        "lane": "urgent.email",
        "level": "info",
        "logger": "notifier.tests",
    }


def test_a_field_that_nobody_has_allowed_is_dropped(written: StringIO) -> None:
    log.warning("refused", email="canary", data={"amount": "canary"}, target="canary", delivery_id=7)
    (entry,) = entries(written)
    assert entry["delivery_id"] == 7
    assert "canary" not in written.getvalue()


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "\x1b[31mred", "\x00", '"}', "\u2028"])
def test_nobody_forges_a_line(text: str, written: StringIO) -> None:
    log.warning("refused", reason=text)
    assert [entry["reason"] for entry in entries(written)] == [text]
    assert "\x1b" not in written.getvalue()


@pytest.mark.parametrize("given", ["raised", "passed", "triple", "another library"])
def test_an_error_says_where_and_what_kind_but_never_its_own_words(given: str, written: StringIO) -> None:
    """A driver's error shows the value that it could not take: somebody's address."""
    try:
        fails("ada@" + "example.com")
    except ValueError as error:
        if given == "raised":
            log.exception("failed", delivery_id=7)
        elif given == "passed":
            log.error("failed", exc_info=error)
        elif given == "triple":
            log.error("failed", exc_info=(type(error), error, error.__traceback__))
        else:
            logging.getLogger("library").exception("failed")
    (entry,) = entries(written)
    told = entry["exception"]
    assert "in fails" in told
    assert "test_logs.py" in told
    assert told.index("builtins.KeyError") < told.index("builtins.ValueError")
    assert "ada@example.com" not in written.getvalue()


def test_what_is_below_the_level_is_not_written(written: StringIO) -> None:
    log.debug("claimed", count=3)
    logs.configure(level="DEBUG")
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    log.debug("claimed", count=4)
    assert [entry["count"] for entry in entries(written)] == [4], "also of a logger that was used before"


def test_a_line_bears_what_is_bound_and_no_longer_than_its_block(written: StringIO) -> None:
    with logs.about(request_id="mine", email="canary"):
        log.info("claimed")
        logging.getLogger("library").warning("slow")
    log.info("swept")
    assert [entry.get("request_id") for entry in entries(written)] == ["mine", "mine", None]
    assert "canary" not in written.getvalue()


class Closed(StringIO):
    """A pipe whose reader has gone."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_log_that_nobody_reads_any_more_stops_nothing(written: StringIO) -> None:
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(Closed())
    log.info("swept", count=1)
    handler.setStream(written)
    log.info("swept", count=2)
    assert [entry["count"] for entry in entries(written)] == [2]


def test_an_error_is_passed_on_once_and_only_if_it_is_logged_as_one(
    written: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[tuple[str, str]] = []
    monkeypatch.setattr(logs, "on_error", lambda error, told: passed.append((type(error).__name__, told["event"])))
    for tell in (log.exception, logging.getLogger("library").exception, log.warning, log.debug):
        try:
            fails("ada")
        except ValueError:
            tell("failed", exc_info=True)
    log.error("failed")
    assert passed == [("ValueError", "failed")] * 2
    assert len(entries(written)) == 4
