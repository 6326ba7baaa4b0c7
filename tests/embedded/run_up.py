"""`notifier up` with stand-ins for the service's processes: `run_up.py DATA_DIR PORT`. Run as a script."""

from __future__ import annotations

import sys
from pathlib import Path

from notifier.domain.errors import NotifierError
from notifier.embedded import Programs, up

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))

if __name__ == "__main__":
    try:
        up(Path(sys.argv[1]), int(sys.argv[2]), programs=Programs(STAND_IN, STAND_IN))
    except NotifierError as error:
        sys.exit(f"notifier: {error.detail}")
