"""What the processes of a running service have written to their logs since a moment."""

from __future__ import annotations

import json
from pathlib import Path

from tests.running import Running

#: Processes of ours. (PostgreSQL, Valkey and the sandbox write logs of their own.)
OURS = ("api", "urgent", "bulk", "control", "beat")


class Logs:
    """All that was written after this was made, by any process that writes JSON."""

    def __init__(self, running: Running, *more: str) -> None:
        self._paths = [running.stack.home.logs / f"{name}.log" for name in (*OURS, *more)]
        self._began = {path: path.stat().st_size if path.exists() else 0 for path in self._paths}

    def of(self, path: Path) -> str:
        if not path.exists():
            return ""
        with path.open("rb") as log:
            log.seek(self._began[path])
            return log.read().decode()

    def text(self) -> str:
        return "".join(self.of(path) for path in self._paths)

    def are_objects(self) -> None:
        """Each line, by every rule of what ends a line, is one JSON object of our making."""
        for path in self._paths:
            for line in self.of(path).splitlines():
                entry = json.loads(line)
                assert isinstance(entry, dict), line
                assert {"event", "level", "timestamp", "logger"} <= entry.keys(), line
                assert "\x1b" not in line
