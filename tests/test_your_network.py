"""docs/your-network.md says what works: its commands and code are run on the files of the example."""

from __future__ import annotations

import runpy
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import run

from snn_energy.profiling import Profile, neurons

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "your-network.md"


def blocks(language: str) -> Iterator[str]:
    """The fenced blocks of the page's first part."""
    text = PAGE.read_text(encoding="utf-8").partition("## From the command line")[2].partition("\n## ")[0]
    for part in text.split("\n```")[1::2]:
        first, _, rest = part.partition("\n")
        if first == language:
            yield rest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the example, which is the current folder and on the import path."""
    place = tmp_path / "own_network"
    shutil.copytree(ROOT / "examples" / "own_network", place, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    monkeypatch.delitem(sys.modules, "net", raising=False)  # another test's
    yield place
    sys.modules.pop("net", None)


def test_the_commands_and_the_code_run_as_they_stand(folder: Path) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    printed = {}
    for line in lines:
        program, *args = line.split()
        if program == "python":
            runpy.run_path(args[0])
            continue
        assert program == "snn-energy"
        done = run(*args)
        assert done.returncode == 0, done.stderr
        printed[args[0]] = done.stdout
    assert list(printed) == ["profile", "evaluate"]
    profile = Profile.load(folder / "profile" / "profile.json")
    assert (profile.samples, profile.time_steps, profile.model) == (20, 7, "Net")
    assert f"top-1 {profile.accuracy:.2%}" in printed["evaluate"] and ", 7: " in printed["evaluate"]
    (code,) = blocks("python")
    assert "assert " in code
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # which weights were taken
        exec(code, {})


def test_every_flag_of_the_page_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    options = run("profile", "--help").stdout + run("evaluate", "--help").stdout
    flags = {word for word in text.replace("`", " ").split() if word.startswith("--") and word.strip("-")}
    assert len(flags) > 9
    for flag in flags:
        assert flag.strip(".,;:") in options, flag


def test_the_neuron_of_the_page_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text(encoding="utf-8").partition("### Neurons of your own")[2]
    code = text.partition("```python\n")[2].partition("```")[0]
    assert "assert layer.ac ==" in code
    registered = dict(neurons._REGISTERED)
    try:
        exec(compile(code, str(PAGE), "exec"), {"__name__": "page"})
    finally:
        neurons._REGISTERED.clear()
        neurons._REGISTERED.update(registered)
        neurons._NEAREST.clear()
