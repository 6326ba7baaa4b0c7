"""Tables that commands write into docs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import ledger
from tests.faults import table
from tests.scaling import __main__ as scaling
from tests.tables import insert


@pytest.mark.parametrize(
    ("page", "name"),
    [
        (table.GUARANTEES, "faults"),
        (ledger.PAGE, "brokers"),
        *((scaling.PAGE, name) for name in ("reproduced", "planned", "limits", "overload")),
    ],
)
def test_the_page_has_a_place_for_it_and_only_that_is_written_anew(page: Path, name: str) -> None:
    text = insert(page.read_text(), "| a row |\n", name=name)
    assert f"<!-- {name}:begin -->\n| a row |\n<!-- {name}:end -->" in text
    assert insert(text, "| another |\n", name=name) == text.replace("| a row |", "| another |")
