"""The answer to a batch: one result an item, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from notifier.api import problems
from notifier.domain.ask import Answer
from notifier.domain.errors import NotifierError


def summary(results: Sequence[Answer | NotifierError]) -> dict[str, Any]:
    """How many were accepted and how many not, and what became of each."""
    rejected = sum(isinstance(result, NotifierError) for result in results)
    return {
        "accepted": len(results) - rejected,
        "rejected": rejected,
        "results": [
            {"error": problems.body_of(result, within=("body", "notifications", index))}
            if isinstance(result, NotifierError)
            else {**result.body, "replayed": result.replayed}
            for index, result in enumerate(results)
        ],
    }
