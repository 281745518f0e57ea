"""The dense twin as a network: what it is made of, what it computes, what it costs."""

from __future__ import annotations

import copy

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based import model as zoo
from torch import nn

from snn_energy.energy.twin import dense_twin
from snn_energy.models.ann_twin import Softmax, ann_twin
from snn_energy.models.plug_in import replace_attention
from snn_energy.models.zoo import create_model
from snn_energy.profiling import Profile, profile

B, T, C, H, W, K = 2, 6, 3, 32, 48, 5
STATTEN = {
    "in_channels": C,
    "num_classes": K,
    "embed_dims": 24,
    "num_heads": 3,
    "mlp_ratios": 2,
    "depths": 2,
    "T": T,
    "chunk_size": 2,
    "pooling_stat": "0111",
}
OURS = {"num_classes": K, "T": T, "chunk_size": 3}
MODELS = {
    "statten": lambda: create_model("statten", **STATTEN),
    "statten dvs": lambda: create_model("statten", **STATTEN, dvs_mode=True, spike_mode="plif"),
    "sdt": lambda: create_model("spike-driven-transformer", **STATTEN),
    "sdt dvs": lambda: create_model("spike-driven-transformer", **STATTEN, dvs_mode=True),
    "spikformer": lambda: create_model("spikformer", **OURS, embed_dims=48, num_heads=3, depths=2),
    "statten-spikformer": lambda: create_model(
        "statten-spikformer", **OURS, embed_dims=48, num_heads=3, depths=2
    ),
    "qkformer": lambda: create_model(
        "qkformer", **OURS, embed_dims=48, num_heads=(3, 2, 1), depths=(1, 1, 2)
    ),
    "maxformer": lambda: create_model("maxformer", **OURS, embed_dims=64, depths=(1, 1, 2)),
    "SpikingJelly SDT": lambda: replace_attention(
        zoo.SpikeDrivenTransformer(T, C, K, embed_dims=48, num_heads=3, depths=2, pooling_stat="0111")
    ),
}


def macs(counted: Profile) -> dict[str, float]:
    """MACs of one sample and one pass by module path; those of attention's own products by block."""
    out: dict[str, float] = {}
    for row in counted.rows:
        if row.mac:
            key = row.name if row.weight_elements else f"attention of {row.block}"
            out[key] = out.get(key, 0) + row.mac / counted.samples
    return out


@pytest.mark.parametrize("name", MODELS)
def test_the_network_costs_what_the_priced_twin_says(name: str) -> None:
    """Two ways to the dense reference: count the ANN, or re-price the spiking network's Profile."""
    model = MODELS[name]().eval()
    x = torch.randn(B, C, H, W, generator=torch.Generator().manual_seed(1))
    counted = profile(ann_twin(model), [x])
    assert not [row.name for row in counted.rows if row.op == "uncounted"]
    assert counted.time_steps == 1
    assert not any(row.neuron_cmp for row in counted.rows)
    assert macs(counted) == macs(dense_twin(profile(model, [x])))


def test_attention_of_the_twin_is_quadratic_in_tokens() -> None:
    counted = macs(profile(ann_twin(MODELS["statten"]()), [torch.randn(1, C, H, W)]))
    tokens = (H // 8) * (W // 8)
    assert counted["attention of block.1"] == 2 * tokens**2 * 24


@pytest.mark.parametrize("name", MODELS)
def test_same_paths_and_weights_other_neurons(name: str) -> None:
    model = MODELS[name]()
    twin = ann_twin(model)
    ours, theirs = model.state_dict(), twin.state_dict()
    gone = {key for key in ours if key not in theirs}
    assert all(key.endswith("_lif.w") for key in gone)  # learnable time constants
    assert all(torch.equal(theirs[key], ours[key]) for key in theirs)
    for path, module in model.named_modules():
        if isinstance(module, neuron.BaseNode):
            assert type(twin.get_submodule(path)) is nn.ReLU, path
    assert not any(isinstance(m, neuron.BaseNode) for m in twin.modules())


@pytest.mark.parametrize("name", MODELS)
def test_it_trains(name: str) -> None:
    torch.manual_seed(2)
    twin = ann_twin(MODELS[name]()).train()
    before = {key: value.clone() for key, value in twin.named_parameters()}
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    nn.functional.cross_entropy(twin(torch.randn(4, C, H, W)), torch.arange(4)).backward()
    optimizer.step()
    same = {key for key, value in twin.named_parameters() if torch.equal(value, before[key])}
    assert all("talking_heads" in key or key.endswith("bias") for key in same)


def test_softmax_attention_is_its_equation() -> None:
    """3 heads of 4 channels over 2×5 tokens, softmax written out."""
    q, k, v = torch.randn(3, 1, B, 12, 2, 5, dtype=torch.float64).unbind(0)
    out = Softmax(3)(q, k, v).reshape(B, 3, 4, 10)
    for sample in range(B):
        for head in range(3):
            rows = slice(4 * head, 4 * head + 4)
            a, b, c = (s[0, sample, rows].reshape(4, 10).T for s in (q, k, v))  # (tokens, channels)
            weights = torch.exp(a @ b.T / 4**0.5)
            expected = weights / weights.sum(1, keepdim=True) @ c
            torch.testing.assert_close(out[sample, head].T, expected)


def test_frames_enter_as_their_mean() -> None:
    twin = ann_twin(create_model("statten", **{**STATTEN, "in_channels": 2}, dvs_mode=True)).eval()
    frames = torch.randn(B, T, 2, H, W)
    torch.testing.assert_close(twin(frames), twin(frames.mean(1)))
    theirs = ann_twin(zoo.SpikeDrivenTransformer(T, C, K, embed_dims=48, num_heads=3, depths=1)).eval()
    sequence = torch.randn(T, B, C, H, W)
    torch.testing.assert_close(theirs(sequence), theirs(sequence.mean(0)))


def test_the_model_keeps_its_membranes_even_of_a_training_step() -> None:
    network = nn.Sequential(layer.Conv2d(C, 4, 3, step_mode="m"), neuron.LIFNode(step_mode="m"))
    network(torch.randn(T, B, C, H, W, requires_grad=True))
    membrane = network[1].v
    with pytest.raises(RuntimeError):
        copy.deepcopy(network)
    twin = ann_twin(network)
    assert network[1].v is membrane
    assert type(twin[1]) is nn.ReLU
    assert twin(torch.randn(T, B, C, H, W)).shape == (1, B, 4, H - 2, W - 2)


@pytest.mark.parametrize("build", [zoo.ms_resnet18, zoo.max_resnet18, zoo.att_ms_resnet18])
def test_convolutional_networks_of_the_zoo(build) -> None:
    model = build(num_classes=K).eval()
    functional.set_step_mode(model, "m")
    twin = ann_twin(model)
    assert twin(torch.randn(B, C, 32, 32)).shape[-1] == K


@pytest.mark.parametrize("name", ["decoupled", "staa-resnet20", "staa-vgg13"])
def test_the_other_families(name: str) -> None:
    model = create_model(name, width=0.25, num_classes=K)
    twin = ann_twin(model)
    assert not any(hasattr(m, "v_threshold") for m in twin.modules())
    assert twin.eval()(torch.randn(B, model.config.T, C, 32, 32)).shape == (B, K)


def test_gates_over_time_go() -> None:
    model = zoo.masnn_dvs128_gesture(T=T, num_classes=K)
    twin = ann_twin(model)
    assert not any(isinstance(m, layer.TemporalWiseAttention) for m in twin.modules())
    assert twin.eval()(torch.randn(T, B, 2, 32, 32)).shape == (B, K)
