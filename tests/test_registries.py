"""Models, data sets and targets of a user's own: found by name everywhere, or refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import snn_energy
from snn_energy import plugins, register_dataset, register_model, register_target
from snn_energy.checkpoints import save_checkpoint
from snn_energy.data import Data, Images, list_data, load_data
from snn_energy.data.sources import DATASETS
from snn_energy.errors import CheckpointError, ConfigError, DataError, SnnEnergyError, VerificationError
from snn_energy.exporters.targets import TARGETS, Target, options
from snn_energy.exporters.verification import NeuronCheck, Verification
from snn_energy.models.zoo import ZOO
from snn_energy.samples import choose_samples


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Nothing that a test registers, or that a package of a test's offers, outlives it."""
    yield
    for registry in (ZOO, DATASETS, TARGETS):
        registry._added.clear()
    plugins.offered.cache_clear()
    plugins.load.cache_clear()


@dataclass(frozen=True)
class SmallConfig:
    width: int = 3


class Small(nn.Module):
    Config = SmallConfig

    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        self.fc = nn.Linear(10, config.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1))


def test_a_model_is_created_saved_and_loaded_by_name(tmp_path: Path) -> None:
    assert register_model("small", summary="ten to few")(Small) is Small
    register_model("wide", {"width": 8})(Small)
    assert {"small", "wide"} <= set(snn_energy.list_models()) and ZOO["small"].summary == "ten to few"
    assert snn_energy.create_model("small").fc.out_features == 3
    model = snn_energy.create_model("wide", width=9)
    assert model.fc.out_features == 9 and model.config == SmallConfig(9)
    save_checkpoint(tmp_path / "wide.pth", model, name="wide")
    loaded = snn_energy.load(tmp_path / "wide.pth")
    assert loaded.config.width == 9 and torch.equal(loaded.fc.weight, model.fc.weight)
    ZOO._added.clear()
    with pytest.raises(CheckpointError, match="unknown model 'wide'"):
        snn_energy.load(tmp_path / "wide.pth")


@pytest.mark.parametrize(
    ("name", "fields", "cls", "message"),
    [
        ("statten", {}, Small, "'statten' comes with snn-energy"),
        ("a b", {}, Small, "'a b': a name is one word"),
        ("", {}, Small, "a name is one word"),
        ("small", {"widht": 3}, Small, "unknown field 'widht'; did you mean 'width'"),
        ("small", {}, nn.Linear, "Linear.Config must be a dataclass, not None"),
        ("small", {}, Small(SmallConfig()), "register the class"),
    ],
)
def test_models_that_cannot_be_are_refused(name: str, fields: Any, cls: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        register_model(name, fields)(cls)


def images(count: int = 6, labels: Any = None, shape: tuple[int, ...] = (1, 2, 5)) -> Images:
    labels = torch.arange(count) % 3 if labels is None else labels
    return Images(torch.arange(count).reshape(-1, *[1] * len(shape)).expand(count, *shape).float(), labels)


def test_a_data_set_is_found_by_name_with_and_without_a_place() -> None:
    @register_dataset("mine")
    def mine() -> Data:
        return Data("?", images(6), images(4), ("a", "b", "c"))

    def placed(where: str) -> Data:
        return Data("?", images(len(where)), images(4, shape=(1, 2, 5)), ("a", "b", "c"))

    register_dataset("placed", placed)
    assert list_data()[-2:] == ("mine", "placed") and {"digits", "idx:DIR"} < set(list_data())
    assert load_data("mine").name == "mine" and mine().sample_shape == (1, 2, 5)
    assert len(load_data("placed:/a:b").train) == len("/a:b")
    samples = choose_samples({"data": "mine"}, count=2)
    assert samples.name == "mine (test), first 2" and samples.class_names == ("a", "b", "c")
    for name, message in (
        ("mine:there", "takes no place"),
        ("placed", "give its place, placed:PLACE"),
        ("mime", "did you mean 'mine'"),
    ):
        with pytest.raises(DataError, match=message):
            load_data(name)


def test_data_sets_that_cannot_be_are_refused() -> None:
    for name, load, message in (
        ("digits", list, "comes with"),
        ("a:b", list, "one word"),
        ("x", 3, "no function"),
    ):
        with pytest.raises(ConfigError, match=message):
            register_dataset(name, load)  # type: ignore[arg-type]

    def missing() -> Data:
        return Data("?", images(), Images(torch.load("/nowhere/x.pt"), None), ("a",))

    register_dataset("wrong", lambda: 3)
    register_dataset("missing", missing)
    with pytest.raises(DataError, match=r"'wrong': its function gave int, must give snn_energy.data.Data"):
        load_data("wrong")
    with pytest.raises(DataError, match=r"'missing': .*No such file"):
        load_data("missing")


@pytest.mark.parametrize(
    ("train", "test", "classes", "message"),
    [
        (
            images(),
            images(shape=(1, 5, 2)),
            3,
            r"training samples of shape \(1, 2, 5\), test samples of \(1, 5, 2\)",
        ),
        (images(shape=(5,)), images(), 3, r"the training part has pixels \(6, 5\)"),
        (images(0), images(), 3, r"with N ≥ 1"),
        (images(), Images(torch.rand(4, 1, 2, 5), None), 3, "the test part has no labels"),
        (images(labels=torch.zeros(6)), images(), 3, "of torch.float32"),
        (images(), images(labels=torch.zeros(5, dtype=torch.int64)), 3, r"must be \(6,\) of torch.int64"),
        (images(), images(), 2, "labels 0 to 2; must be 0 to 1 for 2 class names"),
    ],
)
def test_data_that_cannot_be_is_refused(train: Images, test: Images, classes: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Data("bad", train, test, tuple("abc")[:classes])


def export_text(model: Any, folder: Path, x: Any, y: Any = None, *, digits: int = 3) -> Verification:
    (folder / "net.txt").write_text(f"{digits}")
    return verify_text(folder, x, y)


def verify_text(folder: Path, x: Any, y: Any = None) -> Verification:
    digits = int((folder / "net.txt").read_text())
    return Verification(
        "?",
        "text",
        len(x),
        logits_difference=10.0**-digits,
        predictions_differ=0,
        neurons=(NeuronCheck("lif", 12, 5, 0),),
        tolerance=0.01,
    )


def test_a_target_exports_verifies_and_fails_by_name(tmp_path: Path) -> None:
    register_target("text", export_text, verify_text, "a line")
    x, model = torch.rand(2, 10), Small(SmallConfig())
    assert options("text") == ("digits",) and TARGETS["text"].summary == "a line"
    verdict = snn_energy.export(model, "text", tmp_path / "new" / "out", x=x)
    assert verdict.target == "text" and (tmp_path / "new" / "out" / "verification.json").is_file()
    assert snn_energy.verify(tmp_path / "new" / "out", x=x[:1]).samples == 1
    with pytest.raises(VerificationError, match="text"):
        snn_energy.export(model, "text", tmp_path / "bad", x=x, digits=1)
    with pytest.raises(VerificationError, match="text"):
        snn_energy.verify(tmp_path / "bad", x=x)
    with pytest.raises(ConfigError, match="option 'digit' is not one of target text; did you mean 'digits'"):
        snn_energy.export(model, "text", tmp_path, x=x, digit=1)


@pytest.mark.parametrize(
    ("name", "export", "verify", "message"),
    [
        ("onnx", export_text, verify_text, "'onnx' comes with snn-energy"),
        ("text", "mod:fn", verify_text, "export = 'mod:fn': must be a function"),
        ("text", verify_text, verify_text, r"export must be callable as \(model, folder, x, y\)"),
        ("text", export_text, lambda folder: None, r"verify must be callable as \(folder, x, y\)"),
    ],
)
def test_targets_that_cannot_be_are_refused(name: str, export: Any, verify: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        register_target(name, export, verify)


def test_a_target_that_returns_nothing_is_named(tmp_path: Path) -> None:
    register_target("silent", lambda model, folder, x, y: None, verify_text)  # type: ignore[arg-type, return-value]
    with pytest.raises(
        ConfigError, match="'silent': its function returned NoneType, must return a Verification"
    ):
        snn_energy.export(Small(SmallConfig()), "silent", tmp_path, x=torch.rand(1, 10))


POINTS = """
[snn_energy.models]
broken = no_such_module:Net
odd = string:Template

[snn_energy.targets]
odd = string:Template

[snn_energy.rules]
cumsum = no_such_module:rule
"""


def test_a_broken_package_is_named_when_its_name_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.offered.cache_clear()
    assert "broken" in snn_energy.list_models()
    rule = "snn_energy.rules: cumsum = no_such_module:rule: cannot be imported"
    asked: dict[str, Any] = {
        "broken = no_such_module:Net: cannot be imported: No module named": lambda: ZOO["broken"],
        "model 'odd': Template.Config must be a dataclass": lambda: snn_energy.create_model("odd"),
        "target 'odd': .* is no snn_energy.exporters.targets.Target": lambda: options("odd"),
        rule: lambda: snn_energy.profile(nn.Linear(2, 3), [torch.rand(1, 2)]),
    }
    for message, ask in asked.items():
        with pytest.raises(SnnEnergyError, match=message):
            ask()
    assert isinstance(TARGETS["onnx"], Target)  # ours are as they were
