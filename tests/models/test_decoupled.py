"""The decoupled model: its attentions against plain loops, its neuron, its switches, its regularisation."""

from __future__ import annotations

import copy
import itertools
import math

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


def test_a_learned_threshold_has_the_gradient_of_the_surrogate():
    """Against autograd through a plain loop: S = Θ(V - θ), θ = exp(log_threshold), the reset detached."""
    torch.manual_seed(0)
    lif = RateLIF(0.8, learn_threshold=True).double().train()
    nn.init.constant_(lif.log_threshold, -0.4)
    x, weight = 2 * torch.randn(2, 5, B, C, H, dtype=torch.float64)
    out = lif(x)
    (out * weight).sum().backward()
    log = torch.tensor(-0.4, dtype=torch.float64, requires_grad=True)
    h, spikes = torch.zeros_like(x[0]), []
    for current in x:
        v = h + 0.5 * (current - h)
        fired = surrogate.Rect()(v - log.exp())
        spikes.append(fired)
        h = v * (1 - fired.detach())
    expected = torch.stack(spikes)
    (expected * weight).sum().backward()
    assert torch.equal(out, expected) and 0.05 < out.mean() < 0.95
    torch.testing.assert_close(lif.log_threshold.grad, log.grad)
    assert torch.equal(lif.eval()(x), expected), "evaluation fires at the learned threshold"


@pytest.mark.parametrize("learn_tau", [True, False])
@pytest.mark.parametrize("learn_threshold", [True, False])
def test_every_layer_learns_what_it_is_told_to(learn_tau, learn_threshold):
    model, plain = (
        Decoupled(DecoupledConfig(**{**SMALL, **fields})).train()
        for fields in ({"learn_tau": learn_tau, "learn_threshold": learn_threshold}, {})
    )
    lifs = [m for m in model.modules() if isinstance(m, RateLIF)]
    assert len(lifs) == 17 + 6 * 5
    counts = [sum(p.numel() for p in m.parameters()) for m in (model, plain)]
    assert counts[0] == counts[1] + len(lifs) * learn_threshold
    nn.functional.cross_entropy(model(torch.randn(8, C, H, W)), torch.arange(8) % K).backward()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    before = [(m.w.item(), m.v_threshold) for m in lifs]
    optimizer.step()
    model.eval()
    moved = [(m.w.item() != w, m.v_threshold != v) for m, (w, v) in zip(lifs, before, strict=True)]
    assert any(tau for tau, _ in moved) == learn_tau
    assert any(threshold for _, threshold in moved) == learn_threshold


def test_a_learned_threshold_is_loaded_with_the_weights_and_reaches_the_graph():
    from snn_energy.graph.capture import capture

    model = Decoupled(DecoupledConfig(**{**SMALL, "learn_threshold": True, "temporal": False}))
    for i, lif in enumerate(m for m in model.modules() if isinstance(m, RateLIF)):
        nn.init.constant_(lif.log_threshold, -1.0 + i / 64)
    model.eval()
    other = Decoupled(model.config).eval()
    other.load_state_dict(model.state_dict())
    x = torch.randn(B, C, H, W)
    assert torch.equal(other(x), model(x))
    thresholds = {node.module: node.v_threshold for node in capture(other, x).neurons}
    for name, module in model.named_modules():
        if isinstance(module, RateLIF):
            assert thresholds[name] == pytest.approx(math.exp(module.log_threshold.item()), rel=1e-6)


def test_a_threshold_that_is_set_stays_to_the_last_digit():
    """What a lowering writes into a neuron outlives `eval()` and a copy."""
    lif = RateLIF(0.4, learn_threshold=True)
    lif.v_threshold = 0.1 + 2**-40
    assert copy.deepcopy(lif).eval().v_threshold == 0.1 + 2**-40
    assert lif.log_threshold.item() == pytest.approx(math.log(0.1), rel=1e-6)
    lif.log_threshold.data.fill_(-2.0)
    assert lif.eval().v_threshold == math.exp(-2.0)


@pytest.mark.parametrize("residual", ["iand", "or", "scaled"])
@pytest.mark.parametrize("kind", [SpatialAttention, TemporalAttention])
def test_an_attention_starts_as_the_identity_of_spikes(residual, kind):
    """And every one of its weights but the queries', keys' and values' gets a gradient at once."""
    torch.manual_seed(0)
    model = Decoupled(DecoupledConfig(**{**SMALL, "residual": residual})).train()
    attention = next(m for m in model.modules() if isinstance(m, kind))
    x = spikes(T, B, 16, H, W).requires_grad_()
    out = attention(x)
    assert torch.equal(out, x)
    (out * torch.randn_like(out)).sum().backward()
    assert x.grad.abs().mean() > 0.3, "the shortcut carries the gradient"
    assert attention.proj_bn.weight.grad.any() and attention.proj_bn.bias.grad.any()


def test_a_plain_residual_is_no_identity():
    """A spike of amplitude 1 charges a LIF of τ = 2 to ½: below a threshold of 1 it is lost."""
    model = Decoupled(DecoupledConfig(**{**SMALL, "residual": "plain", "v_threshold": 1.0})).eval()
    attention = next(m for m in model.modules() if isinstance(m, SpatialAttention))
    nn.init.zeros_(attention.proj_bn.weight)
    x = torch.zeros(T, B, 16, H, W)
    x[0] = spikes(B, 16, H, W)
    assert x.any() and not attention(x).any()


def test_joins_are_what_their_names_say():
    x, fired = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    expected = {"iand": [0, 0, 1, 0], "or": [0, 1, 1, 1], "scaled": [0, 1, 1, 1], "plain": [0, 1, 0, 1]}
    for residual, table in expected.items():
        threshold = 1.0 if residual == "plain" else 0.3
        config = DecoupledConfig(**{**SMALL, "T": 1, "residual": residual, "v_threshold": threshold})
        attention = SpatialAttention(16, config).eval()
        shape = (1, 1, 4, 1, 1)
        out = attention.join(x.view(shape), 2.5 * fired.view(shape))
        assert out.flatten().tolist() == table, residual
    scaled = SpatialAttention(16, DecoupledConfig(**{**SMALL, "residual": "scaled", "v_threshold": 0.3}))
    assert 0.5 * scaled.amplitude == pytest.approx(2 * 0.3), "twice the threshold"


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
        (
            {"v_threshold": 0.5},
            "v_threshold = 0.5: must be below 0.5 with residual = iand, .* residual = plain",
        ),
        ({"residual": "sum"}, "residual = 'sum': must be one of iand, or, scaled, plain"),
        ({"shapes": "own"}, "shapes = 'own': must be one of source, pooled"),
        ({"learn_threshold": "yes"}, "learn_threshold = 'yes': must be true or false"),
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
