"""Lanes and their names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.notification import LANES, Lane, Priority


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_is_read_as_it_was_written(lane: Lane) -> None:
    assert Lane.parse(str(lane)) == lane
    assert lane.queue == f"v1.{lane}"


def test_there_is_one_lane_for_each_priority_and_channel_and_urgent_ones_come_first() -> None:
    assert len(LANES) == len(set(LANES)) == 6
    assert [lane.priority for lane in LANES] == [Priority.URGENT] * 3 + [Priority.BULK] * 3


@given(text=st.text(max_size=30).filter(lambda text: text not in {str(lane) for lane in LANES}))
def test_anything_else_is_no_lane(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid"):
        Lane.parse(text)
