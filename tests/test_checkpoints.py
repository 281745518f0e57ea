"""Reading and writing checkpoints: ours, official ones, bare ones, and everything that is none of them."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import random
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from snn_energy.checkpoints import build, load, read_checkpoint, save_checkpoint
from snn_energy.errors import CheckpointError
from snn_energy.models.zoo import create_model

FIELDS = {
    "in_channels": 3,
    "num_classes": 5,
    "embed_dims": 16,
    "num_heads": 2,
    "depths": 2,
    "mlp_ratios": 3,
    "T": 6,
    "chunk_size": 3,
    "pooling_stat": "0110",
}
ARGS = {
    "model": "sdt",
    "dataset": "torch/cifar10",
    "in_channels": 3,
    "num_classes": 5,
    "dim": 16,
    "num_heads": 2,
    "layer": 2,
    "mlp_ratio": 3,
    "time_steps": 6,
    "chunk_size": 3,
    "pooling_stat": "0110",
    "spike_mode": "lif",
    "dvs_mode": False,
    "TET": False,
    "img_size": 32,
    "attention_mode": "STAtten",
    "lr": 3e-4,
    "drop_path": 0.2,
    "model-ema": False,
    "channels-last": False,
}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return create_model("statten", **FIELDS).eval()


def official(state: dict[str, torch.Tensor], **changes: Any) -> dict[str, Any]:
    """What the official trainer puts into a file."""
    arguments = {key: value for key, value in {**ARGS, **changes}.items() if value is not ...}
    return {
        "epoch": 17,
        "arch": "sdt",
        "state_dict": state,
        "optimizer": {"state": {}, "param_groups": []},
        "version": 2,
        "args": argparse.Namespace(**arguments),
        "metric": 12.5,
    }


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def refusal(path: Path, **overrides: Any) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        load(path, **overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


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
    save_checkpoint(tmp_path / "m.pt", network, name=name)
    loaded = load(tmp_path / "m.pt")
    assert type(loaded) is type(network)
    assert loaded.config == network.config
    assert same_weights(loaded, network)


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


def refusal_without_warnings(path: Path, **overrides: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return refusal(path, **overrides)


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
    theirs = plif.state_dict() | {"block.0.attn.q_lif.w": torch.zeros(())}
    assert "Spike-driven Transformer" in refusal_without_warnings(saved(tmp_path / "s.pth", theirs), **rest)


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
    assert "head.bias is not a plain dense tensor" in broken(
        lambda s: s.update({"head.bias": torch.zeros(5).to_sparse()})
    )
    assert "entry 'head.bias' is a list, must be a tensor" in broken(lambda s: s.update({"head.bias": [0.0]}))
    attention = [key for key in model.state_dict() if key.startswith("block.1.attn")]
    assert "86 of 112 tensors are there; 26 missing (block.1.attn.q_conv.weight," in broken(
        lambda s: [s.pop(key) for key in attention]
    )


def test_a_tiny_file_cannot_ask_for_much_memory(model: nn.Module, tmp_path: Path) -> None:
    wide = saved(tmp_path / "a.pth", {"head.weight": torch.zeros(1).expand(10**12)})
    assert "not a plain dense tensor" in refusal(wide)
    boast = saved(tmp_path / "b.pth", official(model.state_dict(), dim=8 * 10**8))
    assert "cannot build statten" in refusal(boast)
    deep = saved(tmp_path / "d.pth", official(model.state_dict(), layer=10**9))
    assert "depths = 1000000000, but the file holds 112 tensors in all" in refusal(deep)
    large = saved(tmp_path / "c.pth", official(model.state_dict(), dim=2**20))
    assert "has shape (2, 3, 3, 3), statten expects (131072, 3, 3, 3)" in refusal(large)


def test_values_of_the_wrong_kind_do_not_get_through(model: nn.Module, tmp_path: Path) -> None:
    """Tensors where numbers and names belong, which compare element by element."""
    odd = torch.zeros(2)
    state = model.state_dict()
    plain = {"dim": 16, "layer": 2, "num_classes": 5, "in_channels": 3, "num_heads": 2, "mlp_ratio": 3}
    for key in ("model", "dataset", "attention_mode", *plain, "spike_mode"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert same_weights(load(saved(tmp_path / "m", official(state, **{key: odd}))), model)
    for key in ("time_steps", "chunk_size", "pooling_stat"):
        assert "neither the file" in refusal_without_warnings(
            saved(tmp_path / "m", official(state, **{key: odd}))
        )
    save_checkpoint(tmp_path / "ours", model, name="statten")
    content = torch.load(tmp_path / "ours", weights_only=True)
    for key in ("version", "model", "config", "epoch", "recipe"):
        refusal(saved(tmp_path / "ours", content | {key: odd}))
    for key in content["config"]:
        refusal(saved(tmp_path / "ours", content | {"config": content["config"] | {key: odd}}))
    scalar = state | {"head.weight": torch.zeros(())}
    assert "head.weight has shape (): must have 2 axes" in refusal(saved(tmp_path / "s", official(scalar)))


class Hostile:
    """Touches a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("archive", [True, False])
def test_nothing_in_a_file_is_run(model: nn.Module, tmp_path: Path, protocol: int, archive: bool) -> None:
    target, path = tmp_path / "touched", tmp_path / "m.pth"
    content = official(model.state_dict()) | {"extra": Hostile(target)}
    if archive:
        torch.save(content, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(Hostile(target), protocol=protocol))
    message = refusal(path)
    assert not target.exists()
    if archive and protocol in (2, 3):
        assert "refused: it asks to import posix.mkdir" in message
    pickle.loads(pickle.dumps(Hostile(target), protocol=protocol))  # the pickle does what it says elsewhere
    assert target.exists()


def test_other_types_are_refused_by_name(tmp_path: Path) -> None:
    assert "asks to import torch.nn.modules.linear.Linear" in refusal(saved(tmp_path / "a", nn.Linear(2, 3)))
    assert "asks to import numpy" in refusal(saved(tmp_path / "b", {"metric": np.float64(1)}))
    assert "holds a list, must hold a dict" in refusal(saved(tmp_path / "c", [1, 2]))
    assert "holds a Tensor" in refusal(saved(tmp_path / "d", torch.zeros(2)))
    assert "holds no weights" in refusal(saved(tmp_path / "e", {}))
    assert "give --model or --config" in refusal(saved(tmp_path / "f", nn.Linear(2, 3).state_dict()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 3), torch.zeros(1, 2)), tmp_path / "g")
        assert "TorchScript" in refusal(tmp_path / "g")


def test_files_that_are_something_else(tmp_path: Path) -> None:
    def written(content: bytes) -> str:
        (tmp_path / "m.pth").write_bytes(content)
        return refusal(tmp_path / "m.pth")

    assert "No such file" in refusal(tmp_path / "absent.pth")
    assert "is a directory" in refusal(tmp_path)
    assert "is empty" in written(b"")
    assert "is a web page" in written(b"\n<!DOCTYPE html><html><body>404</body></html>")
    assert "Git LFS pointer" in written(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "is not a checkpoint" in written(random.Random(0).randbytes(5000))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "not one written by torch.save" in written(stream.getvalue())


@pytest.mark.parametrize(
    "field",
    [
        {"version": 2},
        {"model": "unheard"},
        {"config": None},
        {"epoch": "seven"},
        {"config": {"T": "many"}},
        {"config": {"warp": 9}},
        {"state_dict": []},
    ],
)
def test_ours_with_a_wrong_header(model: nn.Module, tmp_path: Path, field: dict[str, Any]) -> None:
    save_checkpoint(tmp_path / "m.pt", model, name="statten")
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    refusal(saved(tmp_path / "m.pt", content | field))


def test_damage_anywhere_is_found(model: nn.Module, tmp_path: Path) -> None:
    """Cut or flipped at 300 random places, a file is refused in one line or gives exactly what it held."""
    path, whole = tmp_path / "m.pt", tmp_path / "whole.pt"
    save_checkpoint(whole, model, name="statten")
    raw, chance, refused = whole.read_bytes(), random.Random(1), 0
    for trial in range(300):
        damaged = bytearray(raw[: chance.randrange(len(raw))] if trial % 3 == 0 else raw)
        if trial % 3:
            damaged[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            assert same_weights(load(path), model)
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 250


def test_archives_without_checksums_are_read(model: nn.Module, tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        save_checkpoint(tmp_path / "m.pt", model, name="statten")
    finally:
        torch.serialization.set_crc32_options(True)
    assert same_weights(load(tmp_path / "m.pt"), model)
