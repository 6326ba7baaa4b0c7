"""Settings → errors to Sentry and traces to a collector; neither is imported unless it is switched on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from notifier import __version__
from notifier.domain.errors import SettingsInvalid
from notifier.observe import errors
from notifier.observe import tracing as traces
from notifier.settings import PREFIX, Settings

#: The package that each of these settings needs, and the extra that brings it.
_NEEDS = {
    "sentry_dsn": ("sentry_sdk", "sentry"),
    "otlp_endpoint": ("opentelemetry.exporter.otlp.proto.http", "otel"),
}


def check_extras(settings: Settings) -> None:
    """SettingsInvalid if something is switched on that is not installed: at once, and not by each worker process."""
    for name, (package, extra) in _NEEDS.items():
        if getattr(settings, name) is not None and not _is_installed(package):
            raise SettingsInvalid(
                f"{PREFIX}{name.upper()} is set, but what it needs is not installed: pip install 'notifier[{extra}]'."
            )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # not even what it would be in
        return False


def report_errors(settings: Settings) -> None:
    """Report this process's errors from here on, if a DSN is set."""
    if settings.sentry_dsn is None:
        return
    try:
        errors.start(settings.sentry_dsn.get_secret_value(), release=__version__)
    except ValueError as error:
        raise SettingsInvalid(f"{PREFIX}SENTRY_DSN: {error} (for example https://key@sentry.example/1)") from None


@contextmanager
def tracing(settings: Settings, role: str) -> Iterator[None]:
    """Make traces in this process until the block ends, if a collector is set; then send what is still on its way.

    For a process that forks no more.
    """
    if settings.otlp_endpoint is None:
        yield
        return
    traces.start(settings.otlp_endpoint, release=__version__, role=role)
    try:
        yield
    finally:
        traces.stop()
