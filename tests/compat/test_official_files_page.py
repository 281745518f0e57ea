"""docs/official-files.md: its example runs, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from snn_energy.compat import neuron
from snn_energy.models.releases import OWN_CODE, RELEASES

PAGE = (Path(__file__).parents[2] / "docs" / "official-files.md").read_text(encoding="utf-8")


def test_the_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, use = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "old_net.py").write_text(file)
    monkeypatch.syspath_prepend(tmp_path)
    scope: dict[str, Any] = {}
    exec(use, scope)
    assert "lif" in capsys.readouterr().out
    assert scope["net"].T == 6


def test_the_tables_are_complete() -> None:
    assert OWN_CODE.format(path="CKPT") in PAGE
    for release in RELEASES:
        assert release.name.split(" (")[0] in PAGE, release.name
        assert not release.model or f"`{release.model}`" in PAGE
    for name in set(neuron.__all__) - {"check_backend"}:
        assert f"`{name}`" in PAGE, name
