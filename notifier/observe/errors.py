"""Errors to Sentry, if an operator has asked for it: what our logs say of an error, and nothing beyond.

sentry-sdk is an extra, imported by `start` and by nothing else. None of its integrations patches anything of ours:
each error that is logged as one comes by here (`logs.on_error`), with its frames and our ids. Local variables, requests
and an error's own words stay behind, as they do in logs: they show whom a message was for and what it said.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from typing import Any

from notifier.observe import logs

#: Fields of a log line that become tags, with the line's own name as `event`.
TAGS = (
    "logger", "request_id", "service_id", "delivery_id", "campaign_id", "lane", "provider", "route", "attempt",
)  # fmt: skip
#: What is left of an event, of an exception in it, and of each of its frames.
_EVENT = (
    "event_id", "timestamp", "level", "platform", "release", "environment", "sdk", "tags", "fingerprint", "debug_meta",
)  # fmt: skip
_EXCEPTION = ("type", "module", "mechanism")
_FRAME = (
    "filename", "abs_path", "module", "function", "lineno", "in_app", "pre_context", "context_line", "post_context",
)  # fmt: skip
#: How long the last ones may take to go out when a process ends.
FLUSH_SECONDS = 2.0

_is_started = False


def start(dsn: str, *, release: str) -> None:
    """Report from this process, and from those it forks. ImportError without the extra, ValueError for a wrong DSN."""
    global _is_started
    if _is_started:
        return
    import sentry_sdk
    from sentry_sdk.integrations.dedupe import DedupeIntegration
    from sentry_sdk.integrations.excepthook import ExcepthookIntegration
    from sentry_sdk.utils import BadDsn

    try:
        sentry_sdk.init(
            dsn=dsn,
            release=f"notifier@{release}",
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[DedupeIntegration(), ExcepthookIntegration()],
            before_send=_only_allowed,  # type: ignore[arg-type]  # its own type of a dict
            include_local_variables=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            auto_session_tracking=False,
            server_name="",
        )
    except BadDsn:
        raise ValueError("is no DSN") from None  # its words have the DSN, which is a secret
    logs.on_error = _report
    _is_started = True
    atexit.register(stop)


def stop() -> None:
    """Send what is still on its way. Nothing happens if nothing was started."""
    if _is_started:
        import sentry_sdk

        sentry_sdk.flush(FLUSH_SECONDS)


def _report(error: BaseException, told: Mapping[str, Any]) -> None:
    import sentry_sdk

    with sentry_sdk.new_scope() as scope:
        for name in TAGS:
            if name in told:
                scope.set_tag(name, str(told[name]))
        scope.capture_exception(error)


def _only_allowed(event: Mapping[str, Any], _: Mapping[str, Any]) -> dict[str, Any]:
    """An event with what is allowed and no more, whatever an sdk of another release adds to it."""
    exceptions = (event.get("exception") or {}).get("values") or ()
    return _some(event, _EVENT) | {
        "exception": {
            "values": [
                _some(exception, _EXCEPTION)
                | {"stacktrace": {"frames": [_some(frame, _FRAME) for frame in _frames(exception)]}}
                for exception in exceptions
            ]
        }
    }


def _some(told: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: told[name] for name in names if name in told}


def _frames(exception: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((exception.get("stacktrace") or {}).get("frames") or ())
