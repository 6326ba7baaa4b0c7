"""`python -m tests.faults.odd urgent`: as `python -m workers urgent`, with something odd about its machine.

`ODD_CLOCK` names a file that holds how many seconds this machine's clock is ahead; it is read again whenever it has
changed, so that a test can set the clock of a running process. What is skewed is all that Python code can ask for the
date: `time.time`, `datetime.now` and their kin. `time.monotonic` is not, as on a real machine, nor are the clocks of
PostgreSQL, Redis and the kernel.

`ODD_DEADLY` is a mail address: the process dies, as by the kernel's hand, when it renders a mail to it.
`ODD_VISIBILITY` is Celery's `visibility_timeout` in seconds.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from notifier.domain.content import Content
    from notifier.domain.recipient import Recipient


class Clock:
    """Seconds since 1970 as this machine sees them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._time_ns = time.time_ns
        self._read_at = 0
        self._ahead_ns = 0

    def time_ns(self) -> int:
        changed_at = self._file.stat().st_mtime_ns
        if changed_at != self._read_at:
            self._ahead_ns = int(float(self._file.read_text()) * 1e9)
            self._read_at = changed_at
        return self._time_ns() + self._ahead_ns

    def time(self) -> float:
        return self.time_ns() / 1e9


def skew(clock: Clock) -> None:
    """Let all of Python in this process go by `clock`."""
    gmtime, localtime = time.gmtime, time.localtime

    def now(cls: type[datetime], tz: tzinfo | None = None) -> datetime:
        return cls.fromtimestamp(clock.time(), tz)

    def utcnow(cls: type[datetime]) -> datetime:
        return cls.fromtimestamp(clock.time(), UTC).replace(tzinfo=None)

    # The class itself and no stand-in for it: many have imported it by name, and C code goes by its identity.
    methods: dict[str, Any] = gc.get_referents(datetime.__dict__)[0]
    methods |= {"now": classmethod(now), "utcnow": classmethod(utcnow)}
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime))
    put: Any = setattr  # a type checker wants none of this
    put(time, "time", clock.time)
    put(time, "time_ns", clock.time_ns)
    put(time, "gmtime", lambda seconds=None: gmtime(clock.time() if seconds is None else seconds))
    put(time, "localtime", lambda seconds=None: localtime(clock.time() if seconds is None else seconds))


def dread(address: str) -> None:
    """Die of rendering anything for `address`."""
    from notifier.delivery import send
    from notifier.templating import render

    def render_or_die(*given: Any, recipient: Recipient, **named: Any) -> Content:
        if recipient.email == address:
            os.kill(os.getpid(), signal.SIGKILL)
        return render(*given, recipient=recipient, **named)

    setattr(send, "render", render_or_die)  # noqa: B010  # it is no name of theirs to a type checker


def main(arguments: list[str]) -> int:
    # Before anybody takes `time.time` by its name.
    if file := os.environ.get("ODD_CLOCK"):
        skew(Clock(Path(file)))
    from workers.__main__ import main as run

    if seconds := os.environ.get("ODD_VISIBILITY"):
        from workers.app import app

        app.conf.broker_transport_options |= {"visibility_timeout": float(seconds)}
    if address := os.environ.get("ODD_DEADLY"):
        dread(address)
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
