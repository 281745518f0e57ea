"""STAtten and SDT against the plain equations, and the promises of the configuration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import statten_reference as reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from snn_energy.errors import ConfigError, DataError
from snn_energy.models.neurons import LIF, PLIF
from snn_energy.models.statten import SpikingAttention, STAtten, STAttenConfig, spatial_temporal
from snn_energy.models.zoo import create_model

B, T, C, H, W, K, HEADS, CHUNK = 2, 6, 3, 16, 20, 7, 3, 2
SMALL = {
    "in_channels": C,
    "num_classes": K,
    "embed_dims": 24,  # 3 heads of 8 channels, 4×5 tokens, chunks of 2: all numbers differ
    "num_heads": HEADS,
    "mlp_ratios": 2,
    "depths": 2,
    "T": T,
    "chunk_size": CHUNK,
    "pooling_stat": "0101",
}


def calibrated(config: STAttenConfig, x: torch.Tensor) -> STAtten:
    """A float64 network with random weights whose batch norms have seen `x`, so that every layer fires."""
    torch.manual_seed(5)
    model = STAtten(config).double()
    for path, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 2.0)
            nn.init.uniform_(module.bias, -0.3, 0.6)
            if path.endswith(("q_bn", "k_bn", "v_bn")) and not config.dvs_mode:
                module.bias.data += 0.8  # products of sparse spikes would leave the attention silent
            module.momentum = 1.0
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias)
        if isinstance(module, PLIF):
            nn.init.uniform_(module.w, -1, 1)
    with torch.no_grad():
        model.train()(x)
    return model.eval()


def spikes_by_path(model: nn.Module) -> dict[str, torch.Tensor]:
    recorded: dict[str, torch.Tensor] = {}
    for path, module in model.named_modules():
        if isinstance(module, LIF | PLIF):
            module.register_forward_hook(
                lambda m, args, out, path=path: recorded.__setitem__(path, out.detach())
            )
    return recorded


def weights_of(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


VARIANTS = [
    *itertools.product(("STAtten",), ("STAtten", "SDT"), (False, True), ("lif", "plif")),
    *itertools.product(("SDT",), ("SDT",), (False, True), ("lif", "plif")),
    ("SDT", "STAtten", True, "plif"),
]


@pytest.mark.parametrize(("release", "attention", "dvs", "spike_mode"), VARIANTS)
def test_every_spike_agrees_with_the_equations(
    release: str, attention: str, dvs: bool, spike_mode: str
) -> None:
    modes = {"attention_mode": attention, "dvs_mode": dvs, "spike_mode": spike_mode, "release": release}
    config = STAttenConfig(**SMALL, **modes)
    x = torch.randn(B, T, C, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model = calibrated(config, x)
    learnable = {"head_lif"} | {f"block.{i}.mlp.fc{j}_lif" for i in range(2) for j in (1, 2)}
    if release == "SDT":
        learnable = {path for path, _ in model.named_modules() if "_lif" in path.rpartition(".")[2]}
    assert {path for path, m in model.named_modules() if isinstance(m, PLIF)} == (
        learnable if spike_mode == "plif" else set()
    )
    recorded = spikes_by_path(model)
    with torch.no_grad():
        logits = model(x)
    for sample in range(B):
        expected, spikes = reference.forward(weights_of(model), x[sample].numpy(), config)
        for path, expected_spikes in spikes.items():
            assert 0.01 < expected_spikes.mean() < 0.99, f"{path} cannot tell anything"
            ours = recorded[path][:, sample].numpy()
            assert int((ours.reshape(expected_spikes.shape) != expected_spikes).sum()) == 0, path
        np.testing.assert_allclose(logits[sample].numpy(), expected.mean(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dvs", [False, True])
def test_attention_values_where_the_height_is_no_power_of_two(dvs: bool) -> None:
    """Scale 1/H or 1/(H·H·chunk) with 3×5 tokens, 4 heads of 2 channels, chunks of 3: before the neuron."""
    config = STAttenConfig(embed_dims=8, num_heads=4, T=6, chunk_size=3, dvs_mode=dvs)
    attention = SpikingAttention(config).double()
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randint(0, 2, (6, 2, 8, 3, 5), generator=generator).double() for _ in range(3))
    ours = attention.spatial_temporal(q, k, v)
    for sample in range(2):
        expected = reference.statten(*(s[:, sample].numpy() for s in (q, k, v)), 4, 3, dvs)
        np.testing.assert_allclose(ours[:, sample].numpy(), expected, rtol=1e-12)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_the_product_is_the_equation_for_any_shape(data: st.DataObject) -> None:
    """Random sizes; the steps of one chunk may change places, and nothing else changes."""
    chunks, chunk, batch, heads, width, h, w = (data.draw(st.integers(1, 4)) for _ in range(7))
    shape = (3, chunks * chunk, batch, heads * width, h, w)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
    q, k, v = torch.randint(0, 2, shape, generator=generator).double().unbind(0)
    ours = spatial_temporal(q, k, v, heads, chunk, 1 / h)
    for sample in range(batch):
        expected = reference.statten(*(s[:, sample].numpy() for s in (q, k, v)), heads, chunk, dvs=False)
        np.testing.assert_allclose(ours[:, sample].numpy(), expected, rtol=1e-12)
    order = torch.arange(chunks * chunk).unflatten(0, (chunks, chunk)).flip(1).flatten()
    swapped = spatial_temporal(q[order], k[order], v[order], heads, chunk, 1 / h)
    torch.testing.assert_close(swapped, ours[order], rtol=1e-12, atol=0)


def test_dvs_attention_gives_0_1_and_2() -> None:
    config = STAttenConfig(**SMALL, dvs_mode=True)
    x = torch.randn(B, T, C, H, W, dtype=torch.float64)
    model = calibrated(config, x)
    seen: set[float] = set()
    model.block[0].attn.proj_conv.register_forward_hook(
        lambda m, args, out: seen.update(args[0].unique().tolist())
    )
    with torch.no_grad():
        model(x)
    assert seen == {0.0, 1.0, 2.0}


def test_inner_shortcut_of_mlp_ratio_1() -> None:
    config = STAttenConfig(**{**SMALL, "mlp_ratios": 1, "depths": 1})
    x = torch.randn(B, C, H, W, dtype=torch.float64)
    model = calibrated(config, x)
    with torch.no_grad():
        logits = model(x)
    for sample in range(B):
        steps = np.broadcast_to(x[sample].numpy(), (T, C, H, W))
        expected, _ = reference.forward(weights_of(model), steps, config)
        np.testing.assert_allclose(logits[sample].numpy(), expected.mean(0), rtol=0, atol=1e-12)


def test_an_image_is_the_sequence_of_its_repetitions() -> None:
    model = create_model("statten", **SMALL).eval()
    x = torch.randn(B, C, H, W)
    with torch.no_grad():
        assert torch.equal(model(x), model(x.unsqueeze(1).expand(B, T, C, H, W)))


def test_a_call_starts_from_fresh_neurons() -> None:
    model = create_model("statten", **SMALL).eval()
    x = torch.randn(B, C, H, W)
    with torch.no_grad():
        first = model(x)
        model(torch.randn(B + 1, C, H, W))
        assert torch.equal(model(x), first)


def test_tet_gives_logits_per_step_in_training_and_their_mean_in_evaluation() -> None:
    model = create_model("statten", **SMALL, TET=True)
    x = torch.randn(B, C, H, W)
    assert model.train()(x).shape == (T, B, K)
    assert model.eval()(x).shape == (B, K)
    per_step: list[torch.Tensor] = []
    model.head.register_forward_hook(lambda m, args, out: per_step.append(out))
    assert torch.equal(model(x), per_step[0].mean(0))


@pytest.mark.parametrize("spike_mode", ["lif", "plif"])
@pytest.mark.parametrize("attention", ["STAtten", "SDT"])
def test_one_step_changes_every_parameter_but_the_unused(attention: str, spike_mode: str) -> None:
    x = torch.randn(4, C, H, W, dtype=torch.float64)
    model = calibrated(STAttenConfig(**SMALL, attention_mode=attention, spike_mode=spike_mode), x).train()
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    nn.functional.cross_entropy(model(x), torch.arange(4)).backward()
    optimizer.step()
    same = {name for name, value in model.named_parameters() if torch.equal(value, before[name])}
    assert same == {f"block.{i}.attn.talking_heads.weight" for i in range(2)}


def test_drop_path_drops_whole_branches_of_a_sample() -> None:
    torch.manual_seed(4)
    model = create_model("statten", **{**SMALL, "depths": 3}, drop_path_rate=0.5).train()
    x = torch.randn(B, C, H, W)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
    block = model.block[2]
    base = torch.randn(T, 8, 4, 2, 3)
    dropped = block.train().skip(base, base + 1) - base  # 0 where dropped, 1 / (1 - 0.5) where kept
    values = dropped.transpose(0, 1).flatten(1)
    kept = values.abs().amax(dim=1) > 0.5
    assert 0 < kept.sum() < 8
    torch.testing.assert_close(values[kept], torch.full_like(values[kept], 2.0))
    torch.testing.assert_close(values[~kept], torch.zeros_like(values[~kept]))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"T": 5}, "chunk_size = 2: must divide T = 5"),
        ({"embed_dims": 20}, "multiple of 8"),
        ({"num_heads": 5}, "num_heads = 5"),
        ({"pooling_stat": "01"}, "four characters"),
        ({"spike_mode": "alif"}, "lif or plif"),
        ({"attention_mode": "MHSA"}, "STAtten or SDT"),
        ({"depths": 0}, "positive whole number"),
        ({"depths": [6, 8, 6]}, "positive whole number"),
        ({"mlp_ratios": -1}, "positive number"),
        ({"drop_path_rate": 1.0}, "[0, 1)"),
        ({"chunk": 2}, "did you mean 'chunk_size'"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_in_one_line(fields: dict, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_model("statten", **{**SMALL, **fields})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((B, C + 1, H, W), "must be (B, 3, H, W) or (B, T, 3, H, W)"),
        ((C, H, W), "input of shape (3, 16, 20)"),
        ((B, 5, C, H, W), "input of 5 time steps: chunk_size = 2 must divide them"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_in_one_line(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(DataError) as caught:
        create_model("statten", **SMALL)(torch.zeros(shape))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
