"""Switches of a run that change time and memory, not what is learnt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from snn_energy.checkpoints import load
from snn_energy.data import Data, Images
from snn_energy.errors import ConfigError
from snn_energy.models.zoo import create_model
from snn_energy.training import load_recipe, train
from snn_energy.training.run import Run
from snn_energy.training.speed import precision, training_layout

TINY = ("embed_dims=16", "num_heads=2", "depths=1", "T=2", "epochs=1", "batch_size=320", "ema_decay=0")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_precision() -> None:
    assert precision(False, CPU) is precision("off", CUDA) is None
    assert precision(True, CPU) is precision("bf16", CUDA) is precision("bf16", CPU) is torch.bfloat16
    assert precision(True, CUDA) is precision("fp16", CUDA) is torch.float16
    with pytest.raises(ConfigError, match="amp = fp16: is for GPUs, the device is cpu; use bf16"):
        precision("fp16", CPU)


@pytest.mark.parametrize(
    ("spelt", "expected"), [("off", "off"), ("bf16", "bf16"), ("true", True), ("no", False)]
)
def test_spellings_of_amp(spelt: str, expected: object) -> None:
    assert load_recipe("digits-statten", (f"amp={spelt}",)).amp == expected


@pytest.mark.parametrize("wrong", ["half", "3", "[bf16]"])
def test_amp_is_one_of_its_words(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"amp = .*bf16"):
        load_recipe("digits-statten", (f"amp={wrong}",))


def test_recomputed_blocks_learn_the_same(tmp_path: Path) -> None:
    """Bit for bit: a block that runs again computes as it did."""
    states = []
    for recompute in ("false", "true"):
        recipe = load_recipe("digits-statten", (*TINY, f"recompute={recompute}"))
        out = train(recipe, tmp_path / recompute, device="cpu").out
        states.append(load(out / "last.pth").state_dict())
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
    with pytest.raises(ConfigError, match="recompute=false"):
        load_recipe("digits-statten", ("recompute=true", "energy_weight=0.1"))


def test_bfloat16_trains_and_its_checkpoint_is_whole(tmp_path: Path) -> None:
    result = train(load_recipe("digits-statten", (*TINY, "amp=bf16")), tmp_path, device="cpu")
    state = load(result.best).state_dict()
    assert {v.dtype for v in state.values() if v.is_floating_point()} == {torch.float32}
    assert all(v.is_contiguous() for v in state.values())


def test_weights_are_channels_last_while_a_network_trains() -> None:
    model = create_model("statten", embed_dims=16, num_heads=2, depths=1)
    weight = model.patch_embed.proj_conv1.weight
    before = weight.detach().clone()
    with pytest.raises(KeyError), training_layout(model, CPU):
        assert weight.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(weight, before)
        raise KeyError
    assert weight.is_contiguous()
    assert torch.equal(weight, before)
    with training_layout(model, CPU, processes=2):
        assert weight.is_contiguous()


def test_a_step_of_the_loop_moves_everything_to_the_device() -> None:
    """On a GPU that fake tensors pretend: a batch from the CPU, a step, weights that stay there."""
    images = Images(torch.zeros(6, 3, 16, 24, dtype=torch.uint8), torch.arange(6) % 5)
    data = Data("pretended", images, images, tuple("abcde"))
    recipe = load_recipe("digits-statten", ("batch_size=6", "workers=0", "ema_decay=0"))
    fields = {"embed_dims": 24, "num_heads": 3, "depths": 1, "in_channels": 3, "num_classes": 5, "T": 2}
    model = create_model("statten", **{**fields, "chunk_size": 2, "pooling_stat": "0011"})
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for name, value in module._parameters.items():
                if value is not None:
                    module._parameters[name] = nn.Parameter(torch.empty(value.shape, device="cuda"))
            for name, value in module._buffers.items():
                if value is not None:
                    module._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device="cuda")
        run = Run(recipe, model, data, CUDA)
        x, y = torch.empty(6, 3, 16, 24), torch.zeros(6, dtype=torch.int64)
        loss, logits = run.objective(x.to(run.device), y.to(run.device))
        assert loss.device.type == logits.device.type == "cuda"
        for p in run.model.parameters():  # backward itself asks a GPU's driver for its streams
            p.grad = torch.empty_like(p)
        run.optimizer.step()
        assert {p.device.type for p in run.model.parameters()} == {"cuda"}


def test_the_command_line_lets_waiting_threads_sleep() -> None:
    """Before PyTorch is loaded, and not against what the user said."""
    program = (
        "import os, sys\nsys.argv = ['snn-energy', '--help']\nimport snn_energy.__main__ as m\n"
        "try: m.main()\nexcept SystemExit: pass\nprint(os.environ['OMP_WAIT_POLICY'])"
    )
    for own, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
        environment |= {} if own is None else {"OMP_WAIT_POLICY": own}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == expected
