"""Two profiles beside each other: every operation once, in its place; the terminal's 80 columns; bounds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from command import refused, run
from energy_builders import profile as pencil

from snn_energy.energy import estimate
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.reports.charts import Point, front
from snn_energy.reports.compare import Side, labels, lines
from snn_energy.reports.words import picojoules


def other() -> Profile:
    """The pencil's network with a cheaper layer, one that is new behind it, and one that is gone."""
    rows = []
    for row in pencil().rows:
        if row.name == "hid":
            rows.append(dataclasses.replace(row, ac=600, ac_executed=600))
            rows.append(dataclasses.replace(row, name="new.layer", ac=64, ac_executed=64))
        elif row.name != "graded":
            rows.append(row)
    return dataclasses.replace(pencil(), rows=tuple(rows), model="other", correct=1)


def sides(*profiles: Profile) -> list[Side]:
    return [Side(p.model, p, estimate(p)) for p in profiles]


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "a" / "profile.json", tmp_path / "b" / "profile.json"
    dataclasses.replace(pencil(), correct=2).save(_made(first))
    other().save(_made(second))
    return first, second


def _made(path: Path) -> Path:
    path.parent.mkdir()
    return path


def test_every_operation_stands_once_and_in_its_place() -> None:
    first, second = sides(pencil(), other())
    found = lines([first, second])
    keys = [(line.name, line.operation) for line in found]
    assert len(set(keys)) == len(keys) == len({r.key for r in (*first.profile.rows, *second.profile.rows)})
    assert keys.index(("new.layer", "conv2d")) == keys.index(("hid", "conv2d")) + 1
    for s, side in enumerate((first, second)):
        assert sum(line.pj[s] or 0.0 for line in found) == pytest.approx(side.energy.total_pj)
    by_name = {line.name: line for line in found}
    assert by_name["new.layer"].pj == (None, 0.9 * 64 / 2) and by_name["new.layer"].ratio is None
    assert by_name["graded"].difference == pytest.approx(-0.9 * 90 / 2)
    assert by_name["hid"].ratio == pytest.approx(600 / 1700)


def test_order_of_three_networks_that_share_little() -> None:
    """What only the second and third have stands behind what comes before it there."""

    def of(*names: str) -> Profile:
        return Profile(tuple(OpRow(n, "linear", ac=1) for n in names), samples=1, time_steps=1)

    found = lines(sides(of("a", "c"), of("x", "a", "b", "c"), of("a", "b", "d")))
    assert [line.name for line in found] == ["x", "a", "b", "d", "c"]


def test_diff_fits_80_columns_and_adds_up(saved: tuple[Path, Path]) -> None:
    done = run("diff", *saved)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    first, second = estimate(pencil()), estimate(other())
    total = next(line for line in done.stdout.splitlines() if line.startswith("total"))
    change = picojoules(second.total_pj - first.total_pj)
    assert total.split()[1:] == [
        *picojoules(first.total_pj).split(), *picojoules(second.total_pj).split(), *change.split(),
        f"{second.total_pj / first.total_pj:.3f}",
    ]  # fmt: skip
    assert "operations equal" in done.stdout and "100.00 %  →  50.00 %" in done.stdout
    record = json.loads(run("diff", *saved, "--json").stdout)
    assert record["difference_pj"] == pytest.approx(second.total_pj - first.total_pj)
    assert sum(layer["difference_pj"] for layer in record["layers"]) == pytest.approx(record["difference_pj"])


def test_long_names_keep_their_end(tmp_path: Path) -> None:
    long = "stage.0." * 12 + "mlp.fc1_conv"
    for name, ac in (("a", 100), ("b", 5)):
        rows = (OpRow(long, "conv2d", input_kind="binary", ac=ac),)
        Profile(rows, samples=1, time_steps=1).save(tmp_path / f"{name}.json")
    text = run("diff", tmp_path / "a.json", tmp_path / "b.json").stdout
    assert max(map(len, text.splitlines())) <= 80 and "mlp.fc1_conv " in text


def test_a_folder_of_runs_is_compared(saved: tuple[Path, Path], tmp_path: Path) -> None:
    done = run("report", tmp_path, "--out", tmp_path / "cmp.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "cmp.html").read_text(encoding="utf-8")
    assert "2 networks compared" in page and "other takes" in page
    assert refused("diff", tmp_path, saved[0]).startswith("error: diff compares two profiles")
    assert "--figures is for the report of one profile" in refused("report", *saved, "--figures", tmp_path)
    (tmp_path / "empty").mkdir()
    assert "no profile.json in this folder" in refused("report", tmp_path, tmp_path / "empty")


def test_labels_tell_profiles_apart() -> None:
    one = pencil()
    paths = [Path("runs/a/profile.json"), Path("runs/b/profile.json"), Path("c.json")]
    assert labels(paths, [one, one, one]) == ["a", "b", "c"]
    assert labels(paths[:2], [one, other()]) == ["pencil", "other"]
    tried = [dataclasses.replace(one, environment={"settings": f"lr={lr}"}) for lr in (0.1, 0.2)]
    assert labels(paths[:2], tried) == ["lr=0.1", "lr=0.2"]
    same = [Path("x/a/profile.json"), Path("y/a/profile.json"), Path("x/a/profile.json")]
    assert len(set(labels(same, [one, one, one]))) == 3


def test_the_front() -> None:
    points = [
        Point("a", 5, 0.9),
        Point("b", 3, 0.8),
        Point("c", 4, 0.8),
        Point("d", 5, 0.9),
        Point("e", 9, 0.95),
    ]
    assert front(points) == ["a", "b", "d", "e"]


# --- check -------------------------------------------------------------------------------------------------


def test_bounds_that_are_kept(saved: tuple[Path, Path]) -> None:
    done = run("check", saved[0], "--max-energy", "20uJ", "--max-rate", ".4", "--max-layer-rate", "50%",
               "--min-accuracy", "90%", "--no-uncounted")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line[:4] for line in done.stdout.splitlines()] == ["ok  "] * 5


def test_an_energy_that_is_not_whole_keeps_no_bound(tmp_path: Path) -> None:
    """But one that is above it already is more than the bound, whatever is missing."""
    rows = (*pencil().rows, OpRow("odd", "uncounted", note="erfinv", calls=1))
    dataclasses.replace(pencil(), rows=rows).save(tmp_path / "p.json")
    line = refused("check", tmp_path / "p.json", "--max-energy", "1J")
    assert "the energy is not whole: 1 row not counted" in line
    assert run("check", tmp_path / "p.json", "--max-energy", "5nJ").returncode == 1


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (("--max-energy", "5nJ"), "energy: 6.181 nJ per inference (exact, 45nm-fp32), more than 5 nJ"),
        (("--max-rate", ".2"), "rate: 0.2848 on average, more than 0.2"),
        (("--max-layer-rate", ".45"), "layer rate: q_lif fires at 0.5000, more than 0.45"),
        (("--min-accuracy", ".9"), "accuracy: 0.5000 on 2 samples, less than 0.9"),
        (("--no-uncounted",), "uncounted: 1 operations without a counting rule: odd (erfinv)"),
    ],
)
def test_the_bound_that_fails_is_named(bound: tuple[str, ...], words: str, tmp_path: Path) -> None:
    odd = (OpRow("odd", "uncounted", note="erfinv", calls=1),) if bound == ("--no-uncounted",) else ()
    dataclasses.replace(pencil(), rows=(*pencil().rows, *odd), correct=1).save(tmp_path / "p.json")
    done = run("check", tmp_path / "p.json", "--max-layer-rate", "1", *bound)
    assert done.returncode == 1
    assert f"FAIL  {words}" in done.stdout and done.stderr.strip() == f"error: {tmp_path / 'p.json'}: {words}"


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ((), "nothing to check"),
        (("--max-energy", "20"), "must be an energy with its unit"),
        (("--max-energy", "nanJ"), "must be an energy with its unit"),
        (("--max-rate", "2"), "must be a share between 0 and 1"),
        (("--min-accuracy", "ninety"), "must be a share between 0 and 1"),
        (("--min-accuracy", ".9"), "measured without labels"),
        (("--max-energy", "1mJ", "--costs", "loihi"), "loihi has no price for MAC"),
        (("--max-energy", "1mJ", "--costs", "lohi"), "did you mean 'loihi'"),
    ],
)
def test_what_cannot_be_checked_is_an_error(bound: tuple[str, ...], words: str, tmp_path: Path) -> None:
    pencil().save(tmp_path / "p.json")
    assert words in refused("check", tmp_path / "p.json", *bound)


def test_mean_rate_weighs_layers_by_their_neurons() -> None:
    spikes, neurons = 24 + 35 + 21 + 14, 120 + 3 * 70
    assert pencil().mean_rate == pytest.approx(spikes / neurons)
