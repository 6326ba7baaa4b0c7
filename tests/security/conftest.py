"""An API process that has little patience, beside the usual one."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import pytest

from notifier.embedded.ports import free_port
from tests.running import Running, eventually
from tests.sns import TOPIC


@pytest.fixture
async def impatient(running: Running) -> AsyncIterator[int]:
    """The port of an API that waits three seconds for a head and one for a body."""
    port = free_port()
    command = [sys.executable, "-m", "tests.security.impatient", "--port", str(port)]
    # It has no metrics: they are prepared before anything else of the API is imported.
    env = {name: value for name, value in running.env.items() if "METRICS" not in name}
    env |= {"NOTIFIER_SES_EVENTS_TOPICS": TOPIC}
    running.stack.spawn("api-impatient", command, env=env)

    async def answers() -> bool:
        try:
            return (await running.call("GET", "/livez", url=f"http://127.0.0.1:{port}")).status == 200
        except OSError:
            return False

    await eventually(answers, what="the API to answer")
    yield port
    running.stack.child("api-impatient").kill()
