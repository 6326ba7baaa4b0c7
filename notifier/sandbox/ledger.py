"""What was asked of the providers: one line a call in `ledger.ndjson`, written before the call is answered.

The file is the ledger; memory holds where each line begins, and counts. A line that has `answered` and no provider
says when an earlier call was answered after all (a delay). Sequence numbers begin at 1 and have no gaps.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from notifier.sandbox.plan import Call, Plan
from notifier.sandbox.tally import Tally

#: The filters of a query that have a needle of their own in the text of a line.
FILTERS = ("delivery_id", "outcome", "provider")

#: How many entries a query or a count looks at before it lets others have a turn.
STEP = 5_000


class LedgerBusy(Exception):
    """Another process writes this ledger. One data directory serves one sandbox."""


class Ledger:
    """Open on one file, and alone with it."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise LedgerBusy(f"{path} is in use by another sandbox.") from error
        self._forget()
        self._reload()

    def _forget(self) -> None:
        self._starts = array("Q")
        self._answered: dict[int, str] = {}
        self._end = 0
        self.tally = Tally()

    def _reload(self) -> None:
        """Read what an earlier process wrote. A line that it did not finish was never answered: it is cut off."""
        self._file.seek(0)
        with self._file_reader() as reader:
            for line in reader:
                if not line.endswith(b"\n"):
                    break
                entry = orjson.loads(line)
                if "provider" in entry:
                    self._starts.append(self._end)
                    self._count(entry)
                else:
                    self._answered[entry["seq"]] = entry["answered"]
                self._end += len(line)
        os.ftruncate(self._file.fileno(), self._end)

    def _file_reader(self) -> BinaryIO:
        return os.fdopen(os.dup(self._file.fileno()), "rb", buffering=1 << 20)

    def _count(self, entry: Mapping[str, Any]) -> None:
        self.tally.add(entry["provider"], entry["outcome"], entry["delivery_id"], entry["target"])

    @property
    def last(self) -> int:
        """The newest entry's number; 0 when there is none."""
        return len(self._starts)

    def enter(self, call: Call, plan: Plan, *, status: int | None, message_id: str | None) -> int:
        """Write one call down; it is in the file when this returns. OSError (disk full) leaves the ledger as it was."""
        seq = len(self._starts) + 1
        outcome = plan.outcome
        line = orjson.dumps(
            {
                "seq": seq,
                "received": call.received,
                "answered": datetime.now(UTC) if plan.is_answered_at_once else None,
                "provider": call.provider,
                "delivery_id": call.delivery_id,
                "attempt": call.attempt,
                "worker_pid": call.worker_pid,
                "target": call.target,
                "address": call.address,
                "outcome": outcome,
                "status": status,
                "message_id": message_id,
                "mode": call.mode,
                "cause": plan.cause,
                "details": call.details,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        start = self._end
        self._write(line)
        self._starts.append(start)
        self.tally.add(call.provider, outcome, call.delivery_id, call.target)
        return seq

    def note_answered(self, seq: int) -> None:
        """The answer to an earlier call goes out now."""
        if not 0 < seq <= self.last or seq in self._answered:
            return
        moment = datetime.now(UTC).isoformat()
        self._write(orjson.dumps({"seq": seq, "answered": moment}, option=orjson.OPT_APPEND_NEWLINE))
        self._answered[seq] = moment

    def _write(self, line: bytes) -> None:
        written = os.write(self._file.fileno(), line)
        if written < len(line):
            os.ftruncate(self._file.fileno(), self._end)
            raise OSError("the disk is full: the ledger cannot be written")
        self._end += written

    def clear(self) -> None:
        """Start afresh, from number 1."""
        os.ftruncate(self._file.fileno(), 0)
        self._forget()

    def entries(self, *, after: int = 0, where: Mapping[str, str] | None = None) -> Iterator[dict[str, Any] | None]:
        """The entries after number `after` which fit, oldest first; a None now and then, for others to have a turn.

        What is entered meanwhile is not seen. The needle is looked for in the text, so that one delivery among
        a million is found in a fraction of a second.
        """
        starts, last, after = self._starts, self.last, max(after, 0)
        if after >= last:
            return
        where = where or {}
        needle = next((_needle(name, where[name]) for name in FILTERS if name in where), None)
        with mmap.mmap(self._file.fileno(), self._end, access=mmap.ACCESS_READ) as text:
            index, looked = after, 0
            while index < last:
                if needle is not None:
                    found = text.find(needle, starts[index])
                    if found < 0:
                        return
                    index = bisect_left(starts, found + 1, hi=last) - 1
                entry = self._entry(text, index)
                if all(entry[name] == value for name, value in where.items()):
                    yield entry
                index += 1
                looked += 1
                if looked % STEP == 0:
                    yield None
                # Cleared meanwhile: to touch what is mapped of a file that has become shorter is death (SIGBUS).
                if self._starts is not starts:
                    return

    def _entry(self, text: mmap.mmap, index: int) -> dict[str, Any]:
        start = self._starts[index]
        entry: dict[str, Any] = orjson.loads(text[start : text.find(b"\n", start)])
        if entry["answered"] is None:
            entry["answered"] = self._answered.get(entry["seq"])
        return entry

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _needle(name: str, value: str) -> bytes:
    return b'"%s":%s' % (name.encode(), orjson.dumps(value))
