"""Named places at which a test can make this process die, or hang: `NOTIFIER_FAILPOINT=after_commit:kill`.

Unarmed (always, in production) a failpoint costs one comparison.
"""

from __future__ import annotations

import os
import signal
import time

#: Every failpoint, in the order in which a notification passes them; a campaign's chunk has two of its own.
NAMES = (
    "before_commit",
    "after_commit",
    "walk_before_commit",
    "walk_after_commit",
    "after_claim",
    "after_call",
    "clean_up_before_commit",
)

ACTIONS = ("kill", "hang")
_HANG_SECONDS = 3600.0

_armed: str | None = None
_action = "kill"


def arm(setting: str | None) -> None:
    """Arm the failpoint of `NAME:kill` or `NAME:hang`; None disarms. ValueError for a name nobody passes."""
    global _armed, _action
    if setting is None:
        _armed = None
        return
    name, _, action = setting.partition(":")
    if name not in NAMES or action not in ACTIONS:
        raise ValueError(f"no failpoint {setting!r}; known are {', '.join(NAMES)}, each with :kill or :hang")
    _armed, _action = name, action


def passing(name: str) -> None:
    """Die here, as by `kill -9`, or stop turning the loop, if this failpoint is armed."""
    if _armed == name and _action == "hang":
        time.sleep(_HANG_SECONDS)
    elif _armed == name:
        os.kill(os.getpid(), signal.SIGKILL)
