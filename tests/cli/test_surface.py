"""The command line's surface: help, lists, doctor, quiet, JSON, folders that are not overwritten."""

from __future__ import annotations

import fnmatch
import io
import json
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from command import refused, run

from snn_energy.checkpoints import save_checkpoint
from snn_energy.cli import demo, doctor, tables, waiting
from snn_energy.cli.app import COMMANDS, app
from snn_energy.cli.examples import EXAMPLES
from snn_energy.cli.listing import WHAT
from snn_energy.models.zoo import create_model
from snn_energy.profiling import Profile

TREE: Any = typer.main.get_command(app)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(2)
    fields = {"in_channels": 1, "num_classes": 10, "embed_dims": 16, "num_heads": 2, "depths": 1, "T": 2}
    model = create_model("statten", **fields, chunk_size=2, pooling_stat="0011").eval()
    path = tmp_path_factory.mktemp("surface") / "best.pth"
    save_checkpoint(path, model, name="statten", recipe={"model": "statten", "data": "digits"})
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_examples_that_parse(command: str) -> None:
    shown = run(command, "-h")
    assert shown.returncode == 0 and "Examples:" in shown.stdout
    assert EXAMPLES[command]
    for line, words in EXAMPLES[command]:
        program, name, *args = shlex.split(line.partition(" | ")[0])
        assert (program, name) == ("snn-energy", command) and words
        TREE.commands[command].make_context(command, args)  # raises for an option that is not there


def test_exit_codes_and_completion_are_in_the_help() -> None:
    text = run("--help").stdout
    assert "Exit codes:" in text and "--install-completion" in text and run("-h").stdout == text


def test_list_alone_lists_everything() -> None:
    lines = run("list").stdout.splitlines()
    assert [line for line in lines if line.endswith(":") and " " not in line] == [
        f"{kind.capitalize()}:" for kind in WHAT
    ]
    everything = json.loads(run("list", "--json").stdout)
    assert set(everything) == set(WHAT)
    for kind, entries in everything.items():
        (shown,) = [json.loads(run("list", kind, "--json").stdout)]
        assert shown == {kind: entries} and entries
        assert all(any(line.startswith(name) for line in lines) for name in entries)


def test_list_filters_by_name() -> None:
    known = json.loads(run("list", "models", "--json").stdout)["models"]
    for pattern in ("statten*", "*resnet*", "st?tten"):
        wanted = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
        lines = run("list", "models", pattern).stdout.splitlines()
        assert wanted and [line.split()[0] for line in lines] == wanted
    assert "45nm-fp32" in run("list", "45nm*").stdout
    assert "did you mean 'statten'" in refused("list", "models", "stattn*")
    assert "cannot list 'nothing'" in refused("list", "nothing")


def test_profile_prints_the_top_and_the_sum_of_the_rest(checkpoint: Path, tmp_path: Path) -> None:
    command = ("profile", checkpoint, "--samples", 3, "--out", tmp_path / "p")
    done = run(*command, "--top", 3, "--sort", "name")
    assert done.returncode == 0, done.stderr
    profile = Profile.load(tmp_path / "p" / "profile.json")
    lines = done.stdout.splitlines()
    (start,) = [i for i, line in enumerate(lines) if line.startswith("module")]
    names = [line.split()[0] for line in lines[start + 2 : start + 5]]
    assert names == sorted(names) and " more " in lines[start + 5] and lines[start + 6].startswith("total")
    whole = run(*command, "--all")
    assert "dense (M)" in whole.stdout and " more " not in whole.stdout
    assert {row.name for row in profile.neurons} <= set(whole.stdout.split())
    assert "--depth chooses layers" in refused(*command, "--by", "block", "--depth", 1)
    assert "--all and --top" in refused(*command, "--all", "--top", 2)


def test_profile_as_json(checkpoint: Path, tmp_path: Path) -> None:
    command = ("profile", checkpoint, "--samples", 3, "--out", tmp_path / "p", "--convention", "exact,syops")
    done = run(*command, "--json", "--quiet")
    assert done.returncode == 0 and done.stderr == ""
    record = json.loads(done.stdout)
    profile = Profile.load(tmp_path / "p" / "profile.json")
    assert (record["samples"], record["time_steps"], record["model"]) == (3, 2, "statten")
    assert record["data"] == profile.data and record["accuracy"] == profile.accuracy
    for total, name in zip(record["totals"], ("exact", "syops"), strict=True):
        energy = profile.energy(name)
        assert (total["convention"], total["mj"], total["ac"]) == (name, energy.mj, energy.ac)
        assert total["prices"]["pj"]["ac"] == energy.costs.ac and total["prices"]["sources"]
    assert sum(row["pj_exact"] for row in record["rows"]) == pytest.approx(profile.energy().total_pj)
    assert all(Path(name).is_file() for name in record["files"])


def test_quiet_says_nothing(checkpoint: Path, tmp_path: Path) -> None:
    done = run("profile", checkpoint, "--samples", 2, "--out", tmp_path / "p", "-q")
    assert done == (0, "", "") and (tmp_path / "p" / "report.html").is_file()
    assert run("profile", checkpoint, "--samples", 2, "--data", "digit", "-q").stderr.startswith("error:")
    assert run("list", "costs", "-q") == (0, "", "")


def test_another_networks_profile_is_not_overwritten(checkpoint: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "p", "--samples", 2)
    assert run("profile", checkpoint, *out).returncode == 0
    again = run("profile", checkpoint, *out)
    assert again.returncode == 0 and "note: the profile of 2 samples of digits" in again.stderr
    assert "note: the profile" in run("profile", checkpoint, *out, "--json").stderr
    assert "another network" in refused("profile", checkpoint, *out, "--time-steps", 4)
    other = checkpoint.with_name("other.pth")
    stored = torch.load(checkpoint, weights_only=True)
    stored["state_dict"]["head.bias"] += 1
    torch.save(stored, other)
    before = (tmp_path / "p" / "profile.json").read_bytes()
    line = refused("profile", other, *out)
    assert "holds the profile of another network (statten, best.pth)" in line and "--overwrite" in line
    assert (tmp_path / "p" / "profile.json").read_bytes() == before
    assert run("profile", other, *out, "--overwrite").returncode == 0
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "report.html").write_text("mine")
    assert "report.html is there already" in refused("profile", other, "--out", tmp_path / "q")
    (tmp_path / "q" / "profile.json").write_text("{}")
    assert "--overwrite" in refused("profile", other, "--out", tmp_path / "q")
    assert (tmp_path / "q" / "report.html").read_text() == "mine"


def test_doctor_finds_what_is_there_and_names_the_way_to_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["torch>=2.6", 'nothing-like-it>1; extra == "onnx"', 'pytest; extra == "dev"', "absent>=2"]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: asked)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/bin/cc" if name == "cc" else None)
    done = run("doctor", "--json")
    assert done.returncode == 1  # `absent` is needed
    found = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert found["torch"]["found"].startswith(torch.__version__.split("+")[0])
    assert found["nothing-like-it"]["found"] is None and "onnx]" in found["nothing-like-it"]["brings"]
    assert found["gcc"]["found"] == "/bin/cc" and found["chromium"]["found"] is None
    assert "pytest" not in found and found["absent"]["needed"]
    told = run("doctor")
    assert "missing absent" in told.stdout and "pip install absent" in told.stdout
    asked[:] = asked[:3]
    assert run("doctor").returncode == 0


class Screen(io.StringIO):
    """A terminal of which all is kept."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_the_spinner_turns_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with waiting.waiting("thinking"):
        time.sleep(0.25)
    assert "thinking" in screen.getvalue() and screen.getvalue().endswith("\r\x1b[K")
    with waiting.quiet_about_progress(), waiting.waiting("nothing of this"):
        pass
    assert "nothing of this" not in screen.getvalue()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with waiting.waiting("piped"):
        pass
    assert sys.stderr.getvalue() == ""


def test_a_terminal_gets_a_table_as_wide_as_it_is(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("profile", checkpoint, "--samples", 2, "--out", tmp_path / "p", "-q").returncode == 0
    profile = Profile.load(tmp_path / "p" / "profile.json")
    for columns in (60, 80, 132):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        screen = Screen()
        monkeypatch.setattr(sys, "stdout", screen)
        tables.show_table(profile.table())
        text = screen.getvalue()
        assert "\x1b[1m" in text
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in text.splitlines()]
        assert max(map(len, lines)) <= columns
        assert any("dense" in line for line in lines) == (columns == 132)


def test_training_without_its_extra_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for name in [name for name in sys.modules if name.startswith("timm.")]:
        monkeypatch.delitem(sys.modules, name)
    line = refused("train", "digits-statten", "--out", tmp_path / "run", "epochs=1")
    assert "pip install 'snn-energy[train]'" in line


@pytest.mark.parametrize("train", [False, True])
def test_the_demo_is_commands_that_exist(
    train: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def step(title: str, name: str, *arguments: object) -> None:
        TREE.commands[name].make_context(name, [str(argument) for argument in arguments])
        ran.append(name)

    monkeypatch.setattr(demo, "_step", step)
    done = run("demo", "--out", tmp_path / "d", *(["--train"] if train else []))
    assert done.returncode == 0, done.stderr
    assert ran[-4:] == ["profile", "export", "export", "report"] and (not train or ran[0] == "train")
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    ran.clear()
    told = run("demo", "--out", tmp_path / "d").stdout
    assert ran[-2:] == ["profile", "report"] and "pip install 'snn-energy[onnx]'" in told
