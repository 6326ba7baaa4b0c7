"""Structured logs: one JSON object a line in production, readable lines in development."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from typing import Any

import structlog

#: Fields a log line may have. Anything else is dropped, so that no address or body slips in by accident.
ALLOWED = frozenset({
    "event", "level", "timestamp", "logger", "exception", "error", "request_id", "service_id", "key_id", "method",
    "route", "status", "duration_ms", "notification_id", "delivery_id", "delivery_ids", "campaign_id", "lane", "queue",
    "provider", "reason", "attempt", "count", "seconds", "pid", "port", "host", "version", "pool", "name", "setting",
})  # fmt: skip


def _only_allowed(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: value for key, value in event.items() if key in ALLOWED}


def _traceback(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """`exc_info` as text: where it went wrong and with what error, and never an error's own words.

    A driver's error shows the value that it could not take, a client's the URL that it could not reach: the
    addresses and tokens that ALLOWED keeps out would come in with them.
    """
    told = event.pop("exc_info", None)
    if told is True:
        told = sys.exc_info()[1]
    error = told[1] if isinstance(told, tuple) else told
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_chain(error))
    return event


def _without_its_words(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A library's message without the words of the error that it is about, which Celery and asyncio write into it."""
    error = event["_record"].exc_info[1] if event["_record"].exc_info else None
    message = str(event["event"]).partition("Traceback (most recent call last)")[0]
    for each in _causes(error):
        for words in (repr(each), str(each)):
            if words:
                message = message.replace(words, type(each).__name__)
    return {**event, "event": message}


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error and those it came from, the first cause first."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return seen[::-1]


def _chain(error: BaseException) -> Iterator[str]:
    """The frames and the name of an error and of those it came from."""
    for each in _causes(error):
        yield "".join(traceback.format_tb(each.__traceback__)).rstrip()
        yield f"{type(each).__module__}.{type(each).__qualname__}"


def configure(*, level: str = "INFO", form: str = "json") -> None:
    """Set up logging for this process: to stderr, our own events and the libraries' warnings."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _traceback,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_without_its_words, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _only_allowed, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel("WARNING")
    # Celery's process pool keeps its words from the root, and without a handler Python would write them as they are:
    # more lines than one, with the error's own words.
    pool = logging.getLogger("multiprocessing")
    pool.handlers[:], pool.propagate = [handler], False
    logging.captureWarnings(True)  # or Python writes those as they are, too
    logging.getLogger("notifier").setLevel(level)
    logging.getLogger("workers").setLevel(level)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
