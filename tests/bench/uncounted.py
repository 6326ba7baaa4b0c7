"""`python -m tests.bench.uncounted api|urgent|…`: a process of the service in which nothing is counted."""

from __future__ import annotations

import runpy
import sys
from typing import Any

from prometheus_client import Counter, Gauge, Histogram


def _nothing(*_: Any) -> None:
    pass


def _itself(metric: Any, *_: Any) -> Any:
    return metric


for _kind in (Counter, Gauge, Histogram):
    for _name in ("inc", "dec", "set", "observe"):
        if hasattr(_kind, _name):
            setattr(_kind, _name, _nothing)
    setattr(_kind, "labels", _itself)  # noqa: B010  # mypy knows better

if __name__ == "__main__":
    if sys.argv[1] == "api":
        runpy.run_module("notifier", run_name="__main__", alter_sys=True)
    else:
        runpy.run_module("workers", run_name="__main__", alter_sys=True)
