"""The registry, its parameter counts, and the official release's YAML files."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from spikingjelly.activation_based import model as spikingjelly_zoo
from torch import nn

import snn_energy
from snn_energy.checkpoints import read_checkpoint, save_checkpoint
from snn_energy.errors import ConfigError
from snn_energy.models.official import read_yaml
from snn_energy.models.plug_in import replace_attention
from snn_energy.models.zoo import ZOO, create_model, list_models, register_model

DOCS = Path(__file__).parents[2] / "docs" / "models.md"

# What the files of the official release say of the model (release e9048a1), with keys that do nothing.
CIFAR = {
    "num_classes": 10,
    "num_heads": 8,
    "img_size": 32,
    "pooling_stat": "0011",
    "time_steps": 4,
    "chunk_size": 2,
    "layer": 2,
    "mlp_ratio": 4,
    "model-ema": False,
    "model-ema-decay": 0.9998,
    "channels-last": False,
    "dataset": "torch/cifar10",
}
DVS = {**CIFAR, "img_size": 64, "in_channels": 2, "dim": 256}
DVS_TET = {**DVS, "dataset": "cifar10-dvs", "TET": True, "TET_means": 1.0, "TET_lamb": 0.001}
CALTECH = {**DVS, "dataset": "ncaltech101", "num_classes": 101}
IMAGENET = {
    **CIFAR,
    "model": "sdt",
    "dataset": "imagenet",
    "num_classes": 1000,
    "img_size": 224,
    "layer": 8,
    "pooling_stat": "1111",
    "in_channels": 3,
    "spike_mode": "lif",
    "patch_size": None,
    "mlp-ratio": 4,
    "bce-loss": True,
    "bce-target-thresh": 0.2,
    "drop_path": 0.2,
}
no_ratio = {key: value for key, value in CIFAR.items() if key != "mlp_ratio"}
OFFICIAL: dict[str, dict[str, Any]] = {
    "statten-cifar10-256": {**CIFAR, "dim": 256},
    "statten-cifar10-512": {**CIFAR, "dim": 512},
    "statten-cifar100-256": {**CIFAR, "dim": 256, "num_classes": 100, "dataset": "torch/cifar100"},
    "statten-cifar100-512": {**no_ratio, "dim": 512, "num_classes": 100, "mlp-ratio": 4},
    "statten-imagenet-512": {**IMAGENET, "dim": 512},
    "statten-imagenet-768": {**IMAGENET, "dim": 768},
    "statten-cifar10dvs-t10": {**DVS_TET, "time_steps": 10, "chunk_size": 5},
    "statten-cifar10dvs-t16": {**DVS_TET, "time_steps": 16, "chunk_size": 4},
    "statten-ncaltech101-t10": {**CALTECH, "time_steps": 10, "chunk_size": 5},
    "statten-ncaltech101-t16": {**CALTECH, "time_steps": 16, "chunk_size": 4},
}
PUBLISHED_MILLIONS = {  # Lee et al. 2025; Yao et al. 2023 for the backbone; Zhou et al. 2023, 2024
    "statten-cifar100-512": 10.28,
    "statten-imagenet-512": 29.68,
    "statten-imagenet-768": 66.34,
    "spikformer": 9.32,
    "qkformer": 16.47,
}


def count(name: str, **fields: Any) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in create_model(name, **fields).parameters())


def written(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content) + "lr: 3e-4\nmin_lr: 1e-5\n")
    return path


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_yaml_builds_the_network_that_the_registry_names(name: str, tmp_path: Path) -> None:
    path = written(tmp_path / "c.yml", OFFICIAL[name])
    with (
        torch.device("meta"),
        pytest.warns(UserWarning, match="keys with a hyphen: .*channels-last.*model-ema"),
    ):
        model = create_model(config=path)
        registered = create_model(name)
    assert model.config == registered.config
    assert read_yaml(path).settings["lr"] == 3e-4


FILES = {  # the files of the official release's conf/ (e9048a1) for the networks above
    "statten-cifar10-256": "cifar10/2_256_200E_t4",
    "statten-cifar10-512": "cifar10/2_512_200E_t4",
    "statten-cifar100-256": "cifar100/2_256_200E_t4",
    "statten-cifar100-512": "cifar100/2_512_200E_t4",
    "statten-imagenet-512": "imagenet/8_512_200E_t4",
    "statten-imagenet-768": "imagenet/8_768_200E_t4",
    "statten-cifar10dvs-t10": "cifar10-dvs/2_256_200E_t10_TET",
    "statten-cifar10dvs-t16": "cifar10-dvs/2_256_200E_t16_TET",
    "statten-ncaltech101-t10": "ncaltech101/2_256_200E_t10",
    "statten-ncaltech101-t16": "ncaltech101/2_256_200E_t16",
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_official_file_is_found_by_its_name(name: str) -> None:
    folder, _, stem = FILES[name].partition("/")
    with torch.device("meta"):
        expected = create_model(name).config
        assert create_model(FILES[name]).config == expected
        alone = create_model(stem, num_classes=expected.num_classes).config  # CIFAR-10's where two share it
    assert alone == expected
    assert folder in DOCS.read_text() and f"`{FILES[name]}`" in DOCS.read_text()


def test_official_names_are_looked_up_and_not_listed() -> None:
    with torch.device("meta"):
        assert create_model("sdt").config == create_model("statten").config
    assert {"sdt", "2_512_200E_t4"} <= set(ZOO.aliases)
    assert not set(ZOO.aliases) & set(list_models())
    assert {ZOO.canonical(name) for name in ZOO.aliases} == {"statten", *OFFICIAL}
    with pytest.raises(ConfigError, match="'sdt' comes with snn-energy"):
        register_model("sdt")(nn.Identity)
    with pytest.raises(ConfigError, match="unknown model '2_512_200E_t5'"):
        create_model("2_512_200E_t5")


def test_a_checkpoint_made_under_an_official_name_says_ours(tmp_path: Path) -> None:
    path = tmp_path / "sdt.pth"
    fields = {"embed_dims": 24, "num_heads": 3, "depths": 1, "T": 6, "chunk_size": 3}
    save_checkpoint(path, create_model("sdt", **fields), name="sdt")
    assert read_checkpoint(path).model == "statten"
    assert snn_energy.load(path, model="sdt").config == snn_energy.load(path).config


def formula(c: Any) -> int:
    """Parameters of STAtten, counted by hand from its description."""
    e, hidden = c.embed_dims, int(c.embed_dims * c.mlp_ratios)
    stages = [c.in_channels, e // 8, e // 4, e // 2, e]
    embedding = sum(9 * a * b + 2 * b for a, b in itertools.pairwise(stages)) + 9 * e * e + 2 * e
    attention = 3 * (e * e + 2 * e) + c.num_heads**2 + (e * e + e + 2 * e)
    mlp = (e * hidden + hidden + 2 * hidden) + (hidden * e + e + 2 * e)
    plif = 2 * c.depths + 1 if c.spike_mode == "plif" else 0
    return embedding + c.depths * (attention + mlp) + (e + 1) * c.num_classes + plif


@pytest.mark.parametrize("name", [name for name in ZOO if ZOO[name].target == "statten:STAtten"])
def test_parameters_of_every_statten(name: str) -> None:
    with torch.device("meta"):
        assert count(name) == formula(create_model(name).config)
        plif = create_model(name, spike_mode="plif", mlp_ratios=1, num_heads=4)
    assert sum(p.numel() for p in plif.parameters()) == formula(plif.config)


@pytest.mark.parametrize("name", PUBLISHED_MILLIONS)
def test_published_parameter_counts(name: str) -> None:
    assert count(name) / 1e6 == pytest.approx(PUBLISHED_MILLIONS[name], abs=0.015)


def test_the_table_in_the_documents_is_the_registry() -> None:
    rows = [f"| `{name}` | {ZOO[name].summary} | {count(name):,} |" for name in list_models()]
    table = "\n".join(rows)
    assert table in DOCS.read_text(), f"docs/models.md: the table of registered networks must be\n{table}"


def test_the_plug_in_table_counts_what_spikingjelly_builds() -> None:
    rows = re.findall(r"^\|.*\(`(\w+)`\) \|.*\| ([\d,]+) \|", DOCS.read_text(), flags=re.MULTILINE)
    assert len(rows) == 5
    for name, number in rows:
        with torch.device("meta"):
            model = replace_attention(getattr(spikingjelly_zoo, name)())
        assert sum(p.numel() for p in model.parameters()) == int(number.replace(",", "")), name


def test_fields_of_the_caller_win_over_the_file_and_the_file_over_the_name(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("dim: 24\nnum_heads: 3\nlayer: 1\n")
    config = create_model("statten-cifar10-256", config=path, num_heads=4).config
    assert (config.embed_dims, config.num_heads, config.depths) == (24, 4, 1)
    assert (config.num_classes, config.pooling_stat) == (1000, "1111")  # the official command line's defaults


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("layer: 2\n", "does not say dim"),
        ("dim: 24\npooling_stat: 0011\n", "put it in quotes"),
        ("dim: 24\nmodel: resnet18\n", "model = 'resnet18'"),
        ("- a\n- b\n", "is a mapping of names to values, not list"),
        ("a: [1\n", "line 2: not YAML"),
        ("dim: !!python/object/apply:os.getcwd []\n", "is not read here"),
        ("dim: 24.5\n", "embed_dims = 24.5: must be a positive whole number"),
        ("dim: many\n", "embed_dims = 'many'"),
    ],
)
def test_a_yaml_that_is_not_official_is_refused_in_one_line(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        create_model(config=path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_names_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'statten-cifar10-256'"):
        create_model("statten-cifar10-265")
    with pytest.raises(ConfigError, match="give a name or an official YAML file"):
        create_model()
    with pytest.raises(ConfigError, match="no such file"):
        create_model(config=tmp_path / "absent.yml")


def test_every_registered_model_is_a_module_with_its_configuration() -> None:
    for name in list_models():
        with torch.device("meta"):
            model = create_model(name)
        assert isinstance(model, nn.Module)
        assert isinstance(model.config, type(model).Config)
        assert ZOO[name].summary
