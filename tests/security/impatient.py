"""The API with three seconds for a head and one for a body: `python -m tests.security.impatient --port 8000`."""

from __future__ import annotations

import sys

from notifier.api import limits
from notifier.api.http_protocol import BoundedHttpProtocol
from notifier.cli import main

if __name__ == "__main__":
    limits.BODY_SECONDS = 1
    BoundedHttpProtocol.head_seconds = 3  # a test on a busy machine needs some to send one
    BoundedHttpProtocol.rest_seconds = 1
    sys.argv = ["notifier", "api", *sys.argv[1:]]
    main()
