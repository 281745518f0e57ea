"""docs/extending.md says what works: its blocks are run, in order, as a stranger would."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from snn_energy.profiling import Call
from snn_energy.profiling.own import READ

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
ROOT = PAGE.parents[1]

FOUND = """
from my_snn import AdaptiveLIF
from snn_energy.profiling import neurons, rules

neurons._REGISTERED.clear()  # what the import did; the entry point remains
neurons._NEAREST.clear()
print(neurons.is_neuron(AdaptiveLIF()))
from my_neurons import Integrate

print(neurons.whose(Integrate()) == ("known", "my_neurons.Integrate"))
print(neurons.facts_of(Integrate()).time_axis == 1)
print({"cumsum", "my_snn::packed_linear"} <= set(rules.rules_with()))
"""


def blocks() -> Iterator[tuple[str, str, str]]:
    """(language, file that the block belongs to or "", text) of every fenced block."""
    for part in PAGE.read_text(encoding="utf-8").split("\n```")[1::2]:
        language, _, text = part.partition("\n")
        first, _, rest = text.partition("\n")
        name = first.removeprefix("# ") if first.startswith("# ") and " " not in first[2:] else ""
        yield language, name, rest if name else text


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page, and what an installer makes of its entry points."""
    folder = tmp_path_factory.mktemp("extending")
    for language, name, text in blocks():
        if name:
            with (folder / name).open("a", encoding="utf-8") as file:
                file.write(text + "\n\n")
        if language == "toml":
            info = folder / "my_snn-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-snn\nVersion: 1.0\n")
            groups = tomllib.loads(text)["project"]["entry-points"].items()
            lines = (
                f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items())
                for group, points in groups
            )
            (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


def run(place: Path, *command: str, path: str = "") -> str:
    """What a fresh Python prints; `path` goes first on its import path."""
    search = os.pathsep.join(p for p in (path, str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=place,
        env=os.environ | {"PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_page_has_a_recipe_for_each_door() -> None:
    titles = {line[3:] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("## ")}
    doors = "counting rule", "neuron", "framework", "convention, a cost table", "data set", "model"
    assert titles == {*(f"A {door}" for door in doors), "An export target", "In a package"}


def test_the_page_names_what_a_rule_may_use() -> None:
    inner = {  # the engine's
        "tag",
        "lead",
        "order",
        "operation",
        "rec",
        "ran",
        "failed",
        "result",
        "tags",
        "arguments",
        "pair",
    }
    text = PAGE.read_text(encoding="utf-8")
    for name in vars(Call):
        if not name.startswith("_") and name not in inner:
            assert f"`call.{name}" in text, name
    for decided_as, counts in READ.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{decided_as}` |")]
        for name in (name for group in counts for name in group):
            assert f"`{name}`" in line


@pytest.mark.slow
def test_the_blocks_run_as_they_stand(place: Path) -> None:
    """Registered from Python: a copy of the files alone, without entry points."""
    script = "\n\n".join(text for language, name, text in blocks() if language == "python" and not name)
    assert script.count("assert ") > 12
    apart = place / "apart"
    apart.mkdir()
    for file in (*place.glob("*.py"), *place.glob("*.yaml")):
        (apart / file.name).write_bytes(file.read_bytes())
    (apart / "script.py").write_text(script, encoding="utf-8")
    run(apart, "script.py")


@pytest.mark.slow
def test_the_commands_run_with_the_entry_points_alone(place: Path) -> None:
    commands = [line for language, _, text in blocks() if language == "sh" for line in text.splitlines()]
    assert len(commands) == 5
    printed = {}
    for command in commands:
        program, *rest = command.split()
        assert program == "snn-energy"
        printed[rest[0]] = run(place, "-m", "snn_energy", *rest, path=str(place))
    assert "Two layers for bars" in printed["list"]
    assert "ours" in printed["profile"] and "our-chip" in printed["profile"]
    assert "identical" in printed["export"] and "5 of 5 predictions equal" in printed["verify"]
    (place / "installed.py").write_text(FOUND, encoding="utf-8")
    assert run(place, "installed.py", path=str(place)).split() == ["True"] * 4
