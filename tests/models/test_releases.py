"""Files of other networks' releases: told by their tensors, loaded where the networks agree, else refused."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import pytest
import release_reference as reference
import torch
from torch import nn

from snn_energy.checkpoints import load, read_checkpoint
from snn_energy.errors import CheckpointError, ConfigError
from snn_energy.models.release_keys import sew_resnet
from snn_energy.models.zoo import create_model

Namespace = argparse.Namespace
COMMAND = "snn-energy profile {} --model path/to/net.py:build --input x.npz"


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def quietly(path: Path, **overrides: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load(path, **overrides)


def refusal(path: Path, **overrides: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        quietly(path, **overrides)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def firing(model: nn.Module, x: torch.Tensor) -> dict[str, float]:
    """Mean of what every neuron gives, and the logits under ''."""
    rates, hooks = {}, []
    for name, module in model.named_modules():
        if hasattr(module, "surrogate_function"):
            hooks.append(
                module.register_forward_hook(lambda m, a, o, n=name: rates.update({n: o.mean().item()}))
            )
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return rates


def agrees(model: nn.Module, state: dict[str, torch.Tensor], x: torch.Tensor, by_hand: Any) -> None:
    """float64 logits of both, sample by sample of x (B, T, C, H, W); most neurons say something."""
    model, state = model.double(), {k: v.double() for k, v in state.items()}
    rates = firing(model, x.double())
    alive = [rate for rate in rates.values() if 0.01 < rate < 0.99]
    assert len(alive) >= 0.8 * len(rates), rates
    with torch.no_grad():
        logits = model(x.double())
    for sample in range(len(x)):
        torch.testing.assert_close(logits[sample], by_hand(state, x[sample].double()), rtol=0, atol=1e-9)


# --- Spikformer ---------------------------------------------------------------------------------------------

SPIKFORMER = {"width": 24, "hidden": 36, "depth": 2, "classes": 5}
ARGS = {"model": "spikformer", "time_step": 5, "num_heads": 3, "img_size": 32, "dim": 24, "layer": 2}


@pytest.mark.parametrize("kind", ["cifar", "imagenet", "events"])
def test_spikformer_gives_what_its_release_gives(kind: str, tmp_path: Path) -> None:
    channels = 2 if kind == "events" else 3
    state = reference.spikformer_weights(kind, **SPIKFORMER, channels=channels)
    content = {
        "cifar": {"arch": "x", "state_dict": state, "args": Namespace(**ARGS), "version": 2, "metric": 9.0},
        "imagenet": {
            "state_dict": {f"module.{k}": v for k, v in state.items()},
            "args": Namespace(model="x"),
        },
        "events": {"model": state, "args": {"T": 5}, "max_test_acc1": 8.0},
    }[kind]
    path = saved(tmp_path / "m.pth", content)
    checkpoint = read_checkpoint(path)
    assert (checkpoint.kind, checkpoint.model) == ("official", "spikformer")
    assert checkpoint.notes[0].startswith("a Spikformer release, by its tensors: biases")
    assert set(checkpoint.state_dict) == set(state)  # the file's own names, for the file's own code
    options = {} if kind == "cifar" else {"num_heads": 3}
    model = quietly(path, **options)
    config = model.config
    assert (config.embed_dims, config.depths, config.mlp_ratios) == (24, 2, 1.5)
    assert (config.T, config.num_heads) == (4 if kind == "imagenet" else 5, 3)
    generator = torch.Generator().manual_seed(1)
    size = (12, 20) if kind == "cifar" else (32, 48)
    x = torch.rand((2, 5, channels, *size), generator=generator) * 2
    agrees(model, state, x, lambda w, s: reference.spikformer(w, s, 3))


def test_spikformer_asks_for_what_its_files_do_not_say(tmp_path: Path) -> None:
    state = reference.spikformer_weights("cifar", **SPIKFORMER, channels=3)
    assert refusal(saved(tmp_path / "m", state)).endswith("T, num_heads; give --time-steps, --num-heads")
    wide = reference.spikformer_weights("imagenet", 512, 8, 1, 3, 4)  # 8 heads, 4 steps: in its model file
    model = quietly(saved(tmp_path / "w", {"model": wide}))
    assert (model.config.num_heads, model.config.T, model.config.patch_size) == (8, 4, 16)


# --- QKFormer -----------------------------------------------------------------------------------------------


def test_qkformer_gives_what_its_release_gives(tmp_path: Path) -> None:
    state = reference.qkformer_weights(32, 3, (1, 2, 1), 3, 7)
    content = {"model": state, "optimizer": {}, "epoch": 3, "scaler": {}, "args": Namespace(time_step=3)}
    path = saved(tmp_path / "m.pth", content)
    assert refusal(path).endswith("neither the file nor its tensors say num_heads; give --num-heads")
    model = quietly(path, num_heads=2)
    assert (model.config.depths, model.config.num_heads, model.config.T) == ((1, 2, 1), (2, 2, 2), 3)
    x = torch.rand((2, 3, 3, 32, 48), generator=torch.Generator().manual_seed(2)) * 2
    agrees(model, state, x, lambda w, s: reference.qkformer(w, s, 2))


@pytest.mark.parametrize(("width", "heads"), [(384, 6), (512, 8), (768, 12)])
def test_heads_of_the_published_qkformers_follow_their_width(width: int, heads: int, tmp_path: Path) -> None:
    state = reference.qkformer_weights(width, 1, (1, 1, 1), 3, 4)
    checkpoint = read_checkpoint(saved(tmp_path / "m.pth", {"model": state}))
    assert checkpoint.config["num_heads"] == heads
    assert checkpoint.missing == ("T",)


# --- SEW-ResNet ---------------------------------------------------------------------------------------------


def sew_state(inner: str) -> dict[str, torch.Tensor]:
    """Random weights under the release's names."""
    w = reference.Weights(7)
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in create_model("sew-resnet", num_classes=6).state_dict().items()}
    for key, shape in shapes.items():
        name, _, kind = key.rpartition(".")
        block, _, last = name.rpartition(".")
        if kind == "weight" and len(shape) == 4:
            if block.endswith("downsample"):
                name = f"{block}.0.{inner}0"
            elif block:
                name = f"{name}.{inner}0"
            w.layer(name, *shape)
            w.state[f"{name}.weight"] *= 0.25
        elif kind == "running_mean":
            if block.endswith("downsample"):
                name = f"{block}.0.{inner}1"
            elif block:
                name = f"{block}.conv{last[-1]}.{inner}1"
            w.norm(name, shape[0])
            w.state[f"{name}.bias"] -= 0.5
    w.layer("fc", 6, 512, bias=True)
    return w.state


@pytest.mark.parametrize(("inner", "join"), [("module.", "ADD"), ("module.", "IAND"), ("", "ADD")])
def test_sew_resnet_gives_what_its_release_gives(inner: str, join: str, tmp_path: Path) -> None:
    state = sew_state(inner)
    arguments = Namespace(model="sew_resnet18", T=3, connect_f=join, device="cuda")
    content = {"model": state, "optimizer": {}, "epoch": 1, "args": arguments, "max_test_acc1": 1.0}
    model = quietly(saved(tmp_path / "m.pth", content))
    assert (model.config.depth, model.config.T, model.config.cnf) == (18, 3, join)
    x = torch.rand((1, 3, 3, 32, 48), generator=torch.Generator().manual_seed(3)) * 2
    agrees(model, state, x, lambda w, s: reference.sew_resnet(w, s, inner, join))


def test_sew_resnet_asks_and_refuses(tmp_path: Path) -> None:
    state = sew_state("module.")
    path = saved(tmp_path / "m.pth", state)
    assert refusal(path).endswith("T, cnf; give --time-steps, --cnf")
    assert "cnf = 'NOR': must be ADD, AND or IAND" in refusal(path, T=2, cnf="NOR")
    short = {k: v for k, v in state.items() if not k.startswith("layer3.1")}
    message = refusal(saved(tmp_path / "s.pth", short))
    assert "a SEW-ResNet of (2, 2, 1, 2) blocks" in message
    assert message.endswith(COMMAND.format(tmp_path / "s.pth"))
    with pytest.raises(ConfigError, match="SpikingJelly's bottleneck"):
        create_model("sew-resnet", depth=50, cnf="IAND")


def test_bottlenecks_are_renamed(tmp_path: Path) -> None:
    with torch.device("meta"):
        ours = create_model("sew-resnet", depth=50).state_dict()
    theirs = {
        "layer1.0.conv3.module.0.weight": "layer1.0.conv3.weight",
        "layer4.2.conv3.module.1.running_var": "layer4.2.bn3.running_var",
        "layer2.0.downsample.0.module.1.bias": "layer2.0.downsample.1.bias",
        "layer3.5.conv1.0.weight": "layer3.5.conv1.weight",
        "bn1.weight": "bn1.weight",
    }
    assert set(theirs.values()) <= set(ours)
    assert list(sew_resnet(dict.fromkeys(theirs, torch.ones(1)))) == list(theirs.values())


# --- what is refused ----------------------------------------------------------------------------------------

REFUSED = {
    "Meta-SpikeFormer (Spike-driven Transformer V2)": (
        "downsample1_1.encode_conv.weight",
        "ConvBlock1_1.0.Conv.pwconv1.weight",
        "block3.0.attn.q_conv.0.body.0.weight",
    ),
    "QKFormer (CIFAR or event data)": (
        "patch_embed1.proj_conv.weight",
        "stage1.0.tssa.q_conv.weight",
        "stage1.0.mlp.mlp1_conv.weight",
    ),
    "SEW-ResNet (event data)": ("conv.0.0.module.0.weight", "conv.0.1.w", "out.weight"),
    "Spiking ResNet (of SEW-ResNet's authors)": (
        "conv1.weight",
        "layer1.0.conv1.module.0.weight",
        "layer2.0.downsample.module.0.weight",
    ),
    "SpikingResformer": ("prologue.0.weight", "layers.0.0.firing_rate_x", "layers.0.0.Wproj.weight"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("wrapper", ["", "model", "state_dict"])
def test_a_release_without_a_network_here_is_named(name: str, wrapper: str, tmp_path: Path) -> None:
    state = {key: torch.ones(2, 3, 1, 1) for key in REFUSED[name]}
    content = {wrapper: state, "args": Namespace(model="whatever")} if wrapper else state
    path = saved(tmp_path / "m.pth", content)
    message = refusal(path)
    assert f"this looks like a {name} release; " in message and message.endswith(COMMAND.format(path))
    assert f"; this looks like a {name} release" in refusal(path, model="qkformer")
    assert set(read_checkpoint(path).state_dict) == set(state)


def test_a_release_under_another_name_is_named_too(tmp_path: Path) -> None:
    state = reference.spikformer_weights("imagenet", **SPIKFORMER, channels=3)
    path = saved(tmp_path / "m.pth", state)
    assert "; this looks like a Spikformer release" in refusal(path, model="statten-cifar10-256")
    assert "; this looks like a Spikformer release" in refusal(path, model="qkformer")


def test_names_of_a_release_with_other_tensors(tmp_path: Path) -> None:
    """One line each: axes, widths, missing and left-over tensors."""

    def changed(**values: torch.Tensor | None) -> str:
        state = reference.spikformer_weights("imagenet", **SPIKFORMER, channels=3)
        state |= {key.replace("__", "."): value for key, value in values.items()}
        kept = {key: value for key, value in state.items() if value is not None}
        return refusal(saved(tmp_path / "m.pth", kept), num_heads=3)

    first, key, fc = (
        "patch_embed__proj_conv__weight",
        "block__1__attn__k_conv__weight",
        "block__0__mlp__fc2_conv__weight",
    )
    assert "names of a Spikformer release and other tensors" in changed(**{first: torch.ones(3)})
    assert "names of a Spikformer release and other tensors" in changed(**{fc: torch.ones(24, 36, 3, 3)})
    assert "1 missing (blocks.1.attn.qkv_conv_bn.0.weight)" in changed(**{key: None})
    assert "1 unexpected (block.0.attn.extra)" in changed(block__0__attn__extra=torch.ones(2))
    assert "expects (24, 12, 3, 3)" in changed(patch_embed__proj_conv3__weight=torch.ones(24, 11, 3, 3))
