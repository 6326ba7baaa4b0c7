"""Sets off every template bomb within a bound on memory: `python -m tests.security.bombs`.

Prints one JSON object a bomb: what it ended with and how much processor time it took; last, the memory.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from notifier.domain.errors import NotifierError
from tests.notifier.templating.builders import a_mail, mail_of
from tests.security.corpus.templates import BOMBS

#: What all of them together may take on top of what the process has when it begins.
MEMORY_BYTES = 128 << 20
VALUE = "value " * 3000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        mail_of(a_mail(Path(folder) / "plain"), {"value": "x"})  # whatever is loaded late is loaded now
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number, source in enumerate(BOMBS):
            began = time.process_time()
            ended = _set_off(Path(folder) / f"{number}", source)
            told = {"number": number, "ended": ended, "seconds": time.process_time() - began}
            sys.stdout.write(json.dumps(told) + "\n")
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        sys.stdout.write(json.dumps({"grown_kib": grown}) + "\n")


def _set_off(root: Path, source: str) -> str:
    """The kind of error that it ended with: "ours", or "none" if it went out within its allowance."""
    try:
        mail_of(a_mail(root, html=source), {"value": VALUE})  # read as HTML, and then like all the others
    except NotifierError:
        return "ours"
    except BaseException as error:
        return type(error).__name__
    return "none"


if __name__ == "__main__":
    main()
