"""Structured logs: one JSON object a line in production, readable lines in development.

Our own lines go past `logging`, whose records cost as much again as the line itself (19 µs in all, against 9): there
are some for each request and each delivery. Libraries' lines come through it, to the same place in the same form.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, suppress
from typing import Any

import structlog

#: Fields a log line may have. Anything else is dropped, so that no address or body slips in by accident.
ALLOWED = frozenset({
    "event", "level", "timestamp", "logger", "exception", "error", "request_id", "service_id", "key_id", "method",
    "route", "status", "duration_ms", "notification_id", "delivery_id", "delivery_ids", "campaign_id", "lane", "queue",
    "provider", "outcome", "reason", "attempt", "count", "seconds", "pid", "port", "host", "version", "pool", "name",
    "setting",
})  # fmt: skip

Event = MutableMapping[str, Any]

#: Whom to tell of an error that is logged as one, with the fields of its line; None: nobody (see `errors`).
on_error: Callable[[BaseException, Event], None] | None = None

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
#: What this process has been told to write, and where: `configure` may be called again.
_level = logging.INFO
_render: Callable[[Any, str, Event], Any] = structlog.processors.JSONRenderer()
_handler = logging.StreamHandler(sys.stderr)


def _wanted(_: Any, method: str, event: Event) -> Event:
    if _LEVELS[method] < _level:
        raise structlog.DropEvent
    return event


def _only_allowed(_: Any, __: str, event: Event) -> Event:
    return {key: value for key, value in event.items() if key in ALLOWED}


def _traceback(_: Any, __: str, event: Event) -> Event:
    """`exc_info` as text: where it went wrong and with what error, and never an error's own words.

    A driver's error shows the value that it could not take, a client's the URL that it could not reach: the
    addresses and tokens that ALLOWED keeps out would come in with them.
    """
    told = event.pop("exc_info", None)
    if told is True:
        told = sys.exc_info()[1]
    error = told[1] if isinstance(told, tuple) else told
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_frames(error))
        if on_error is not None and event["level"] in ("error", "critical"):
            on_error(error, event)
    return event


def _without_its_words(_: Any, __: str, event: Event) -> Event:
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


def _frames(error: BaseException) -> Iterator[str]:
    """The frames and the name of an error and of those it came from."""
    for each in _causes(error):
        yield "".join(traceback.format_tb(each.__traceback__)).rstrip()
        yield f"{type(each).__module__}.{type(each).__qualname__}"


class _Lines:
    """Writes lines of one logger to where libraries' lines go."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        _handler.acquire()
        try:
            # Whoever reads our logs may have gone (a closed pipe): that is no reason for a delivery to fail.
            with suppress(OSError, ValueError):
                _handler.stream.write(line + "\n")
                _handler.flush()
        finally:
            _handler.release()

    debug = info = warning = error = critical = exception = msg


def configure(*, level: str = "INFO", form: str = "json") -> None:
    """Set up logging for this process: to stderr, our own events and the libraries' warnings."""
    global _level, _render, _handler
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _traceback,
    ]
    _level = logging.getLevelNamesMapping()[level]
    _render = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[_wanted, *shared, _only_allowed, lambda *told: _render(*told)],
        logger_factory=_Lines,
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=True,
    )
    _handler = logging.StreamHandler(sys.stderr)
    _handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_without_its_words, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _only_allowed, _render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [_handler]
    root.setLevel("WARNING")
    # Celery's process pool keeps its words from the root, and without a handler Python would write them as they are:
    # more lines than one, with the error's own words.
    pool = logging.getLogger("multiprocessing")
    pool.handlers[:], pool.propagate = [_handler], False
    logging.captureWarnings(True)  # or Python writes those as they are, too
    logging.getLogger("notifier").setLevel(level)
    logging.getLogger("workers").setLevel(level)


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a module."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger


def bind(**fields: Any) -> None:
    """Give every line that this task, and whatever it starts, will write these fields."""
    structlog.contextvars.bind_contextvars(**fields)


def about(**fields: Any) -> AbstractContextManager[None]:
    """The same, until the block ends."""
    return structlog.contextvars.bound_contextvars(**fields)
