"""Reading checkpoints of the official releases: STAtten's, and the Spike-driven Transformer's."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

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
from torch import nn

from snn_energy.checkpoints import build, load, read_checkpoint
from snn_energy.errors import CheckpointError
from snn_energy.models.zoo import create_model


@pytest.fixture
def model() -> nn.Module:
    return small_statten()


# --- official ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_official_files_rebuild_their_model(model: nn.Module, tmp_path: Path, prefix: str) -> None:
    state = OrderedDict((prefix + key, value) for key, value in model.state_dict().items())
    path = saved(tmp_path / "checkpoint-17.pth.tar", official(state))
    loaded = load(path)
    assert same_weights(loaded, model)
    assert {key: getattr(loaded.config, key) for key in FIELDS} == FIELDS
    assert (loaded.config.img_size_h, loaded.config.drop_path_rate) == (32, 0.0)
    checkpoint = read_checkpoint(path)
    assert (checkpoint.kind, checkpoint.epoch, checkpoint.metrics) == ("official", 17, {"metric": 12.5})
    assert checkpoint.recipe["lr"] == 3e-4
    assert checkpoint.optimizer == {"state": {}, "param_groups": []}
    assert checkpoint.notes == ()


def test_averaged_weights_on_request(model: nn.Module, tmp_path: Path) -> None:
    content = official(model.state_dict())
    averaged = {
        f"module.{key}": value + 1 if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    path = saved(tmp_path / "a.pth", content | {"state_dict_ema": averaged})
    assert same_weights(load(path), model)
    assert torch.equal(load(path, ema=True).head.bias, model.head.bias + 1)
    plain = saved(tmp_path / "b.pth", content)
    with pytest.raises(CheckpointError, match="no averaged weights"):
        load(plain, ema=True)


def test_stored_sdt_was_trained_as_statten(model: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pth", official(model.state_dict(), attention_mode="SDT"))
    with pytest.warns(UserWarning, match="attention_mode = SDT is stored, but the official trainer never"):
        assert load(path).config.attention_mode == "STAtten"
    with pytest.warns(UserWarning):
        assert load(path, attention_mode="SDT").config.attention_mode == "SDT"


def test_what_args_leave_out_is_inferred_and_reported(model: nn.Module, tmp_path: Path) -> None:
    gone = dict.fromkeys(
        ("dim", "layer", "in_channels", "num_classes", "num_heads", "mlp_ratio", "spike_mode"), ...
    )
    checkpoint = read_checkpoint(saved(tmp_path / "m.pth", official(model.state_dict(), **gone)))
    assert same_weights(build(checkpoint), model)
    (note,) = checkpoint.notes
    for words in (
        "in_channels = 3",
        "num_classes = 5",
        "embed_dims = 16",
        "depths = 2",
        "mlp_ratios = 3",
        "spike_mode = lif",
        "num_heads = 2",
    ):
        assert words in note


def test_dvs_mode_is_the_data_sets(tmp_path: Path) -> None:
    state = create_model("statten", **FIELDS | {"in_channels": 2}).state_dict()
    changes = {"in_channels": 2, "dvs_mode": ..., "dataset": "ncaltech101"}
    assert load(saved(tmp_path / "m.pth", official(state, **changes))).config.dvs_mode is True


def test_args_of_another_model_are_refused(model: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pth", official(model.state_dict(), model="resnet50"))
    assert "model = 'resnet50'" in refusal(path)


# --- the Spike-driven Transformer's release, from which STAtten's was made --------------------------------

SDT_ARGS = {"chunk_size": ..., "attention_mode": ...}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("spike_mode", ["lif", "plif"])
def test_a_release_of_sdt_is_told_by_what_its_args_lack(
    tmp_path: Path, prefix: str, as_dict: bool, spike_mode: str
) -> None:
    state = sdt_state(spike_mode)
    content = official({prefix + k: v for k, v in state.items()}, **SDT_ARGS, spike_mode=spike_mode)
    if as_dict:
        content["args"] = vars(content["args"])
    path = saved(tmp_path / "m.pth.tar", content)
    with pytest.warns(
        UserWarning, match="neither chunk_size nor attention_mode is stored.*attention_mode = SDT"
    ):
        loaded = load(path)
    assert (loaded.config.attention_mode, loaded.config.release, loaded.config.T) == ("SDT", "SDT", 6)
    used = {k: v for k, v in state.items() if "rpe_lif" not in k and ".attn_lif" not in k}
    assert set(loaded.state_dict()) == set(used)
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in used.items())
    with pytest.warns(UserWarning):  # overrides win
        other = load(path, attention_mode="STAtten", chunk_size=3)
    assert (other.config.attention_mode, other.config.chunk_size) == ("STAtten", 3)


def test_arguments_beside_wrapped_weights_are_read(tmp_path: Path) -> None:
    content = official(sdt_state("lif"), **SDT_ARGS)
    path = saved(tmp_path / "m.pth", {"model": content["state_dict"], "args": content["args"]})
    with pytest.warns(UserWarning, match="attention_mode = SDT"):
        assert load(path).config.T == 6
    other = saved(
        tmp_path / "o.pth", {"model": content["state_dict"], "args": {"model": "vit", "time_steps": 9}}
    )
    assert "T, chunk_size, pooling_stat; give --time-steps" in refusal_without_warnings(other)


@pytest.mark.parametrize(
    ("changes", "mode"),
    [
        ({"chunk_size": ...}, "STAtten"),
        ({"attention_mode": ...}, "STAtten"),
        ({**SDT_ARGS}, "SDT"),
        ({**SDT_ARGS, "model": ...}, "SDT"),
        ({**SDT_ARGS, "dataset": "imagenet", "pooling_stat": ...}, "SDT"),
        ({**SDT_ARGS, "model": ..., "pooling_stat": ..., "time_steps": ...}, "STAtten"),  # of another trainer
    ],
)
def test_both_must_be_absent_from_args_of_this_family(
    tmp_path: Path, changes: dict[str, Any], mode: str
) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "m.pth", official(sdt_state("lif"), **changes)))
    assert checkpoint.config["attention_mode"] == mode
    if len(changes) == 5:
        assert any("no args in the file that say the attention" in note for note in checkpoint.notes)


@pytest.mark.parametrize(
    ("dataset", "dvs_mode"),
    [("cifar10-dvs", True), ("cifar10-dvs-tet", True), ("gesture", False), ("ncaltech101", False)],
)
def test_dvs_mode_of_sdt_is_its_own_trainers(tmp_path: Path, dataset: str, dvs_mode: bool) -> None:
    changes = {**SDT_ARGS, "in_channels": 2, "dvs_mode": ..., "dataset": dataset}
    path = saved(tmp_path / "m.pth", official(sdt_state("lif", in_channels=2), **changes))
    with pytest.warns(UserWarning):
        loaded = load(path)
    assert loaded.config.dvs_mode is dvs_mode
    assert all(block.attn.pools_q is False for block in loaded.block)


def test_bare_tensors_of_sdt_are_told_where_its_neurons_are_parametric(tmp_path: Path) -> None:
    rest = {"T": 6, "pooling_stat": "0110"}
    checkpoint = read_checkpoint(saved(tmp_path / "m.pth", sdt_state("plif")))
    assert "attention_mode = SDT" in checkpoint.notes[0] and len(checkpoint.notes) == 1
    assert build(checkpoint, **rest).config.attention_mode == "SDT"
    lif = read_checkpoint(saved(tmp_path / "l.pth", sdt_state("lif")))
    assert "attention_mode is taken to be STAtten" in lif.notes[0]
    assert build(lif, **rest, attention_mode="SDT").config.attention_mode == "SDT"


def test_a_yaml_of_sdt_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text('dim: 16\nlayer: 1\nnum_heads: 2\npooling_stat: "0011"\ntime_steps: 4\n')
    with pytest.warns(UserWarning, match="attention_mode = SDT"):
        config = create_model(config=tmp_path / "c.yml").config
    assert (config.attention_mode, config.release) == ("SDT", "SDT")
    assert create_model(config=tmp_path / "c.yml", chunk_size=4).config.attention_mode == "STAtten"
    state = saved(tmp_path / "m.pth", sdt_state("lif", depths=1, mlp_ratios=4, num_classes=1000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load(state, config=tmp_path / "c.yml").config.attention_mode == "SDT"
        assert load(state, config=tmp_path / "c.yml", chunk_size=2).config.attention_mode == "STAtten"
