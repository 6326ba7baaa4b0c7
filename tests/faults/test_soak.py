"""The whole service under load while something breaks every twenty seconds. `make soak` is the same for longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from notifier.domain.delivery import Status
from tests.faults import table
from tests.soak.__main__ import soak


@pytest.mark.full
@pytest.mark.timeout(1200)
async def test_f40_a_service_attacked_every_20_s_keeps_its_promises(tmp_path: Path) -> None:
    """F40. Half of what the machine can do, for three minutes, with another order of attacks for each seed."""
    seed = int(os.environ.get("NOTIFIER_TEST_SEED", "1"))
    report = await soak(tmp_path / "stack", minutes=3, seed=seed, rate=None)
    numbers = report.numbers
    table.note(
        table.Cost(
            deliveries=numbers["deliveries"],
            lost=numbers["lost"],
            duplicates=numbers["duplicates"],
            unknown=report.statuses.get(Status.UNKNOWN, 0),
        )
    )
    assert report.holds, report.markdown()
