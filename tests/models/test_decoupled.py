"""The decoupled model: its attentions against plain loops, its neuron, its switches, its regularisation."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from snn_energy.errors import ConfigError, DataError
from snn_energy.models.decoupled import (
    Decoupled,
    DecoupledConfig,
    RateLIF,
    SpatialAttention,
    TemporalAttention,
)
from snn_energy.models.zoo import create_model

T, B, C, H, W, K, HEADS = 3, 2, 5, 12, 20, 7, 4
SMALL = {"T": T, "in_channels": C, "num_classes": K, "width": 0.125, "num_heads": HEADS}


def small(**fields) -> Decoupled:
    torch.manual_seed(0)
    model = Decoupled(DecoupledConfig(**{**SMALL, **fields})).train()
    for _ in range(20):  # running statistics
        model(torch.randn(4, C, H, W))
    return model.eval()


def spikes(*shape: int, rate: float = 0.4) -> torch.Tensor:
    return (torch.rand(*shape) < rate).float()


def qkv(d: int = 6, positions: int = 7) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [spikes(T, B, HEADS, d, positions) for _ in range(3)]


def test_spatial_attention_is_the_plain_sum():
    """out[i] = Σ_j (q_i · k_j) v_j over positions j of the same step."""
    q, k, v = qkv()
    expected = torch.zeros_like(q)
    steps, batch, heads, _, positions = q.shape
    for t, b, h, i, j in itertools.product(*map(range, (steps, batch, heads, positions, positions))):
        score = (q[t, b, h, :, i] * k[t, b, h, :, j]).sum()
        expected[t, b, h, :, i] += score * v[t, b, h, :, j]
    attention = SpatialAttention(HEADS * 6, DecoupledConfig(**SMALL))
    assert torch.equal(attention.mix(q, k, v), expected)


@pytest.mark.parametrize("causal", [True, False])
def test_temporal_attention_is_the_plain_sum(causal):
    """out[t] = Σ_s (q_t · k_s) v_s over steps s of the same position, s ≤ t if causal."""
    q, k, v = qkv()
    expected = torch.zeros_like(q)
    steps, batch, heads, _, positions = q.shape
    for b, h, i, t, s in itertools.product(*map(range, (batch, heads, positions, steps, steps))):
        if s <= t or not causal:
            score = (q[t, b, h, :, i] * k[s, b, h, :, i]).sum()
            expected[t, b, h, :, i] += score * v[s, b, h, :, i]
    attention = TemporalAttention(HEADS * 6, DecoupledConfig(**{**SMALL, "causal": causal}))
    assert torch.equal(attention.mix(q, k, v), expected)


@pytest.mark.parametrize("w", [0.0, 0.7])
def test_the_neuron_is_spikingjellys_with_a_rectangular_surrogate(w):
    """Spikes and all gradients, also that of the time constant; the kernel of evaluation gives the same."""
    torch.manual_seed(0)
    ours = RateLIF(0.8).double().train()
    theirs = neuron.ParametricLIFNode(
        v_threshold=0.8, surrogate_function=surrogate.Rect(), detach_reset=True, step_mode="m"
    ).double()
    for lif in (ours, theirs):
        nn.init.constant_(lif.w, w)
    x, weight = 2 * torch.randn(2, 5, B, C, H, dtype=torch.float64)
    a, b = (x.clone().requires_grad_() for _ in range(2))
    out, expected = ours(a), theirs(b)
    assert 0.05 < expected.mean() < 0.95
    assert torch.equal(out, expected)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(ours.w.grad, theirs.w.grad)
    assert torch.equal(ours.eval()(x), expected)


def test_switches_make_the_four_rows_of_the_ablation():
    """Each attention costs 4·C² weights, five norms and five time constants per stage; they add up."""
    counts = {}
    for spatial, temporal in itertools.product((False, True), repeat=2):
        model = small(spatial=spatial, temporal=temporal)
        counts[spatial, temporal] = sum(p.numel() for p in model.parameters())
        kinds = {type(m) for m in model.modules()} & {SpatialAttention, TemporalAttention}
        assert kinds == {k for k, on in ((SpatialAttention, spatial), (TemporalAttention, temporal)) if on}
    one = sum(4 * c * c + 5 * 2 * c + 5 for c in (16, 32, 64))
    plain = counts[False, False]
    assert counts == {
        (False, False): plain,
        (True, False): plain + one,
        (False, True): plain + one,
        (True, True): plain + 2 * one,
    }


@pytest.mark.parametrize("name", ["resnet18", "resnet19", "resnet20", "resnet34"])
def test_every_backbone_takes_images_and_events(name):
    with torch.no_grad():
        model = Decoupled(DecoupledConfig(**{**SMALL, "backbone": name})).eval()
        for size in ((H, W), (7, 9), (1, 1)):
            assert model(torch.randn(B, C, *size)).shape == (B, K)
            assert model(torch.randn(B, T, C, *size)).shape == (B, K)


def test_causal_attention_does_not_look_ahead():
    torch.manual_seed(0)
    x = spikes(T, B, HEADS * 6, H, W)
    later = x.clone()
    later[2:] = spikes(1, B, HEADS * 6, H, W)
    for causal in (True, False):
        attention = TemporalAttention(HEADS * 6, DecoupledConfig(**{**SMALL, "causal": causal}))
        for name, p in attention.named_parameters():
            if name.endswith("conv.weight"):
                nn.init.normal_(p)
        out = []
        for z in (x, later):
            functional.reset_net(attention)
            out.append(attention.eval()(z))
        assert torch.equal(out[0][:2], out[1][:2]) == causal


def test_all_weights_see_spikes():
    """Every convolution but the first, and those behind an average pool, multiplies nothing."""
    from snn_energy.profiling.session import profile

    ops = profile(small(), [torch.randn(B, C, H, W)]).ops
    assert "uncounted" not in set(ops.op)
    real = ops[ops.op.isin(["conv2d", "linear", "matmul"]) & (ops.mac > 0)]
    allowed = ("backbone.stem.0.conv", ".shortcut.", "head.hidden")
    assert [name for name in real.name if not any(a in name for a in allowed)] == []
    attention = ops[ops.name.str.contains(r"attention\d\.\d$") & (ops.op == "matmul")]
    assert len(attention) == 12
    assert (attention.mac == 0).all()  # the second product of each: a current by the spikes of one side
    assert ((attention.input_kind != "real") | (attention.right_kind != "real")).all()


def test_no_call_sees_the_one_before_and_time_is_the_mean():
    model, x = small(), torch.randn(B, C, H, W)
    first = model(x)
    model(torch.randn(B + 1, C, W, H))
    assert torch.equal(model(x), first)
    assert torch.equal(model(x.unsqueeze(1).repeat(1, T, 1, 1, 1)), first)
    assert small(TET=True).train()(x).shape == (T, B, K)


def test_regularization_is_the_mean_rate_and_pushes_it_down():
    model, x = small().train(), torch.randn(8, C, H, W)
    rates = []
    for module in model.modules():
        if isinstance(module, RateLIF):
            module.register_forward_hook(lambda m, a, out: rates.append(out.mean().item()))
    model(x)
    sparsity = model.regularization()
    assert sparsity.item() == pytest.approx(sum(rates) / len(rates), rel=1e-5)
    sparsity.backward()
    last = model.backbone.attention3[
        -1
    ].proj_bn.bias  # current of the last neurons: more of it is more spikes
    pushed = last.grad
    assert (pushed >= 0).all() and (pushed > 0).any()
    reached = [n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()]
    assert {"backbone.stem.0.conv.weight", "backbone.stem.0.bn.bias"} <= set(reached)
    assert not any(n.startswith("head.classifier") for n in reached)
    copy.deepcopy(model)


def test_regularization_wants_a_training_forward():
    model = small()
    model(torch.randn(B, C, H, W))
    for module in model.modules():
        if isinstance(module, RateLIF):
            module.rate = None
    with pytest.raises(RuntimeError, match="after a forward in training mode"):
        model.regularization()


def test_a_training_step_gives_every_parameter_a_gradient():
    model = small().train()
    nn.functional.cross_entropy(model(torch.randn(8, C, H, W)), torch.arange(8) % K).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.slow
def test_torch_export_keeps_the_answer():
    model, x = small(), torch.randn(B, C, H, W)
    batch = torch.export.Dim("B", min=1, max=64)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},), strict=False)
    y = torch.randn(B + 3, C, H, W)
    torch.testing.assert_close(program.module()(y), model(y))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone": "vgg13"}, "backbone = 'vgg13': must be one of resnet18"),
        ({"num_heads": 3}, "num_heads = 3: must divide 128"),
        ({"num_heads": 0}, "num_heads = 0: must be a positive"),
        ({"causal": "yes"}, "causal = 'yes': must be true or false"),
        ({"v_threshold": 0}, "v_threshold = 0: must be a positive number"),
        ({"width": -1}, "width = -1: must be a positive number"),
    ],
)
def test_fields_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ConfigError, match="^" + message):
        create_model("decoupled", **fields)


def test_inputs_that_cannot_be_are_refused():
    model = small()
    for shape in ((B, C + 1, H, W), (C, H, W), (B, T + 1, C, H, W)):
        with pytest.raises(DataError, match="input of shape"):
            model(torch.randn(shape))
