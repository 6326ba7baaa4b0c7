"""Counts over the ledger: what the fault tests compare with the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any


class Tally:
    """Counts calls as they come; a message for (delivery, target) that is accepted twice is a duplicate.

    A message without a delivery id cannot be known as a repeat and never counts as one.
    """

    def __init__(self) -> None:
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._duplicates: Counter[str] = Counter()
        # One string a pair: half the memory of a tuple, which shows at a million. A target has no blank.
        self._accepted: dict[str, int] = {}

    def add(self, provider: str, outcome: str, delivery_id: str | None, target: str) -> None:
        """Count one call."""
        self._outcomes[str(provider), outcome] += 1
        if outcome != "accepted" or delivery_id is None:
            return
        key = f"{target} {delivery_id}"
        seen = self._accepted.get(key, 0)
        self._accepted[key] = seen + 1
        if seen:
            self._duplicates[str(provider)] += 1

    def summary(self) -> dict[str, Any]:
        """calls, accepted, distinct, duplicates; by outcome; and the same for each provider."""
        providers = sorted({provider for provider, _ in self._outcomes})
        return {
            **self._counts(self._outcomes, self._duplicates.total()),
            "by_provider": {
                name: self._counts(
                    Counter({key: n for key, n in self._outcomes.items() if key[0] == name}), self._duplicates[name]
                )
                for name in providers
            },
        }

    @staticmethod
    def _counts(outcomes: Counter[tuple[str, str]], duplicates: int) -> dict[str, Any]:
        by_outcome: Counter[str] = Counter()
        for (_, outcome), count in outcomes.items():
            by_outcome[outcome] += count
        accepted = by_outcome["accepted"]
        return {
            "calls": outcomes.total(),
            "accepted": accepted,
            "distinct": accepted - duplicates,
            "duplicates": duplicates,
            "by_outcome": dict(by_outcome),
        }

    def accepted(self) -> Iterator[tuple[str, str, int]]:
        """(delivery_id, target, count) of all that was accepted up to now and has a delivery id."""
        for key, count in list(self._accepted.items()):
            target, _, delivery_id = key.partition(" ")
            yield delivery_id, target, count
