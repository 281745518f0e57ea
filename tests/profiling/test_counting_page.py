"""docs/counting.md says what the code does: its examples are run."""

from __future__ import annotations

import doctest
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "counting.md"


def test_the_examples_of_the_page_are_true() -> None:
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 15 and result.failed == 0


def test_the_page_names_every_kind_and_column() -> None:
    from snn_energy.profiling.kinds import KINDS
    from snn_energy.profiling.tables import PER_SAMPLE

    text = PAGE.read_text(encoding="utf-8")
    named = {"calls", "input_elements", "input_nonzero", "output_elements", "output_nonzero", "ac_executed"}
    for word in (*KINDS, *(c for c in PER_SAMPLE if c not in named | {"ac", "mac"})):
        assert f"`{word}`" in text, word
