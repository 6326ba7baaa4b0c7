"""What somebody who can write to Redis could leave in a lane's queue. The body is what would be executed."""

# ruff: noqa: E501  (what attackers send is not ours to fold)
from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: In any field that may come into a log: line breaks, colours, a bell, the end of a JSON string, a whole forged line.
FORGED_LINES = (
    "a\nb", "a\r\nb", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x00", "\x08\x08\x08", "\u2028", "\u2029", "\x85", "\x0b\x0c",
    '"}\n{"event":"key_created","level":"info"}', "\r{\"event\": \"forged\"}\r", "%s%n%(name)s", "{0.__class__}", "\udc80",
)  # fmt: skip


@dataclass(frozen=True)
class Evil:
    """Unpickled, it makes a file."""

    marker: Path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.marker,)


def pickles(marker: Path) -> list[bytes]:
    """By each protocol; one is a whole Celery body (args, kwargs, embed)."""
    evil = Evil(marker)
    return [pickle.dumps(evil, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)] + [
        pickle.dumps([[], {"v": 1, "lane": "urgent.email", "ids": [evil]}, {}])
    ]


def yamls(marker: Path) -> list[bytes]:
    """As each loader that executes would read it."""
    return [
        f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{marker}']]".encode(),
        f'!!python/object/apply:os.system ["touch {marker}"]'.encode(),
        f'!!python/object/new:subprocess.Popen [["touch", "{marker}"]]'.encode(),
    ]
