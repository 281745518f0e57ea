"""What docs/training.md shows, run."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from command import run

from snn_energy.training.loop import _Session
from snn_energy.training.recipe import Recipe

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
SMALL = ("epochs=1", "embed_dims=16", "num_heads=2", "T=2", "batch_size=480")


def test_the_python_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "training.md", "exec"), {})


def test_the_first_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand, with a network that is small enough."""
    monkeypatch.chdir(tmp_path)
    block = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)[0]
    commands = [line.split("#")[0].split()[1:] for line in block.splitlines()]
    assert [words[0] for words in commands] == ["train"] * 3
    for words in commands:
        done = run(*words, *(() if "--resume" in words else SMALL))
        assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"digits-statten", "longer"}


def test_what_the_page_names_exists() -> None:
    columns = re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \| ", PAGE.split("has the columns")[1], re.MULTILINE)
    named = {name for pair in columns for name in pair if name}
    told = SimpleNamespace(recipe=SimpleNamespace(energy_samples=1), data=SimpleNamespace(validation=1))
    assert named == set(_Session(told, *[None] * 4).columns)  # type: ignore[arg-type]
    for key in ("sync_bn", "accumulate", "energy_samples", "batch_size", "val_fraction", "ema_decay", "amp"):
        assert key in Recipe.__dataclass_fields__ and f"`{key}" in PAGE
