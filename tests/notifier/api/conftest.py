"""A second API process with narrow limits, beside the usual one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from notifier.embedded.ports import free_port
from tests.running import Running

NARROW = {
    "NOTIFIER_KEY_RATE_PER_SECOND": "4",
    "NOTIFIER_KEY_RATE_BURST": "8",
    "NOTIFIER_BULK_BACKLOG_LIMIT": "3",
    "NOTIFIER_URGENT_BACKLOG_LIMIT": "5",
    "NOTIFIER_MAX_BODY_BYTES": "2048",
}


@pytest.fixture(scope="module")
def narrow(whole_service: Running) -> Iterator[str]:
    """The URL of an API whose limits are NARROW, on the same servers."""
    port = free_port()
    whole_service.start("api", env=NARROW, name="api-narrow", port=port)
    yield f"http://127.0.0.1:{port}"
    whole_service.stop("api-narrow")
