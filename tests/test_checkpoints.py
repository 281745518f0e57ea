"""Reading and writing checkpoints: ours and bare ones, and what is none."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import (
    FIELDS,
    official,
    refusal,
    refusal_without_warnings,
    same_weights,
    saved,
    sdt_state,
    small_statten,
)
from safetensors.torch import save_file
from torch import nn

from snn_energy.checkpoints import load, read_checkpoint, save_checkpoint
from snn_energy.errors import CheckpointError
from snn_energy.models.zoo import create_model


@pytest.fixture
def model() -> nn.Module:
    return small_statten()


# --- ours ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    lr: float
    crop: tuple[int, int]
    folder: Path


def test_ours_come_back_whole(model: nn.Module, tmp_path: Path) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model.train()(torch.randn(2, 3, 8, 12)).sum().backward()
    optimizer.step()
    path = tmp_path / "new" / "model.pt"
    save_checkpoint(
        path,
        model,
        name="statten",
        recipe=Recipe(0.01, (3, 5), Path("data")),
        epoch=7,
        metrics={"top1": np.float64(91.5), "curve": [1, 2.5]},
        optimizer=optimizer.state_dict(),
        class_names=["cat", "dog"],
        training_state={"rng": torch.get_rng_state()},
    )
    checkpoint = read_checkpoint(path)
    assert (checkpoint.kind, checkpoint.model, checkpoint.epoch) == ("ours", "statten", 7)
    assert checkpoint.recipe == {"lr": 0.01, "crop": (3, 5), "folder": "data"}
    assert checkpoint.metrics == {"top1": 91.5, "curve": [1, 2.5]}
    assert checkpoint.class_names == ["cat", "dog"]
    assert torch.equal(checkpoint.training_state["rng"], torch.get_rng_state())
    optimizer.load_state_dict(checkpoint.optimizer)
    loaded = load(path)
    assert same_weights(loaded, model)
    assert loaded.config == model.config
    assert not loaded.training
    assert os.listdir(path.parent) == ["model.pt"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("statten-cifar10dvs-t16", {"embed_dims": 16}),
        ("spike-driven-transformer", {"embed_dims": 16, "depths": 1}),
        ("statten-spikformer", {"embed_dims": 24, "num_heads": 3, "depths": 1}),
        ("qkformer", {"embed_dims": 24, "num_heads": (3, 2, 1), "depths": (1, 1, 1)}),
        ("statten-maxformer", {"embed_dims": 32, "depths": (1, 1, 1)}),
        ("staa-resnet20", {"width": 0.125}),
        ("decoupled", {"width": 0.125}),
    ],
)
def test_every_family_comes_back(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    network = create_model(name, **fields)
    for file in (tmp_path / "m.pt", tmp_path / "m.safetensors"):
        save_checkpoint(file, network, name=name, epoch=3, class_names=["a", "b"])
        loaded = load(file)
        assert type(loaded) is type(network)
        assert loaded.config == network.config
        assert same_weights(loaded, network)
        assert (read_checkpoint(file).epoch, read_checkpoint(file).class_names) == (3, ["a", "b"])


def test_safetensors_hold_what_json_can(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(CheckpointError, match=r"cannot save training_state in a \.safetensors file"):
        save_checkpoint(path, model, name="statten", training_state={"rng": torch.get_rng_state()})
    assert not path.exists()
    for said in ("[", "[]", '{"state_dict": 3}', '{"format": "snn-energy", "version": 9}'):
        save_file(dict(model.state_dict()), path, metadata={"snn_energy": said})
        assert refusal(path).startswith(str(path))
    save_file(dict(model.state_dict()), path, metadata={"format": "pt"})  # of others: bare weights
    assert read_checkpoint(path).kind == "bare"
    path.write_bytes(path.read_bytes()[:-1])
    assert "is not a safetensors file" in refusal(path)


SINCE = {  # fields that files of earlier versions lack, and what these files meant
    "staa-resnet19": {"shapes": "pooled", "gc_shared": False, "sa_form": "channel", "leak": "gate"},
    "staa-resnet34": {"shapes": "pooled", "v_reset": 0.0, "tsrd_drops": "aggregation", "detach_reset": True},
    "decoupled": {"shapes": "pooled", "residual": "plain", "learn_tau": True, "learn_threshold": False},
}


@pytest.mark.parametrize("name", SINCE)
def test_a_file_from_before_a_field_means_what_it_meant(name: str, tmp_path: Path) -> None:
    """Registered names have other defaults today; the file does not say so, and is not of them."""
    path = tmp_path / "m.pt"
    small = {"width": 1 / 32, "in_channels": 2, "T": 2, "num_classes": 5, "v_threshold": 0.3}
    small |= {"num_heads": 2} if name == "decoupled" else {}
    network = create_model(name, **small, **SINCE[name]).eval()
    save_checkpoint(path, network, name=name)
    content = torch.load(path, weights_only=True)
    for field in SINCE[name]:
        del content["config"][field]
    if "adaptive" in content["config"]:
        content["config"]["adaptive"] = False  # a truth value then
    torch.save(content, path)
    loaded = load(path)
    assert loaded.config == network.config
    x = torch.rand(2, 2, 16, 24)
    assert torch.equal(loaded(x), network(x))
    assert load(path, model=name).config.shapes == "pooled"
    assert "does not fit" in refusal(path, shapes="source")
    assert create_model(name, **small).config.shapes == "source"


def test_overrides_win_and_none_means_as_stored(model: nn.Module, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.pt", model, name="statten")
    loaded = load(tmp_path / "m.pt", T=4, chunk_size=2, attention_mode=None, num_classes=None)
    assert (loaded.config.T, loaded.config.chunk_size, loaded.config.num_classes) == (4, 2, 5)
    assert loaded.config.pooling_stat == "0110"
    assert load(tmp_path / "m.pt", attention_mode="SDT").config.attention_mode == "SDT"
    assert "must divide T = 4" in refusal(tmp_path / "m.pt", T=4)
    assert "did you mean 'chunk_size'" in refusal(tmp_path / "m.pt", chunk=1)


def test_a_failed_write_leaves_the_old_file(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    save_checkpoint(path, model, name="statten", epoch=1)
    with pytest.raises(
        CheckpointError, match=r"cannot save training_state\.hook: a function is not a plain type"
    ):
        save_checkpoint(path, model, name="statten", training_state={"hook": refusal})
    with pytest.raises(CheckpointError, match="did you mean 'statten'"):
        save_checkpoint(path, model, name="staten")
    assert read_checkpoint(path).epoch == 1
    assert os.listdir(tmp_path) == ["m.pt"]


def test_loading_leaves_the_random_stream_alone(model: nn.Module, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.pt", model, name="statten")
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    load(tmp_path / "m.pt")
    assert torch.equal(torch.rand(3), expected)


def test_half_precision_is_read_as_float32(model: nn.Module, tmp_path: Path) -> None:
    half = {
        key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load(saved(tmp_path / "m.pth", official(half)))
    assert loaded.head.weight.dtype == torch.float32
    torch.testing.assert_close(loaded.head.weight, model.head.weight, atol=1e-3, rtol=1e-3)


# --- bare -------------------------------------------------------------------------------------------


def test_bare_weights_ask_for_what_no_tensor_shows(model: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pth", model.state_dict())
    message = refusal_without_warnings(path)
    assert message.endswith("T, chunk_size, pooling_stat; give --time-steps, --chunk-size, --pooling-stat")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = load(path, T=6, chunk_size=3, pooling_stat="0110")
    assert same_weights(loaded, model)
    assert loaded.config.depths == 2
    assert any("inferred from the tensors: in_channels = 3" in str(w.message) for w in caught)


def test_files_stripped_of_the_unused_weight_ask_for_the_heads(model: nn.Module, tmp_path: Path) -> None:
    state = {key: value for key, value in model.state_dict().items() if "talking_heads" not in key}
    path = saved(tmp_path / "m.pth", state)
    rest = {"T": 6, "chunk_size": 3, "pooling_stat": "0110"}
    assert refusal_without_warnings(path, **rest).endswith("num_heads; give --num-heads")
    x = torch.randn(2, 3, 8, 12)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        assert torch.equal(load(path, **rest, num_heads=2)(x), model(x))


def test_bare_event_weights_ask_for_dvs_mode(tmp_path: Path) -> None:
    state = create_model("statten", **FIELDS | {"in_channels": 2}, dvs_mode=True).state_dict()
    path = saved(tmp_path / "m.pth", state)
    rest = {"T": 6, "chunk_size": 3, "pooling_stat": "0110"}
    assert refusal_without_warnings(path, **rest).endswith("dvs_mode; give --dvs-mode")
    assert refusal_without_warnings(path, **rest, dvs_mode="yes").endswith("must be true or false")


def test_bare_weights_with_a_registered_name_or_a_yaml(tmp_path: Path) -> None:
    small = create_model("statten-cifar10-256")
    path = saved(tmp_path / "m.pth", small.state_dict())
    (tmp_path / "c.yml").write_text(
        'dim: 256\nlayer: 2\nnum_classes: 10\ntime_steps: 6\npooling_stat: "0011"\n'
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load(path, model="statten-cifar10-256").config == small.config
        told = load(path, config=tmp_path / "c.yml", chunk_size=3).config
    assert (told.T, told.chunk_size, told.pooling_stat, told.embed_dims) == (6, 3, "0011", 256)
    message = refusal_without_warnings(path, model="statten-cifar10-512")
    assert (
        "patch_embed.proj_conv.weight has shape (32, 3, 3, 3), statten-cifar10-512 expects (64, 3, 3, 3)"
        in message
    )
    assert "does not fit spikformer" in refusal_without_warnings(path, model="spikformer")


@pytest.mark.parametrize("key", ["model", "model_state_dict", "net"])
def test_bare_weights_may_be_wrapped(model: nn.Module, tmp_path: Path, key: str) -> None:
    path = saved(tmp_path / "m.pth", {key: model.state_dict(), "epoch": 3})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same_weights(load(path, T=6, chunk_size=3, pooling_stat="0110"), model)


def test_parametric_neurons_are_seen(tmp_path: Path) -> None:
    plif = create_model("statten", **FIELDS, spike_mode="plif")
    path = saved(tmp_path / "m.pth", plif.state_dict())
    rest = {"T": 6, "chunk_size": 3, "pooling_stat": "0110"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same_weights(load(path, **rest), plif)
    assert refusal_without_warnings(path, **rest, spike_mode="lif").endswith("--spike-mode plif")
    lif = saved(tmp_path / "l.pth", create_model("statten", **FIELDS).state_dict())
    assert refusal_without_warnings(lif, **rest, spike_mode="plif").endswith("--spike-mode lif")
    told = official(sdt_state("plif"), spike_mode="plif")
    assert "as a Spike-driven Transformer's: release=SDT" in refusal(saved(tmp_path / "s.pth", told))


# --- what is no checkpoint, or a damaged one -------------------------------------------------------------


def test_renamed_wrong_and_missing_tensors(model: nn.Module, tmp_path: Path) -> None:
    def broken(change: Callable[[dict[str, torch.Tensor]], Any]) -> str:
        state = {key: value.clone() for key, value in model.state_dict().items()}
        change(state)
        return refusal(saved(tmp_path / "m.pth", official(state)))

    assert "1 missing (head.bias), 1 unexpected (head.b)" in broken(
        lambda s: s.update({"head.b": s.pop("head.bias")})
    )
    assert "head.weight has shape (5, 17), statten expects (5, 16)" in broken(
        lambda s: s.update({"head.weight": torch.zeros(5, 17)})
    )
    assert "block.1.attn.q_bn.weight holds 2 NaN or infinite of 16 values" in broken(
        lambda s: s["block.1.attn.q_bn.weight"][:2].fill_(float("nan"))
    )
    assert "head.bias holds 1 NaN or infinite of 5 values" in broken(
        lambda s: s["head.bias"][4:].fill_(float("inf"))
    )
    assert "running_var holds a negative variance, -2" in broken(
        lambda s: s["patch_embed.rpe_bn.running_var"][3:4].fill_(-2)
    )
    assert "head.bias holds torch.int64" in broken(
        lambda s: s.update({"head.bias": torch.zeros(5, dtype=int)})
    )
    assert "not a plain dense tensor" in broken(lambda s: s.update({"head.bias": torch.zeros(5).to_sparse()}))
    assert "entry 'head.bias' is a list, must be a tensor" in broken(lambda s: s.update({"head.bias": [0.0]}))
    attention = [key for key in model.state_dict() if key.startswith("block.1.attn")]
    assert "86 of 112 tensors are there; 26 missing (block.1.attn.q_conv.weight," in broken(
        lambda s: [s.pop(key) for key in attention]
    )
