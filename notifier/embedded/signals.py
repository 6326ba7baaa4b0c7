"""Ctrl-C and its relatives, as events: the first asks to stop, the second insists."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self


class StopSignals:
    """While inside `with` (main thread only), SIGINT, SIGTERM and SIGHUP set `asked`; another one calls `insist`."""

    def __init__(self) -> None:
        self.asked = Event()
        self.insist: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        self._reading, self._writing = os.pipe()
        Thread(target=self._listen, name="signals", daemon=True).start()
        heard = {signal.SIGINT, signal.SIGTERM}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup notifier up` means it
            heard.add(signal.SIGHUP)
        self._before: dict[int, Any] = {number: signal.signal(number, self._heard) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._writing)

    def _heard(self, *_number_and_frame: object) -> None:
        # A handler runs in the middle of anything, also while the main thread holds an event's lock: only write.
        os.write(self._writing, b".")

    def _listen(self) -> None:
        while os.read(self._reading, 1):
            if self.asked.is_set():
                self.insist()
            self.asked.set()
        os.close(self._reading)
