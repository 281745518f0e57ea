"""STAA-SNN networks: parameter counts, what each switch changes, state, shapes, capture, counting."""

from __future__ import annotations

import collections

import pytest
import torch
from torch import nn

from snn_energy.errors import ConfigError, DataError
from snn_energy.models.backbones import SHAPES, Backbone, BasicBlock, halve
from snn_energy.models.neurons import reset
from snn_energy.models.staa import STAASNN, STAAConfig
from snn_energy.models.staa_neuron import STAALIF, Fire
from snn_energy.models.zoo import create_model

T, B, C, H, W, K = 3, 2, 5, 16, 24, 7
SMALL = {"T": T, "in_channels": C, "num_classes": K, "width": 0.125}


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def small(**fields) -> STAASNN:
    """A narrow ResNet-20 whose gates are drawn, so that no block is the identity, with running statistics."""
    torch.manual_seed(0)
    model = STAASNN(STAAConfig(**{**SMALL, **fields}))
    for module in model.modules():
        if isinstance(module, STAALIF):
            for name, p in module.named_parameters():
                if name not in ("M", "N"):
                    nn.init.normal_(p, 0, 0.5)
    model.train()
    for _ in range(20):
        model(torch.randn(4, C, H, W))
    return model.eval()


def neurons(model: nn.Module) -> list[STAALIF]:
    return [m for m in model.modules() if isinstance(m, STAALIF)]


def test_resnet20_has_the_parameters_of_the_paper():
    """12.69 M: 12,691,216 with r = 4, T = 4, 10 classes, and six more per step attention."""
    without = create_model("staa-resnet20", sa=False)
    assert count(without) == 12_691_216
    assert len(neurons(without)) == 19
    assert count(create_model("staa-resnet20")) == 12_691_216 + 19 * 6
    assert count(create_model("staa-resnet20", sa=False, num_classes=100)) == 12_737_386


def test_a_second_reading_has_the_parameters_of_the_paper_too():
    """One GC per neuron and a squeeze-and-excitation SA: 12,685,149, which prints as 12.69 M as well."""
    assert count(create_model("staa-resnet20", gc_shared=True, sa_form="bottleneck")) == 12_685_149


def test_resnet20_without_gates_is_its_backbone():
    bare = {"gc": False, "pe": "off", "sa": False}
    assert count(create_model("staa-resnet20", **bare)) == 11_247_946
    assert count(create_model("staa-resnet20", num_classes=100, **bare)) == 11_294_116


@pytest.mark.parametrize(
    ("name", "lifs", "bare"),
    [
        ("staa-vgg13", 10, 9_413_066),
        ("staa-resnet18", 17, 11_689_512),  # torchvision's resnet18
        ("staa-resnet19", 17, 12_569_226),  # MPBN's resnet19_cifar
        ("staa-resnet20", 19, 11_247_946),
        ("staa-resnet34", 33, 21_797_672),  # torchvision's resnet34
    ],
)
def test_every_network_has_its_neurons_and_the_gates_their_formula(name, lifs, bare):
    """A neuron's gates cost C² + 9.5·C + 2 with GC twice and PE of T = 4, and 6 of SA."""
    with torch.device("meta"):
        full = create_model(name)
        plain = create_model(name, gc=False, pe="off", sa=False)
    assert count(plain) == bare
    channels = [m.gc_in.value.out_features for m in neurons(full)]
    assert len(channels) == lifs
    assert count(full) - count(plain) == sum(c * c + 9.5 * c + 2 + 6 for c in channels)


@pytest.mark.parametrize(
    ("fields", "per_neuron"),
    [
        ({"gc": False}, lambda c, h: -2 * (c + 1 + c * h + h + 2 * h + c * h + c)),
        ({"sa": False}, lambda c, h: -6),
        ({"pe": "off"}, lambda c, h: -T * c),
        ({"pe": "fixed"}, lambda c, h: -T * c),
        ({"pe_at": "state"}, lambda c, h: 0),
        ({"pe_at": "aggregate"}, lambda c, h: 0),
        ({"pe_at": "output"}, lambda c, h: 0),
        ({"tsrd": False}, lambda c, h: 0),
        ({"beta": 0.5}, lambda c, h: 0),
        ({"alpha": 1.0}, lambda c, h: 0),
        ({"adaptive": True}, lambda c, h: 2),
        ({"adaptive": "channel"}, lambda c, h: 2 * c),
        ({"gc_shared": True}, lambda c, h: -(c + 1 + c * h + h + 2 * h + c * h + c)),
        ({"sa_form": "bottleneck"}, lambda c, h: 2 * c * h + h + c - 6),
        ({"pe_at": "both"}, lambda c, h: T * c),
        ({"learn_alpha": True}, lambda c, h: 1),
        ({"tsrd_drops": "module"}, lambda c, h: 0),
        ({"tsrd_from": 1}, lambda c, h: 0),
        ({"leak": "tau"}, lambda c, h: 0),
        ({"v_reset": -0.5}, lambda c, h: 0),
        ({"surrogate_width": 2.0}, lambda c, h: 0),
        ({"detach_reset": False}, lambda c, h: 0),
        ({"r": 2}, lambda c, h: 2 * (2 * c + 3) * (max(1, c // 2) - h)),
        ({"T": T + 1}, lambda c, h: c),
    ],
    ids=lambda v: next(iter(v.items())).__str__() if isinstance(v, dict) else "",
)
def test_a_switch_changes_the_parameters_it_should_and_no_other(fields, per_neuron):
    full, other = (STAASNN(STAAConfig(**{**SMALL, **kw})) for kw in ({}, fields))
    expected = 0
    for lif in neurons(full):
        hidden, channels = lif.gc_in.query.weight.shape
        expected += per_neuron(channels, hidden)
    assert count(other) - count(full) == expected

    def shapes(model: nn.Module) -> dict:
        lifs = tuple(name for name, m in model.named_modules() if isinstance(m, STAALIF))
        return {n: p.shape for n, p in model.named_parameters() if not n.startswith(lifs)}

    assert shapes(other) == shapes(full), "outside of the neurons nothing changes"


GATE_OPS = {
    "gc": ("gc_in", "gc_state"),
    "sa": ("sa",),
    "pe": ("pe",),
}


def operations(model: nn.Module, x: torch.Tensor) -> collections.Counter:
    """Calls of each (gate or rest, operation) in one evaluation."""
    from snn_energy.profiling.session import profile

    ops = profile(model, [x]).ops
    assert "uncounted" not in set(ops.op)
    gates = {part for parts in GATE_OPS.values() for part in parts}
    seen: collections.Counter = collections.Counter()
    for row in ops.itertuples():
        gate = next((part for part in row.name.split(".") if part in gates), "rest")
        seen[gate, row.op] += row.calls
    return seen


@pytest.mark.parametrize("switch", ["gc", "sa", "pe"])
def test_a_switch_changes_the_operations_of_its_gate_and_no_other(switch):
    x = torch.randn(B, C, H, W)
    full = operations(small(), x)
    without = operations(small(**{switch: "off" if switch == "pe" else False}), x)
    gone = {key for key in full if key not in without}
    assert {gate for gate, _ in gone} == set(GATE_OPS[switch])
    assert not {key for key in without if key[0] in GATE_OPS[switch]}
    for key in full.keys() | without.keys():
        if key[0] not in GATE_OPS[switch] and key != ("rest", "add") and switch != "gc":
            assert full[key] == without[key], key
    if switch == "gc":  # the plain LIF scales X and H by constants and has nothing to add to H at rest
        assert {key for key in full | without if full[key] != without[key] and key[0] == "rest"} <= {
            ("rest", "scale"),
            ("rest", "add"),
            ("rest", "mul"),
        }


@pytest.mark.parametrize(
    "fields",
    [
        {"gc_shared": True, "sa_form": "bottleneck", "pe_at": "both"},
        {"adaptive": "channel", "learn_alpha": True, "pe_at": "output"},
        {"leak": "tau", "v_reset": -0.2},
    ],
    ids=str,
)
def test_every_reading_is_counted_completely(fields):
    """Nothing uncounted, a row for every layer of the gates; one GC block has the calls of two."""
    model = STAASNN(STAAConfig(**{**SMALL, "backbone": "vgg13", "width": 1 / 16, **fields})).eval()
    seen = operations(model, torch.randn(B, C, H, W))
    layers = {kind for kind, _ in seen}
    assert layers >= {"gc_in", "sa", "pe"} and ("gc_state" in layers) != fields.get("gc_shared", False)
    if fields.get("gc_shared"):
        assert seen["gc_in", "matmul"] == 10 * T, "all inputs at once, then each membrane but the first"
        assert seen["sa", "linear"] == 2 * 10 * T


@pytest.mark.parametrize("fields", [{"tsrd": False}, {"beta": 0.7}])
def test_tsrd_changes_nothing_in_evaluation(fields):
    x = torch.randn(B, C, H, W)
    torch.manual_seed(0)
    assert torch.equal(small()(x), _same_weights(small(), fields)(x))


def _same_weights(model: STAASNN, fields: dict) -> STAASNN:
    other = STAASNN(STAAConfig(**{**SMALL, **fields}))
    other.load_state_dict(model.state_dict())
    return other.eval()


@pytest.mark.parametrize(
    "fields",
    [
        {"alpha": 0.3},
        {"pe_at": "state"},
        {"pe_at": "aggregate"},
        {"pe_at": "output"},
        {"v_threshold": 0.7},
        {"leak": "tau"},
        {"v_reset": -0.3},
    ],
)
def test_other_fields_change_the_answer(fields):
    x = torch.randn(B, C, H, W)
    model = small()
    assert not torch.equal(model(x), _same_weights(model, fields)(x))


def test_training_with_tsrd_is_deterministic_under_a_seed():
    x = torch.randn(B, C, H, W)

    def gradient(seed: int) -> torch.Tensor:
        model = small(beta=0.5).train()
        torch.manual_seed(seed)
        model(x).square().sum().backward()
        return model.backbone.stem[0].conv.weight.grad

    assert torch.equal(gradient(1), gradient(1))
    assert not torch.equal(gradient(1), gradient(2))


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_every_backbone_takes_images_and_events_of_any_size(name):
    model = small(backbone=name)
    for size in ((H, W), (W, H), (9, 15), (1, 1)):
        assert model(torch.randn(B, C, *size)).shape == (B, K)
        assert model(torch.randn(B, T, C, *size)).shape == (B, K)


def test_an_image_is_a_sequence_of_itself_and_logits_are_the_mean_over_steps():
    model, x = small(), torch.randn(B, C, H, W)
    assert torch.equal(model(x), model(x.unsqueeze(1).repeat(1, T, 1, 1, 1)))
    tet = _same_weights(model, {"TET": True})
    assert torch.equal(tet(x), model(x)), "TET is for training"
    steps = tet.train()(x)
    assert steps.shape == (T, B, K)


def test_no_call_sees_the_one_before():
    model, x = small().double(), torch.randn(B, C, H, W, dtype=torch.float64)
    first = model(x)
    model(torch.randn(B + 1, C, W, H, dtype=torch.float64))
    assert torch.equal(model(x), first)
    reset(model)
    assert torch.equal(model(x), first)
    torch.testing.assert_close(model(x[:1]), first[:1])


def test_neurons_put_out_spikes_with_stable_names():
    model = small()
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, Fire):
            module.register_forward_hook(lambda m, a, out, name=name: seen.__setitem__(name, out))
    model(torch.randn(B, C, H, W))
    assert len(seen) == 19
    assert {"backbone.stem.0.lif.fire", "backbone.stage1.0.lif1.fire", "backbone.stage4.1.lif2.fire"} <= set(
        seen
    )
    for spikes in seen.values():
        assert spikes.shape[:2] == (T, B)
        assert set(spikes.unique().tolist()) <= {0.0, 1.0}
    assert sum(s.any().item() for s in seen.values()) >= 15, "a dead network proves little"


def test_a_training_step_changes_every_parameter():
    model = small(tsrd=False).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(8, C, H, W)), torch.arange(8) % K).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
    still = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    # at 1×1 and 2×2 maps a gate's ReLU may be closed for the whole batch; a weight of the trunk may not be
    assert [n for n in still if ".gc_" not in n and ".sa." not in n] == []


def test_the_shortcut_halves_as_the_branch_does():
    for size in ((7, 10), (1, 1), (4, 3)):
        block = BasicBlock(C, 2 * C, 2, lambda c: nn.Identity())
        assert block(torch.randn(T, B, C, *size)).shape == (T, B, 2 * C, *[-(-s // 2) for s in size])
    assert halve()(torch.ones(1, 1, 3, 3)).eq(1).all(), "a border window is divided by what is in it"


def test_a_narrow_network_keeps_a_channel():
    backbone = Backbone(SHAPES["resnet20"], C, 1e-3, lambda c: nn.ReLU())
    assert backbone(torch.randn(T, B, C, H, W)).shape[2] == 1


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"T": 2}, {"gc": False, "adaptive": True, "pe": "fixed"}])
def test_torch_export_keeps_the_answer(fields):
    model, x = small(**fields), torch.randn(B, C, H, W)
    batch = torch.export.Dim("B", min=1, max=64)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},), strict=False)
    y = torch.randn(B + 3, C, H, W)
    torch.testing.assert_close(program.module()(y), model(y))


def test_gates_have_rows_of_their_true_kinds():
    from snn_energy.profiling.session import profile

    ops = profile(small(), [torch.randn(B, C, H, W)]).ops.set_index(["name", "op"])
    lif = "backbone.stage1.0.lif1"
    for name, op in (("gc_in.key", "conv2d"), ("gc_in", "matmul"), ("gc_state", "matmul"), ("sa", "mul")):
        row = ops.loc[(f"{lif}.{name}", op)]
        assert row.input_kind == "real"
        assert row.mac > 0
        assert row.ac == 0
    assert ops.loc[("backbone.stage1.0.conv2", "conv2d")].input_kind == "binary"
    assert ops.loc[(f"{lif}.gc_in", "matmul")].calls == 1, "GC1 runs over all steps at once"
    fire = ops.xs("fire", level="op")
    assert len(fire) == 19
    assert (fire.output_rate > 0).sum() > 15


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone": "resnet21"}, "backbone = 'resnet21': must be one of vgg13"),
        ({"in_channels": 0}, "in_channels = 0: must be a positive whole number"),
        ({"num_classes": True}, "num_classes = True"),
        ({"width": 0}, "width = 0: must be a positive number"),
        ({"TET": 1}, "TET = 1: must be true or false"),
        ({"r": 0}, "r = 0"),
        ({"rr": 4}, "unknown model field 'rr'; did you mean 'r'"),
    ],
)
def test_fields_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ConfigError, match="^" + message):
        create_model("staa-resnet20", **fields)


def test_inputs_that_cannot_be_are_refused():
    model = small()
    for shape in ((B, C + 1, H, W), (C, H, W), (B, T + 1, C, H, W)):
        with pytest.raises(DataError, match="input of shape"):
            model(torch.randn(shape))
    free = _same_weights(small(pe="off"), {"pe": "off"})
    assert free(torch.randn(B, T + 1, C, H, W)).shape == (B, K), "without encoding any number of steps"
