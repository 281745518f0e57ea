"""Descriptions of architectures against published counts, torch's modules and brute force."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_energy.energy import estimate
from snn_energy.energy.architectures import build
from snn_energy.energy.shapes import Net, at_rate, taps
from snn_energy.errors import ConfigError

CIFAR = {"size": 32, "classes": 10, "pools": "0011"}


@pytest.mark.parametrize(
    ("record", "parameters"),
    [
        # printed by the authors' own code, or by the library that ships the model
        ({"build": "spikingformer", "depth": 8, "dim": 512}, 29_705_768),
        ({"build": "spikingformer", "depth": 8, "dim": 768}, 66_363_208),
        ({"build": "spikformer", "depth": 4, "dim": 384, "heads": 12, **CIFAR}, 9_330_874),
        ({"build": "spike-driven", "depth": 2, "dim": 64, **CIFAR}, 163_794),
        ({"build": "spike-driven", "depth": 2, "dim": 256, **CIFAR}, 2_567_082),
        ({"build": "resnet", "depth": 18, "kind": "sew"}, 11_689_512),
        ({"build": "resnet", "depth": 34, "kind": "ann"}, 21_797_672),
        ({"build": "resnet", "depth": 50, "kind": "spiking"}, 25_557_032),
        ({"build": "resnet", "depth": 101, "kind": "ann"}, 44_549_160),
        ({"build": "resnet", "depth": 152, "kind": "ann"}, 60_192_808),
        ({"build": "vit"}, 86_567_656),
        ({"build": "vit", "size": 384}, 86_859_496),
        ({"build": "swin-base"}, 87_768_224),
        ({"build": "staa-resnet20"}, 12_691_216),
        ({"build": "staa-resnet20", "classes": 100}, 12_737_386),
    ],
)  # fmt: skip
def test_parameters(record: dict, parameters: int) -> None:
    assert build(record).parameters == parameters


def test_resnet_against_torchvision() -> None:
    """Dense MACs and parameters of every convolution, in order of kind, from the real modules."""
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    from fvcore.nn import FlopCountAnalysis

    model = torchvision.models.resnet34(weights=None).eval()
    counter = FlopCountAnalysis(model, torch.zeros(1, 3, 96, 96)).unsupported_ops_warnings(False)
    theirs = counter.by_operator()
    net = build({"build": "resnet", "depth": 34, "kind": "ann", "size": 96})
    ours = {op: sum(r.dense_macs for r in net.rows if r.op == op) for op in ("conv2d", "linear")}
    assert (ours["conv2d"], ours["linear"]) == (theirs["conv"], theirs["linear"])
    assert net.parameters == sum(p.numel() for p in model.parameters())


@given(st.integers(1, 14), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_taps_by_brute_force(size: int, kernel: int, stride: int, padding: int) -> None:
    if size + 2 * padding < kernel:
        return
    outputs = (size + 2 * padding - kernel) // stride + 1
    hits = sum(0 <= o * stride - padding + k < size for o, k in product(range(outputs), range(kernel)))
    assert taps(size, kernel, stride, padding) == hits


def test_a_grouped_strided_convolution_of_a_map_that_is_not_square() -> None:
    module = torch.nn.Conv2d(6, 10, 3, stride=2, padding=1, groups=2, bias=True)
    net = Net("one", time_steps=4)
    shape = net.conv("c", (6, 9, 5), 10, 3, 2, 1, groups=2, bias=True, norm=False)
    out = module(torch.ones(1, 6, 9, 5))
    assert shape == tuple(out.shape[1:])
    assert net.parameters == sum(p.numel() for p in module.parameters())
    with torch.no_grad():
        module.weight.fill_(1)
        module.bias.fill_(0)
    (row,) = net.rows
    assert row.valid_macs == 4 * int(module(torch.ones(1, 6, 9, 5)).sum())
    assert row.dense_macs == 4 * out.numel() * 3 * 9
    assert row.bias_adds == 4 * out.numel()


def test_rates_scale_what_spikes_drive_and_nothing_else() -> None:
    net = build({"build": "spike-driven", "depth": 1, "dim": 64, "mask": False, **CIFAR})
    silent, full = (estimate(net.profile(r)) for r in (0.0, 1.0))
    assert silent.ac == 0 and silent.mac == full.mac > 0
    events = [r for r in net.rows if r.input_kind == "binary" and r.dense_macs]
    assert full.ac == sum(r.valid_macs for r in events)
    half = estimate(net.profile(0.5))
    kv = next(i for i, r in enumerate(net.rows) if r.op == "matmul")
    assert half.rows[kv].ac == full.rows[kv].ac / 4  # coincidences of two operands
    assert at_rate(net.rows[0], 0.3) == net.rows[0]  # the encoder reads the image


def test_errors() -> None:
    with pytest.raises(ConfigError, match="did you mean 'spikformer'"):
        build({"build": "spikeformer"})
    with pytest.raises(ConfigError, match="depht"):
        build({"build": "spikformer", "depht": 8})
    with pytest.raises(ConfigError, match="depth 19"):
        build({"build": "resnet", "depth": 19})
    with pytest.raises(ConfigError, match="did you mean 'sew'"):
        build({"build": "resnet", "kind": "swe"})


@pytest.mark.parametrize(
    ("record", "parameters", "convolutions"),
    [
        # counted by running the authors' own code, one step at 224 × 224: parameters, MACs of convolutions
        ({"build": "qkformer", "dim": 384}, 16_473_688, 5_830_852_608),
        ({"build": "qkformer", "dim": 512}, 29_079_336, 10_337_058_816),
        ({"build": "qkformer", "dim": 768}, 64_962_760, 23_193_354_240),
        ({"build": "max-former", "dim": 384}, 16_237_240, 5_240_782_848),
        ({"build": "max-former", "dim": 512}, 28_653_480, 9_299_820_544),
        ({"build": "max-former", "dim": 768}, 63_992_200, 20_886_061_056),
        ({"build": "spikingresformer"}, 11_180_992, 3_741_925_376),
        ({"build": "spikingresformer", "planes": (64, 256, 512)}, 17_813_824, 5_512_937_472),
        ({"build": "spikingresformer", "planes": (64, 384, 768)}, 35_601_472, 10_201_382_912),
        ({"build": "spikingresformer", "planes": (128, 512, 1024)}, 60_375_680, 17_653_923_840),
        ({"build": "meta-spikeformer"}, 31_333_864, 13_950_483_456),
        ({"build": "meta-spikeformer", "widths": (128, 256, 512, 640)}, 55_350_248, 24_698_834_944),
    ],
)  # fmt: skip
def test_hierarchical_transformers_against_their_authors_code(
    record: dict, parameters: int, convolutions: int
) -> None:
    net = build({**record, "time_steps": 1})
    assert net.parameters == parameters
    assert sum(row.dense_macs for row in net.rows if row.op == "conv2d") == convolutions
    four = build({**record, "time_steps": 4})
    assert sum(row.dense_macs for row in four.rows if row.op == "conv2d") == 4 * convolutions


@pytest.mark.parametrize(
    ("record", "printed", "within"),
    [
        # millions of parameters as papers print them; SpikingResformer's lie up to .7 % below its code's
        ({"build": "qkformer", "dim": 384}, 16.47, 0.005),
        ({"build": "qkformer", "dim": 512}, 29.08, 0.005),
        ({"build": "qkformer", "dim": 768}, 64.96, 0.005),
        ({"build": "max-former", "dim": 768}, 63.99, 0.005),
        ({"build": "meta-spikeformer"}, 31.3, 0.05),
        ({"build": "meta-spikeformer", "widths": (128, 256, 512, 640)}, 55.4, 0.051),
        ({"build": "statten", "depth": 8, "dim": 512}, 29.68, 0.011),
        ({"build": "statten", "depth": 8, "dim": 768}, 66.34, 0.005),
        ({"build": "spikingresformer"}, 11.14, 0.042),
        ({"build": "spikingresformer", "planes": (64, 384, 768)}, 35.52, 0.083),
    ],
)  # fmt: skip
def test_parameters_that_papers_print(record: dict, printed: float, within: float) -> None:
    assert build(record).parameters / 1e6 == pytest.approx(printed, abs=within)


def _real(model: torch.nn.Module, images: torch.Tensor) -> tuple[int, int, dict[str, int]]:
    """Parameters, biases of layers, and MACs of convolutions and of linear layers that really ran."""
    macs = {"conv2d": 0, "linear": 0}
    layers = [
        m for m in model.modules() if isinstance(m, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Linear)
    ]

    def count(layer: torch.nn.Module, given: object, out: torch.Tensor) -> None:
        kind = "linear" if isinstance(layer, torch.nn.Linear) else "conv2d"
        macs[kind] += out.numel() * layer.weight[0].numel()

    for layer in layers:
        layer.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(images)
    biases = sum(m.bias.numel() for m in layers if m.bias is not None)
    return sum(p.numel() for p in model.parameters()), biases, macs


@pytest.mark.parametrize(
    ("name", "fields", "record"),
    [
        ("statten", {"embed_dims": 64, "depths": 2, "num_heads": 4, "in_channels": 2, "num_classes": 11,
                     "pooling_stat": "0110", "T": 4}, {"build": "statten", "depth": 2, "dim": 64, "heads": 4,
                     "channels": 2, "classes": 11, "pools": "0110", "size": 32, "time_steps": 4}),
        ("spike-driven-transformer", {"embed_dims": 48, "depths": 1, "num_heads": 3, "in_channels": 3,
                     "num_classes": 7, "pooling_stat": "0011", "T": 3}, {"build": "spike-driven", "depth": 1,
                     "dim": 48, "heads": 3, "classes": 7, "pools": "0011", "size": 16, "time_steps": 3}),
        ("maxformer", {"num_classes": 100, "T": 3}, {"build": "max-former", "cifar": True,
                     "depths": (1, 1, 2), "classes": 100, "size": 24, "time_steps": 3}),
    ],
)  # fmt: skip
def test_descriptions_against_the_real_modules(name: str, fields: dict, record: dict) -> None:
    """Every parameter, and every multiplication of every layer in a run of the registered network."""
    from snn_energy.models.zoo import create_model

    size, channels = record["size"], record.get("channels", 3)
    parameters, biases, macs = _real(create_model(name, **fields), torch.randn(1, channels, size, size))
    net = build(record)
    assert net.parameters == parameters
    assert sum(row.bias_elements for row in net.rows) == biases
    assert {op: sum(r.dense_macs for r in net.rows if r.op == op) for op in macs} == macs


@pytest.mark.parametrize(
    ("name", "record", "fewer"),
    [
        ("qkformer", {"build": "qkformer"}, 1104),
        ("maxformer", {"build": "max-former"}, 624),
    ],
)
def test_spikingjellys_forms_differ_in_biases_only(name: str, record: dict, fewer: int) -> None:
    from snn_energy.models.zoo import create_model

    fields = {} if name == "qkformer" else {"cifar": False, "depths": (1, 2, 7), "num_classes": 1000}
    parameters, biases, macs = _real(create_model(name, T=2, **fields), torch.randn(1, 3, 64, 64))
    net = build({**record, "time_steps": 2, "size": 64})
    ours = sum(row.bias_elements for row in net.rows)
    assert (net.parameters - ours, ours - biases) == (parameters - biases, fewer)
    assert sum(row.dense_macs for row in net.rows if row.op == "conv2d") == macs["conv2d"]


def test_attention_products_of_the_hierarchical_transformers_by_hand() -> None:
    """Last stages at 224 × 224 see 14 × 14 tokens; SpikingResformer's first, 14 × 14 of 56 × 56."""
    n = 14 * 14
    for record, blocks in (({"build": "qkformer", "dim": 512}, 7), ({"build": "max-former", "dim": 512}, 7)):
        products = [r for r in build({**record, "time_steps": 3}).rows if r.op == "matmul"]
        assert len(products) == 2 * blocks
        assert sum(r.dense_macs for r in products) == 3 * blocks * 2 * n * 512 * 64
    resformer = [r for r in build({"build": "spikingresformer", "time_steps": 1}).rows if r.op == "matmul"]
    tokens = [(64, 56 * 56)] + [(192, 28 * 28)] * 2 + [(384, n)] * 3
    assert [r.dense_macs for r in resformer[::2]] == [n * width * count for width, count in tokens]
    assert [r.dense_macs for r in resformer[1::2]] == [n * width * count for width, count in tokens]
    assert {(r.input_kind, r.right_kind) for r in resformer} == {("real", "binary")}
    meta = [r for r in build({"build": "meta-spikeformer", "time_steps": 1}).rows if r.op == "matmul"]
    assert [r.dense_macs for r in meta[::2]] == [n * 384 * 48] * 6 + [n * 480 * 60] * 2


def test_what_reads_spikes_in_the_hierarchical_transformers() -> None:
    qk = build({"build": "qkformer"})
    kinds = {r.name: r.input_kind for r in qk.rows if r.op == "conv2d"}
    assert kinds["stage1.0.attn.q_conv"] == "integer" and kinds["stage1.0.attn.proj_conv"] == "binary"
    meta, merged = (build({"build": "meta-spikeformer", "merged": m}) for m in (False, True))
    real = sum(
        r.dense_macs for r in meta.rows if r.op == "conv2d" and r.input_kind == "real" and r.role != "encoder"
    )
    assert real > 0
    assert {r.role for r in merged.rows if r.input_kind == "real" and "attn" in r.name} == set()
    per_token = [r for r in merged.rows if r.name == "block3.0.attn.q.conv"]
    assert per_token[0].dense_macs == 4 * 14 * 14 * 9 * 384 * 384
    jobs = [
        r for r in build({"build": "spikingresformer"}).rows if r.input_kind == "real" and r.op == "conv2d"
    ]
    assert [r.role for r in jobs] == ["encoder"]


def test_shapes_of_the_hierarchical_transformers_are_asked_for_as_a_list() -> None:
    with pytest.raises(ConfigError, match="four are needed"):
        build({"build": "meta-spikeformer", "widths": [64, 128]})
    with pytest.raises(ConfigError, match="three are needed"):
        build({"build": "spikingresformer", "planes": [64, 128]})
    with pytest.raises(ConfigError, match="three are needed"):
        build({"build": "qkformer", "depths": [1, 2, 3, 4]})
    with pytest.raises(ConfigError, match="did you mean 'max-former'"):
        build({"build": "maxformer"})
