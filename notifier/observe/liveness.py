"""Whether a role does its work: by the signs of life of its own loop, and of each of its children's.

A process that runs is not enough: a worker that hung after its broker came back still ran, and consumed nothing.
So the loop that does the work gives a sign each time it has come round, and whoever asks learns how old the last is.
Moments are `time.monotonic`, which is the same in all processes of a machine and knows no clock change.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

#: How often the broker is asked while a role gives no sign.
LOOK_SECONDS = 1.0
#: The file of a child's last sign, beside its metrics.
_SIGN = "alive_{pid}"
_MOMENT = struct.Struct("d")


class Liveness:
    """A role's signs of life.

    `does` is what its loop does, for people. `broker_answers` tells a role that gives no sign because there is no
    broker (it is reconnecting, and alive) from one that hangs. `is_busy`: whether the loop rightly gives no sign now,
    since all its children are at work; then `busy_limit` seconds are allowed in addition.
    """

    def __init__(
        self,
        *,
        limit: float,
        does: str,
        broker_answers: Callable[[], bool] | None = None,
        is_busy: Callable[[], bool] = lambda: False,
        busy_limit: float = 0.0,
        children: Children | None = None,
    ) -> None:
        self._limit = limit
        self._does = does
        self._broker_answers = broker_answers
        self._is_busy = is_busy
        self._busy_limit = busy_limit
        self._children = children
        self._last = self._away = time.monotonic()
        self._has_signed = False
        self._over = threading.Event()

    def sign(self) -> None:
        """The loop has come round."""
        self._last = time.monotonic()
        self._has_signed = True

    @property
    def signed_at(self) -> float | None:
        """When the last sign came, as seconds since 1970; None if there was none."""
        return time.time() - (time.monotonic() - self._last) if self._has_signed else None

    def verdict(self) -> tuple[bool, str]:
        """Whether the role is alive, and one line that says why it is or is not."""
        now = time.monotonic()
        if self._children is not None and (hung := self._children.hung(self._limit)):
            return (
                False,
                f"{len(hung)} of {len(self._children)} processes hang: no turn of their loop for {hung[0]:.0f} s",
            )
        age = now - self._last
        since_away = now - self._away
        limit = self._limit + (self._busy_limit if self._is_busy() else 0.0)
        if age > limit and since_away <= limit:
            return True, f"the broker is away, or was {since_away:.0f} s ago; last {self._does} {age:.0f} s ago"
        if age > limit:
            return False, f"hangs: last {self._does} {age:.0f} s ago, and {limit:.0f} s is the limit"
        return True, f"{self._does} {age:.0f} s ago"

    def watch(self) -> None:
        """Ask the broker, from a thread, whenever a sign is missed; until `close`."""
        if self._broker_answers is not None:
            threading.Thread(target=self._look, name="liveness", daemon=True).start()

    def close(self) -> None:
        self._over.set()

    def _look(self) -> None:
        assert self._broker_answers is not None
        while not self._over.wait(LOOK_SECONDS):
            # Whoever polls once a second and has done so just now has a broker.
            if time.monotonic() - self._last > min(5.0, self._limit / 3) and not self._broker_answers():
                self._away = time.monotonic()


class Children:
    """The children of a role, as its parent knows them, and when the loop of each last turned."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._born: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._born)

    def born(self, pid: int) -> None:
        """One was forked. It has as long as any other to give its first sign."""
        self._born[pid] = time.monotonic()

    def gone(self, pid: int) -> None:
        self._born.pop(pid, None)
        (self._folder / _SIGN.format(pid=pid)).unlink(missing_ok=True)

    def hung(self, limit: float) -> list[float]:
        """How long ago the loop of each child that hangs has turned, longest first."""
        now = time.monotonic()
        ages = [now - max(born, self._signed(pid)) for pid, born in list(self._born.items())]
        return sorted((age for age in ages if age > limit), reverse=True)

    def _signed(self, pid: int) -> float:
        try:
            with (self._folder / _SIGN.format(pid=pid)).open("rb") as file:
                return float(_MOMENT.unpack(file.read(_MOMENT.size))[0])
        except (OSError, struct.error):  # not yet there, or not yet written
            return float("-inf")


class Sign:
    """This child's own sign of life, for its parent to read."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / _SIGN.format(pid=os.getpid()), os.O_WRONLY | os.O_CREAT, 0o600)

    def give(self) -> None:
        os.pwrite(self._file, _MOMENT.pack(time.monotonic()), 0)

    def close(self) -> None:
        os.close(self._file)
