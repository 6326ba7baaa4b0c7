"""The API, which waits one second for a body: `python -m tests.security.impatient --port 8000`."""

from __future__ import annotations

import sys

from notifier.api import limits
from notifier.cli import main

if __name__ == "__main__":
    limits.BODY_SECONDS = 1
    sys.argv = ["notifier", "api", *sys.argv[1:]]
    main()
