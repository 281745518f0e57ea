"""The door of exports: whole folders or none, none over another, own samples; silence proves nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact import exact, exact_images
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import snn_energy
from snn_energy.errors import ConfigError, DataError, UnsupportedOp, VerificationError
from snn_energy.exporters.chip.cards import ChipCards, chip_cards
from snn_energy.exporters.chip.parts import ChipEnergyPart, MappingPart
from snn_energy.exporters.targets import TARGETS, Target
from snn_energy.exporters.verification import NeuronCheck, Source, Verification, read_verification


class Net(nn.Module):
    def __init__(self, inputs: int = 7, last: nn.Module | None = None) -> None:
        super().__init__()
        self.net = nn.Sequential(layer.Linear(inputs, 9), neuron.LIFNode(), last or layer.Linear(9, 4))
        functional.set_step_mode(self.net, "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        return self.net(x.unsqueeze(0).expand(3, *x.shape)).mean(0)


def net(**fields: Any) -> nn.Module:
    torch.manual_seed(0)
    model = Net(**fields)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return exact(model)


X = exact_images(5, 7).numpy() * 3


@pytest.mark.parametrize("target", ["onnx", "nir", "netlist", "lava"])
def test_an_export_is_replaced_only_when_asked(target: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    snn_energy.export(net(), target, out, x=X, source=Source(data="bars"))
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match=f"out holds an export for {target}: .*--overwrite"):
        snn_energy.export(net(), target, out, x=X)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    verdict = snn_energy.export(net(), target, out, x=X[:2], overwrite=True)
    assert verdict.samples == 2 and snn_energy.verify(out).samples == 2
    assert {path.name for path in tmp_path.iterdir()} == {"out"}  # nothing half-done lies beside it


def test_the_chips_answers_are_read_from_the_folder_alone(tmp_path: Path) -> None:
    verdict = snn_energy.export(net(), "netlist", tmp_path / "chip", x=X)
    cards = chip_cards(tmp_path / "chip")
    mapping = verdict.part(MappingPart)
    assert mapping is not None and cards.answers == mapping.answers and len(cards.answers) > 1
    assert cards.page == tmp_path / "chip" / "mapping.html" and cards.page.is_file()
    assert cards.energy == verdict.part(ChipEnergyPart) and cards == chip_cards(
        tmp_path / "chip" / "verification.json"
    )
    snn_energy.export(net(), "onnx", tmp_path / "file", x=X)
    assert chip_cards(tmp_path / "file") == ChipCards(())
    with pytest.raises(DataError, match="a verification record was expected"):
        chip_cards(tmp_path / "nothing")


def test_a_list_of_files_that_is_not_the_one_written_is_refused(tmp_path: Path) -> None:
    snn_energy.export(net(), "onnx", tmp_path, x=X)
    record = json.loads((tmp_path / "verification.json").read_text())
    files = record["files"]
    shorter = {name: entry for name, entry in files.items() if name != "graph.npz"}
    other = files | {"graph.npz": {**files["graph.npz"], "sha256": "0" * 64}}
    for changed, words in (({}, "is empty"), (shorter, "was changed"), (other, "was changed")):
        (tmp_path / "verification.json").write_text(json.dumps(record | {"files": changed}))
        with pytest.raises(DataError, match=f"its list of files {words}: export again"):
            snn_energy.verify(tmp_path)
    (tmp_path / "verification.json").write_text(json.dumps(record))
    assert snn_energy.verify(tmp_path).ok


def test_what_another_target_left_goes_with_it(tmp_path: Path) -> None:
    snn_energy.export(net(), "netlist", tmp_path, x=X)
    snn_energy.export(net(), "onnx", tmp_path, x=X, overwrite=True)
    assert not (tmp_path / "netlist.json").exists() and (tmp_path / "model.onnx").is_file()
    assert sorted(read_verification(tmp_path / "verification.json")["files"]) == [
        "graph.json", "graph.npz", "model.onnx", "samples.npz",
    ]  # fmt: skip


def test_other_files_stay_and_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    snn_energy.export(net(), "onnx", tmp_path, x=X)
    assert (tmp_path / "thesis.tex").read_text() == "precious"
    other = tmp_path / "other"
    other.mkdir()
    (other / "graph.json").write_text("mine")
    with pytest.raises(ConfigError, match=r"graph\.json is there already"):
        snn_energy.export(net(), "onnx", other, x=X)
    assert [path.name for path in other.iterdir()] == ["graph.json"]
    with pytest.raises(ConfigError, match="is not empty and no earlier export"):
        snn_energy.export(net(), "lava", other, x=X)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file is a file: name a folder"):
        snn_energy.export(net(), "nir", tmp_path / "file", x=X)


def test_a_refusal_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOp):
        snn_energy.export(
            net(last=nn.Sequential(layer.Linear(9, 4), nn.GELU())), "netlist", tmp_path / "a", x=X
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["onnx", "nir", "netlist"])
def test_verify_takes_the_samples_that_are_kept(target: str, tmp_path: Path) -> None:
    y = np.array([0, 1, 2, 3, 0])
    made = snn_energy.export(net(), target, tmp_path, x=X, y=y)
    again = snn_energy.verify(tmp_path)
    assert again.samples == 5 and again.neurons == made.neurons and again.accuracy
    (tmp_path / "samples.npz").unlink()
    with pytest.raises(DataError, match=r"samples\.npz: missing"):
        snn_energy.verify(tmp_path)


@pytest.mark.parametrize("target", ["onnx", "nir", "netlist", "lava"])
def test_silence_proves_nothing(target: str, tmp_path: Path) -> None:
    options = {"calibration": X} if target in ("netlist", "lava") else {}
    model = net()
    torch.nn.init.zeros_(model.net[0].bias)
    verdict = snn_energy.export(model, target, tmp_path, x=X * 0, **options)
    assert verdict.verdict == "vacuous" and not verdict.ok
    assert "none of 1 neuron layers fired on 5 samples; give samples that make" in verdict.summary()
    with pytest.raises(VerificationError, match="vacuous: 135 of 135 spikes equal, but none") as no:
        verdict.require()
    assert no.value.exit_code == 1
    assert read_verification(tmp_path / "verification.json")["verdict"] == "vacuous"
    assert snn_energy.verify(tmp_path, x=X).verdict == "identical"


def test_quiet_samples_are_compared_louder_and_that_is_said(tmp_path: Path) -> None:
    quiet = X / np.abs(X).max() / 2
    verdict = snn_energy.export(net(), "onnx", tmp_path / "a", x=quiet * 0.5)
    assert verdict.verdict in ("identical", "vacuous")
    if verdict.verdict == "identical":
        assert verdict.scaled == 1 or f"on the samples times {verdict.scaled:g}" in verdict.summary()


def record(*checks: NeuronCheck, **fields: Any) -> Verification:
    return Verification("t", "f", 3, 0.0, 0, checks, **fields)


def test_nought_of_nought_is_never_identical() -> None:
    assert record().verdict == "vacuous" and "0 of 0 spikes equal, but no neuron" in record().summary()
    silent, alive = NeuronCheck("a", 9, 0, 0), NeuronCheck("b", 9, 4, 0)
    assert record(silent).verdict == "vacuous" and record(silent, alive).verdict == "identical"
    assert "1 of 2 neuron layers never fired" in record(silent, alive).summary()
    assert record(NeuronCheck("a", 9, 0, 2)).verdict == "different"  # it fired in the file


def test_louder_keeps_what_was_found_at_first() -> None:
    silent, alive = NeuronCheck("a", 9, 0, 0), NeuronCheck("a", 9, 4, 0)
    asked = []

    def compare(factor: float) -> Verification:
        asked.append(factor)
        return record(alive if factor == 4 else silent)

    first = record(silent, accuracy={"file": 0.5})
    again = first.louder(compare)
    assert asked == [2.0, 4.0] and again.scaled == 4 and again.accuracy == {"file": 0.5}
    assert "on the samples times 4: as given none fires" in again.summary()
    assert record(alive).louder(compare).scaled == 1 and len(asked) == 2


def test_truncated_differences_are_counted_not_raised() -> None:
    wrong = record(NeuronCheck("a", 9, 4, 1), truncated=True)
    assert wrong.verdict == "different" and wrong.require() is wrong
    with pytest.raises(VerificationError):
        record(NeuronCheck("a", 9, 4, 1)).require()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"files": None}, "files = None: must be a mapping"),
        ({"files": {"model.onnx": 3}}, "files: 'model.onnx' = 3"),
        ({"target": 7}, "target = 7: must be a text"),
        ({"parts": {"source": "digits"}}, r"parts\['source'\] is 'digits'"),
        ({"schema": 1}, "schema 1, not 2: export again"),
    ],
)
def test_a_damaged_record_is_refused_in_words(damage: dict[str, Any], message: str, tmp_path: Path) -> None:
    snn_energy.export(net(), "onnx", tmp_path, x=X)
    path = tmp_path / "verification.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(DataError, match=message):
        snn_energy.verify(tmp_path, x=X)


def test_a_target_that_must_be_alone_says_so() -> None:
    assert TARGETS["lava"].alone and not TARGETS["onnx"].alone and not Target("a:b", "a:c").alone
