"""docs/nir-in.md says what works: its blocks run, in order."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from snn_energy.__main__ import main
from snn_energy.models.nir.layers import SUPPORTED
from snn_energy.profiling import Profile

pytest.importorskip("nir")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "nir-in.md"


def test_the_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = PAGE.read_text(encoding="utf-8").split("\n```")[1::2]
    assert [block.partition("\n")[0] for block in blocks] == ["python", "sh", "python"]
    for block in blocks:
        language, _, text = block.partition("\n")
        if language == "python":
            exec(compile(text, str(PAGE), "exec"), names)
            continue
        monkeypatch.setattr("sys.argv", shlex.split(text))
        try:
            main()
        except SystemExit as done:
            assert not done.code
    assert names["spikes"].shape == (20, 8, 6) and 0 < names["spikes"].mean() < 1
    written = Profile.load(tmp_path / "profile" / "profile.json")
    assert [(r.name, r.ac) for r in written.rows] == [(r.name, r.ac) for r in names["profile"].rows]


def test_every_node_that_is_read_is_listed() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [kind for kind in SUPPORTED if f"`{kind}`" not in text] == []
