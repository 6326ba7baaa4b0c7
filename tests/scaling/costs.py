"""What work costs, taken from figures that `python -m tests.bench.figures --json` has measured.

A cost has a part for each group (a hint, a claim, a commit: paid once for all that it carries) and a part for each
delivery. The two are told apart by the same mail sent alone and a hundred at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.figures import ALONE, BATCH, BY_REQUEST, CAMPAIGN, LOAD, Figures

MEASURED = Path(__file__).with_name("figures.json")
#: Deliveries that share a claim where many wait (deliver.CLAIM_LIMIT is 32, a hint has a hundred), and a write of
#: results, as the simulation itself finds them.
CLAIMED_TOGETHER, WRITTEN_TOGETHER = 25, 8
#: Requests that share a commit where 32 callers wait for their answers.
ACCEPTED_TOGETHER = 12
#: Groups that a worker forms of a delivery's way: the hint, its claim with the look before the call, its result.
_STEPS = 3


@dataclass(frozen=True)
class Cost:
    """CPU seconds: for a group, and for each delivery in it."""

    group: float
    each: float

    def of(self, count: int) -> float:
        return self.group + self.each * count


@dataclass(frozen=True)
class Costs:
    """Everything that the simulation spends. All in seconds."""

    request: float
    accept: Cost
    deliver: Mapping[str, Cost]
    database: Mapping[str, Cost]
    walk: Cost
    provider: Mapping[str, float]
    load: float
    commit: float


@dataclass(frozen=True)
class Measured:
    """A whole run of tests.bench.figures."""

    cores: int
    commit_ms: float
    idle_ms: Mapping[str, float]
    connections: Mapping[str, int]
    works: Mapping[str, Figures]

    @classmethod
    def read(cls, path: Path = MEASURED) -> Measured:
        told: dict[str, Any] = json.loads(path.read_text())
        works = {each["work"]: Figures(**each) for each in told.pop("works")}
        return cls(**told, works=works)

    def costs(self) -> Costs:
        """Groups and deliveries told apart. Nothing is negative, whatever the noise of a measurement."""
        alone, batch, campaign, by_request = (self.works[name] for name in (ALONE, BATCH, CAMPAIGN, BY_REQUEST))
        shared = (1 / 100 + 1 / CLAIMED_TOGETHER + 1 / WRITTEN_TOGETHER) / _STEPS

        def per_group(lone: float, among: float, share: float) -> float:
            # lone = group + each, among = group * share + each
            return max(0.0, lone - among) / (1 - share) / 1e3

        worker = per_group(alone.workers_ms, batch.workers_ms, shared)
        accept = per_group(alone.cpu_ms["api"], by_request.cpu_ms["api"], 1 / ACCEPTED_TOGETHER)
        # Of the database: intake, claim, look before the call, result.
        statement = per_group(alone.cpu_ms["postgres"], batch.cpu_ms["postgres"], shared) / 4
        request = by_request.cpu_ms["api"] / 1e3 - accept / ACCEPTED_TOGETHER - batch.cpu_ms["api"] / 1e3

        def each(work: Figures) -> Cost:
            return Cost(worker / _STEPS, max(0.0, work.workers_ms / 1e3 - worker * shared))

        def rows(work: Figures) -> Cost:
            return Cost(statement, max(0.0, work.cpu_ms["postgres"] / 1e3 - 4 * statement * shared) / 4)

        return Costs(
            request=max(0.0, request),
            accept=Cost(accept, batch.cpu_ms["api"] / 1e3),
            deliver={"email": each(batch), "push": each(campaign)},
            database={"email": rows(batch), "push": rows(campaign)},
            walk=Cost(0.0, campaign.cpu_ms["control"] / 1e3),
            provider={
                "email": batch.cpu_ms["sandbox"] / 1e3,
                "push": campaign.cpu_ms["sandbox"] / 1e3,
            },
            load=by_request.cpu_ms[LOAD] / 1e3,
            commit=self.commit_ms / 1e3,
        )
