"""The official release's own run of its own network: every spike, the logits, one training step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from snn_energy.checkpoints import build, read_checkpoint

HOOKS = {
    "MS_SPS_lif": "patch_embed.proj_lif",
    "MS_SPS_lif1": "patch_embed.proj_lif1",
    "MS_SPS_lif2": "patch_embed.proj_lif2",
    "MS_SPS_lif3": "patch_embed.proj_lif3",
    "head_lif": "head_lif",
}
for i in range(2):
    HOOKS |= {
        f"MS_SSA_Conv{i}_first_lif": f"block.{i}.attn.shortcut_lif",
        f"MS_SSA_Conv{i}_q_lif": f"block.{i}.attn.q_lif",
        f"MS_SSA_Conv{i}_k_lif": f"block.{i}.attn.k_lif",
        f"MS_SSA_Conv{i}_v_lif": f"block.{i}.attn.v_lif",
        f"MS_SSA_Conv{i}_after_qkv": f"block.{i}.attn.attn_lif",
        f"MS_MLP_Conv{i}_fc1_lif": f"block.{i}.mlp.fc1_lif",
        f"MS_MLP_Conv{i}_fc2_lif": f"block.{i}.mlp.fc2_lif",
    }


@pytest.fixture
def model(golden: Path) -> nn.Module:
    return build(read_checkpoint(golden / "checkpoint-0.pth.tar"))


def test_every_spike_and_logit(model: nn.Module, golden: Path) -> None:
    recorded: dict[str, np.ndarray] = {}
    for name, path in HOOKS.items():
        model.get_submodule(path).register_forward_hook(
            lambda module, args, out, name=name: recorded.__setitem__(name, out.numpy().astype(bool))
        )
    with torch.no_grad():
        logits = model(torch.from_numpy(np.load(golden / "input.npz")["x"]))
    hooks = np.load(golden / "hooks.npz")
    assert {key.split("__")[0] for key in hooks.files} == set(HOOKS)
    for name in HOOKS:
        shape = tuple(hooks[f"{name}__shape"])
        expected = (
            np.unpackbits(hooks[f"{name}__bits"], count=int(np.prod(shape))).reshape(shape).astype(bool)
        )
        assert 0 < expected.mean() < 1
        assert int((recorded[name].reshape(shape) != expected).sum()) == 0, name
    expected = np.load(golden / "logits.npz")["logits"]
    np.testing.assert_allclose(logits.numpy(), expected, rtol=0, atol=1e-6)


def test_one_training_step(model: nn.Module, golden: Path) -> None:
    step = np.load(golden / "train_step.npz")
    model.train()
    logits = model(torch.from_numpy(step["x"]))
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(step["labels"]))
    loss.backward()
    np.testing.assert_allclose(logits.detach().numpy(), step["logits_train"], rtol=0, atol=2e-6)
    assert loss.item() == pytest.approx(float(step["loss"]), abs=1e-6)
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for key in step.files:
        kind, _, name = key.partition(".")
        if kind == "buffer_after":
            np.testing.assert_allclose(buffers[name].numpy(), step[key], rtol=1e-5, atol=1e-6, err_msg=key)
        if kind not in ("grad", "norm") or name.endswith("conv.bias"):
            continue  # the gradient of a bias before a batch norm is rounding noise
        gradient = parameters[name].grad.numpy()
        if kind == "norm":
            assert np.linalg.norm(gradient) == pytest.approx(float(step[key]), rel=1e-4), key
        else:
            scale = np.abs(step[key]).max()
            np.testing.assert_allclose(gradient, step[key], rtol=1e-4, atol=1e-4 * scale, err_msg=key)


def test_names_and_shapes_are_the_official_ones(model: nn.Module, golden: Path) -> None:
    lines = (golden / "state_dict_keys.txt").read_text().splitlines()
    ours = model.state_dict()
    entries = [line.split()[:2] for line in lines if line.strip() and not line.startswith("#")]
    shape = {name: "x".join(map(str, value.shape)) or "scalar" for name, value in ours.items()}
    assert [[name, shape[name]] for name in ours] == entries
    assert sum(p.numel() for p in model.parameters()) == 163_794


def test_the_official_optimizer_state_fits(model: nn.Module, golden: Path) -> None:
    """AdamW with biases and 1-D tensors first, without decay, as timm groups them: 41 and 20 tensors."""
    plain = [p for p in model.parameters() if p.dim() <= 1]
    decayed = [p for p in model.parameters() if p.dim() > 1]
    optimizer = torch.optim.AdamW([{"params": plain, "weight_decay": 0.0}, {"params": decayed}])
    stored = read_checkpoint(golden / "checkpoint-0.pth.tar").optimizer
    assert stored is not None
    optimizer.load_state_dict(stored)
    assert [len(group["params"]) for group in optimizer.param_groups] == [41, 20]
    moments = [(p, optimizer.state[p]["exp_avg"]) for p in plain + decayed if p in optimizer.state]
    assert len(moments) == 59  # talking_heads never gets a gradient
    assert all(p.shape == moment.shape for p, moment in moments)
