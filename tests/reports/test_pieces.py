"""What the page is made of: the tree, the diagram, training curves, cards of exports, files of their own."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import re
from pathlib import Path

import pytest
from energy_builders import profile as pencil
from many_rows import any_profile

from snn_energy.energy import cost_tables, estimate
from snn_energy.errors import DataError
from snn_energy.exporters.verification import NeuronCheck, Source, Verification
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.reports import report
from snn_energy.reports.cards import cards, exports_beside
from snn_energy.reports.embed import script_json
from snn_energy.reports.figures import write_figures
from snn_energy.reports.network import block_diagram
from snn_energy.reports.tables import write_tables
from snn_energy.reports.training import training
from snn_energy.reports.view import tree


@pytest.mark.parametrize("costs", ["45nm-fp32", "45nm-memory", "loihi", "step-fp32"])
def test_parts_of_the_tree_add_up(costs: str) -> None:
    measured = any_profile(3)
    energy = estimate(measured, "syops", costs)
    blocks = tree(measured, energy)
    assert sorted(i for b in blocks for i in b.rows) == list(range(len(measured.rows)))
    assert sum(b.pj for b in blocks) == pytest.approx(energy.total_pj)
    for block in blocks:
        assert block.pj == pytest.approx(sum(layer.pj for layer in block.branches))
        for layer in block.branches:
            assert layer.pj == pytest.approx(sum(energy.rows[i].pj for i in layer.rows))


def test_the_diagram_follows_the_spikes() -> None:
    """Q, K and V side by side; the first product below K and V, the second below it and Q."""
    svg = block_diagram(pencil(), estimate(pencil()), "block.0")
    at = {m[1]: int(m[2]) for m in re.finditer(r'data-rows="(\d+)"><rect x="[\d.]+" y="(\d+)"', svg)}
    names = {i: (r.name, r.site) for i, r in enumerate(pencil().rows)}
    place = {names[int(i)]: y for i, y in at.items()}
    assert place["q", 0] == place["k", 0] == place["v", 0] < place["attn", 0] < place["attn", 1]
    assert svg.count("<path") == 4  # K and V into the first, its result and Q into the second
    assert block_diagram(pencil(), estimate(pencil()), "no such block") == ""


def test_names_cannot_leave_the_diagram() -> None:
    row = OpRow('a"><script>', "linear", block="", input_kind="binary", ac=3)
    svg = block_diagram(Profile((row,), 1, 1), estimate(Profile((row,), 1, 1)), "")
    assert "<script" not in svg


def test_json_in_a_script_element_stays_there() -> None:
    value = {"a": "</script><!-- \u2028", "b": [float("nan"), float("inf"), 0.1]}
    text = script_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": value["a"], "b": [None, None, 0.1]}


def test_the_course_of_a_training() -> None:
    rows = [
        {"epoch": 0, "loss": 2.0, "test_accuracy": 0.5, "energy_uj_exact": 3.0},
        {"epoch": 1, "loss": 1.0, "test_accuracy": 0.75, "energy_uj_exact": 2.0, "lr": 0.1},
        {"epoch": 2, "loss": float("nan"), "test_accuracy": 0.7, "energy_uj_exact": None},
    ]
    found = training(dataclasses.replace(pencil(), history=tuple(rows)))
    assert found is not None
    assert found.words == "3 epochs; test accuracy at most 75.00 %, in epoch 1; energy from 3 µJ to 2 µJ."
    assert found.columns == ["epoch", "loss", "test_accuracy", "energy_uj_exact", "lr"]
    assert len(found.charts) == 3 and found.rows[1] == ["1", "1", "75.00 %", "2", "0.1"]
    assert training(pencil()) is None
    assert training(dataclasses.replace(pencil(), history=({"epoch": "x"}, {"loss": 1.0}))) is None
    short = training(dataclasses.replace(pencil(), history=({"epoch": 4, "loss": 1.0},)))
    assert short is not None and short.charts == [] and "measured no energies" in short.words


def test_history_is_kept_in_the_file(tmp_path: Path) -> None:
    kept = dataclasses.replace(pencil(), history=({"epoch": 1, "test_accuracy": 0.5},))
    kept.save(tmp_path / "p.json")
    assert Profile.load(tmp_path / "p.json").history == kept.history


def exported(folder: Path, checkpoint: str, spikes: int = 5, mismatches: int = 0) -> Path:
    folder.mkdir(parents=True)
    check = NeuronCheck("lif", 40, spikes, mismatches)
    source = Source(data="digits", origin={"checkpoint_sha256": checkpoint})
    record = Verification(
        "onnx", "multi-step", 4, 0.0, mismatches, (check,), accuracy={"file": 0.75}, parts=(source,)
    )
    record.save(folder / "verification.json")
    return folder


def test_cards_say_what_the_record_says(tmp_path: Path) -> None:
    good, bad = exported(tmp_path / "good", "aa"), exported(tmp_path / "bad", "bb", mismatches=3)
    ours, theirs = cards([good, bad])
    assert (ours.verdict, ours.ok, ours.accuracy) == ("identical", True, {"file": "75.00 %"})
    assert (theirs.verdict, theirs.ok) == ("different", False)
    page = report(pencil(), tmp_path / "r.html", verifications=(good, bad)).read_text(encoding="utf-8")
    assert "onnx: identical" in page and "onnx: different" in page


def with_mapping(folder: Path, **changed: object) -> Path:
    """The export with a chip's answer in its record."""
    record = json.loads((folder / "verification.json").read_text())
    obstacle = {"node": "pool", "what": "no maximum", "way_out": "pool spikes"}
    answer = {"chip": "loihi2", "title": "Loihi 2", "fits": False, "cores": 1, "chips": 1}
    record["parts"]["mapping"] = {"answers": [answer | {"obstacles": [obstacle]} | changed]}
    (folder / "verification.json").write_text(json.dumps(record))
    return folder


def test_the_core_map_is_read(tmp_path: Path) -> None:
    folder = with_mapping(exported(tmp_path / "lava", "aa"))
    core = {"chip": 0, "core": 3, "populations": ["a.lif", "b"], "neurons": 30, "weight_bits": 5}
    limits = dict(zip(("neurons", "synapse_bits", "in_axons", "out_axons"), (40, 50, 10, 8), strict=True))
    chip = {"limits": {f"{name}_per_core": most for name, most in limits.items()}}
    path = folder / "mapping-loihi2.json"
    path.write_text(json.dumps({"chip": chip, "cores": [core | {"in_axons": 9, "out_axons": 2}]}))
    (answer,) = cards([folder])[0].chips
    assert answer.short == "Loihi 2: does not fit, 1 reason"
    assert answer.obstacles == (("pool", "no maximum", "pool spikes"),)
    (used,) = answer.cores
    assert (used.name, used.populations, used.fullest) == ("0.3", "a.lif, b", 0.9)
    assert used.shares == {"neurons": 0.75, "weights": 0.1, "axons in": 0.9, "axons out": 0.25}
    page = report(pencil(), tmp_path / "r.html", verifications=(folder,)).read_text(encoding="utf-8")
    assert "core map" in page and "90.00 %" in page
    for broken, words in (({"chip": chip, "cores": [core]}, "'in_axons' is missing"), ({}, "it must have")):
        path.write_text(json.dumps(broken))
        with pytest.raises(DataError, match=words):
            cards([folder])


@pytest.mark.parametrize("changed", [{"cores": "x"}, {"obstacles": 3}, {"fits": None}])
def test_a_record_of_nonsense_is_one_line(tmp_path: Path, changed: dict[str, object]) -> None:
    with pytest.raises(DataError, match="damaged"):
        cards([with_mapping(exported(tmp_path / "lava", "aa"), **changed)])


@pytest.mark.parametrize("part", [{"lava": {}}, {"sanafe": {"architecture": 1}}, {"c": {"builds": 1}}])
def test_parts_of_nonsense_are_one_line(tmp_path: Path, part: dict[str, object]) -> None:
    folder = exported(tmp_path / "lava", "aa")
    record = json.loads((folder / "verification.json").read_text())
    record["parts"] |= part
    (folder / "verification.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="damaged: its parts"):
        cards([folder])


def test_only_exports_of_the_same_checkpoint_are_found(tmp_path: Path) -> None:
    here, below = exported(tmp_path / "run" / "onnx", "aa"), exported(tmp_path / "run" / "p" / "nir", "aa")
    exported(tmp_path / "run" / "other", "bb")
    broken = tmp_path / "run" / "broken"
    broken.mkdir()
    (broken / "verification.json").write_text("{", encoding="utf-8")
    assert exports_beside(tmp_path / "run" / "p", "aa") == [here, below]
    assert exports_beside(tmp_path / "run" / "p", None) == []


def test_the_page_holds_the_profile(tmp_path: Path) -> None:
    measured = any_profile(2, count=30)
    page = report(measured, tmp_path / "r.html").read_text(encoding="utf-8")
    packed = re.search(r'href="data:application/gzip;base64,([^"]+)"', page)
    assert packed is not None
    (tmp_path / "p.json").write_bytes(gzip.decompress(base64.b64decode(packed[1])))
    record = json.loads((tmp_path / "p.json").read_text())
    assert record["samples"] == measured.samples and len(record["rows"]) == len(measured.rows)


def test_figures_and_tables_alone(tmp_path: Path) -> None:
    strange = OpRow("$x_1$ & 50 %", "conv2d", input_kind="binary", ac=70, input_elements=9)
    measured = dataclasses.replace(pencil(), rows=(*pencil().rows, strange))
    energies = [estimate(measured, name, cost_tables()["45nm-fp32"]) for name in ("exact", "sdt")]
    drawn = write_figures(measured, energies, tmp_path / "f")
    assert {p.name for p in drawn} == {
        f"{name}.{ending}"
        for name in ("energy_by_layer", "conventions", "firing_rates", "break_even")
        for ending in ("svg", "pdf")
    }
    first = {p.name: p.read_bytes() for p in drawn}
    assert all(data.startswith(b"%PDF") for name, data in first.items() if name.endswith("pdf"))
    assert b"$x_1$ &amp; 50 %" in first["energy_by_layer.svg"]
    written = write_tables(measured, energies, tmp_path / "t")
    assert {p.suffix for p in written} == {".tex", ".md"} and len(written) == 8
    assert r"\$x\_1\$ \& 50 \%" in (tmp_path / "t" / "layers.tex").read_text(encoding="utf-8")
    assert r"\toprule" in (tmp_path / "t" / "conventions.tex").read_text(encoding="utf-8")
