"""`snn-energy sweep`: what is tried, who does it, what is left of it, one table and one figure."""

from __future__ import annotations

import csv
import itertools
import os
import socket
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import command
import pytest

from snn_energy.errors import ConfigError, SnnEnergyError
from snn_energy.sweep import Outcome, Sweep, read_space, study
from snn_energy.sweep.study import marked
from snn_energy.sweep.table import as_csv, as_svg

TINY = ("embed_dims=8", "num_heads=1", "depths=1", "T=1", "chunk_size=1", "pooling_stat=1111", "epochs=1",
        "batch_size=479")  # fmt: skip


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Sweeps that do not train: accuracy and energy are functions of the settings."""
    runs: list[dict[str, Any]] = []

    def train(self: Sweep, trial: Any, on_step: Any) -> dict[str, float]:
        runs.append(dict(trial.params))
        lr, steps = float(trial.params["lr"]), int(trial.params.get("T", 1))
        if lr > 0.5:
            raise SnnEnergyError("loss became nan\nin epoch 1")
        return {"accuracy": lr + 0.1 * steps, "test_accuracy": lr, "nanojoules": 100.0 * steps,
                "accumulates": 7.0, "epoch": 2, "seconds": 1.5}  # fmt: skip

    monkeypatch.setattr(Sweep, "_train", train)
    return runs


def test_every_combination_once_and_no_more_when_it_is_called_again(fake: list[Any], tmp_path: Path) -> None:
    words = ("digits-statten", "lr=0.1,0.2,0.9", "T=1,2", "chunk_size=1", "--out", tmp_path / "s")
    done = command.run("sweep", *words)
    assert done.returncode == 0, done.stderr
    expected = {(lr, t) for lr, t in itertools.product(("0.1", "0.2", "0.9"), ("1", "2"))}
    assert {(run["lr"], run["T"]) for run in fake} == expected
    assert len(fake) == 6
    with (tmp_path / "s/sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["accuracy"] for row in rows] == ["0.4", "0.3", "0.3", "0.2", "", ""]
    assert [(row["set.lr"], row["set.T"]) for row in rows if row["pareto"]] == [("0.2", "2"), ("0.2", "1")]
    assert {row["note"] for row in rows if row["state"] == "failed"} == {r"loss became nan\nin epoch 1"}
    again = command.run("sweep", *words)
    assert again.returncode == 0
    assert len(fake) == 6
    assert "failed loss became nan" in " ".join(again.stdout.split())


def test_two_processes_share_a_study(fake: list[Any], tmp_path: Path) -> None:
    """Both open it before either has begun; each combination is trained once."""
    space, storage = read_space(("lr=0.1,0.2,0.3,0.4", "embed_dims=8")), f"journal:{tmp_path / 'log'}"
    first, second = (
        Sweep("digits-statten", space, tmp_path / name, storage=storage, study="s") for name in ("a", "b")
    )
    trial = first._next()
    second.run()
    assert trial is not None
    first._run(trial, lambda number, step: None)
    first.run()
    assert sorted(run["lr"] for run in fake) == ["0.1", "0.2", "0.3", "0.4"]
    assert [o.state for o in second.outcomes()] == ["done"] * 4


def test_what_a_dead_process_left_is_done_again(
    fake: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = read_space(("lr=0.1,0.2", "embed_dims=8"))
    sweep = Sweep("digits-statten", space, tmp_path)
    gone = sweep._next()
    assert gone is not None
    gone.set_user_attr("pid", 2**30)  # of no process
    sweep.run()
    assert [run["lr"] for run in fake] == ["0.2", "0.1"]
    assert [(o.state, o.folder) for o in sweep.outcomes()] == [("done", "trial-1"), ("done", "trial-0")]
    silent = Sweep("digits-statten", space, tmp_path, study="elsewhere")
    trial = silent._next()
    assert trial is not None
    trial.set_user_attr("host", "another machine")
    assert [o.settings["lr"] for o in silent.outcomes() if o.state == "running"] == ["0.1"]
    silent.run()
    assert [o.state for o in silent.outcomes()] == ["done", "running"]  # it may be alive
    trial.set_user_attr("beat", time.time() - study.DEAD - 1)
    silent.run()
    assert [o.state for o in silent.outcomes()] == ["done", "done"]


def test_an_interrupted_trial_is_given_back(
    fake: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep("digits-statten", read_space(("lr=0.1,0.2",)), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Sweep, "_train", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sweep.run()
    assert [o.state for o in sweep.outcomes()] == ["waiting", "waiting"]
    sweep.run()
    assert len(fake) == 2


def test_trials_are_drawn_from_ranges(fake: list[Any], tmp_path: Path) -> None:
    space = read_space(("lr=0.001..0.1", "T=1..6", "embed_dims=8,16", "chunk_size=1"))
    assert space.ranges["lr"].logarithmic
    assert not space.ranges["T"].logarithmic
    sweep = Sweep("digits-statten", space, tmp_path, trials=5)
    sweep.run()
    assert len(fake) == 5
    for outcome in sweep.outcomes():
        assert 0.001 <= float(outcome.settings["lr"]) <= 0.1
        assert outcome.settings["T"] in "123456"
        assert sweep.recipe_of(outcome.settings).config["embed_dims"] in (8, 16)
    Sweep("digits-statten", space, tmp_path, trials=7).run()
    assert len(fake) == 7


def test_a_real_one(tmp_path: Path) -> None:
    """Trained, profiled, priced: the numbers are those of the checkpoint in the trial's folder."""
    import snn_energy
    from snn_energy.data import load_data

    done = command.run(
        "sweep", "digits-statten", *TINY, "energy_weight=0,0.5", "--samples", 40, "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["set.energy_weight"] for row in rows} == {"0", "0.5"}
    row = rows[0]
    model = snn_energy.load(tmp_path / row["folder"] / "best.pth")
    x, _ = load_data("digits").test.batch(slice(0, 40))
    energy = snn_energy.estimate(snn_energy.profile(model, [x]), "exact")
    assert float(row["nanojoules"]) == pytest.approx(energy.total_pj / 1e3, rel=1e-5)
    assert float(row["accumulates"]) == pytest.approx(energy.ac, rel=1e-5)
    assert row["where"] == f"{socket.gethostname()}:{os.getpid()}"
    done = command.run("report", tmp_path, "--out", tmp_path / "compare.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "2 networks compared" in page and "energy_weight=0.5" in page and "epoch" in page


def test_a_run_that_was_broken_off_goes_on_in_its_folder(tmp_path: Path) -> None:
    """Stopped in its second epoch, the trial ends with the run that it began."""
    words = tuple("epochs=3" if word == "epochs=1" else word for word in TINY)
    sweep = Sweep("digits-statten", read_space((*words, "energy_weight=0,0.5")), tmp_path, samples=4)

    def stop(number: int, step: Any) -> None:
        if step.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SnnEnergyError)):
        sweep.run(on_step=stop)
    seen: list[int] = []
    sweep.run(on_step=lambda number, step: seen.append(step.epoch))
    assert [(o.state, o.folder) for o in sorted(sweep.outcomes(), key=lambda o: o.folder)] == [
        ("done", "trial-0"), ("done", "trial-1"),
    ]  # fmt: skip
    assert seen.count(1) == 3  # of the other trial alone: three steps are an epoch
    with (tmp_path / "trial-0/log.csv").open() as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == ["1", "2", "3"]


def test_pareto_against_all_pairs() -> None:
    points = [(0.9, 5.0), (0.9, 4.0), (0.8, 4.0), (0.7, 1.0), (0.95, 9.0), (0.7, 1.0), (0.6, 1.5)]
    outcomes = [Outcome(i, {}, "done", accuracy=a, nanojoules=e) for i, (a, e) in enumerate(points)]
    outcomes.append(Outcome(9, {}, "running"))
    assert [o.number for o in marked(outcomes) if o.pareto] == [1, 3, 4, 5]


def test_the_figure_is_whole_and_names_what_is_best() -> None:
    found = marked([Outcome(0, {"lr": "$0.1"}, "done", accuracy=0.9, nanojoules=4.0),
                    Outcome(1, {"lr": "0.3"}, "done", accuracy=0.8, nanojoules=5.0),
                    Outcome(2, {"lr": "0.5"}, "failed", note="a, \"b\"")])  # fmt: skip
    figure = as_svg(found, "mine <1>")
    text = "".join(ElementTree.fromstring(figure).itertext())
    assert "lr=$0.1" in text
    assert "mine <1>" in text
    assert "lr=0.3" not in text
    assert as_svg([], "nothing yet").startswith("<?xml")
    lines = list(csv.DictReader(as_csv(found).splitlines()))
    assert [line["note"] for line in lines] == ["", "", 'a, "b"']


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lr=0.1",), "nothing to sweep"),
        (("lr",), "'lr': must be key=value, key=a,b,c or key=low..high"),
        (("lr=0.1,,0.2",), "a value between commas is empty"),
        (("lr=0.1,0.1",), "a value comes twice"),
        (("lr=0.1,0.2", "lr=0.3"), "lr comes twice"),
        (("lr=0.2..0.1",), "from its smaller end to its larger one"),
        (("lr=0.1..0.2",), "say how many --trials"),
        (("lr=0.1,fast",), "lr = 'fast': must be float"),
        (("T=2,5",), "T=5: chunk_size = 2: must divide T = 5"),
        (("learning=0.1,0.2",), "unknown key 'learning'"),
    ],
)
def test_what_cannot_be_swept_is_refused_in_a_line(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    assert message in command.refused("sweep", "digits-statten", *words, "--out", tmp_path / "none")


def test_another_sweep_in_the_same_study_is_refused(fake: list[Any], tmp_path: Path) -> None:
    Sweep("digits-statten", read_space(("lr=0.1,0.2",)), tmp_path)
    with pytest.raises(ConfigError, match="holds another sweep, whose choices is"):
        Sweep("digits-statten", read_space(("lr=0.1,0.3",)), tmp_path)
    said = command.refused("sweep", "digits-statten", "lr=1,2", "--out", tmp_path, "--storage", "nosql://x")
    assert "--storage nosql://x: cannot be used" in said
