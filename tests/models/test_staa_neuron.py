"""The STAA neuron and its gates against plain loops, its gradients, its switches."""

from __future__ import annotations

import copy
import dataclasses
import itertools

import pytest
import staa_reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from snn_energy.errors import ConfigError, DataError
from snn_energy.models import staa_fused
from snn_energy.models.staa_gates import (
    GlobalContext,
    PositionEncoding,
    StepAttention,
    sinusoids,
)
from snn_energy.models.staa_neuron import STAALIF, NeuronConfig

T, B, C, H, W = 5, 2, 6, 3, 4

VARIANTS = [
    {},
    {"pe": "off"},
    {"pe": "fixed"},
    {"pe_at": "state"},
    {"pe_at": "aggregate"},
    {"pe_at": "output"},
    {"gc": False},
    {"sa": False},
    {"gc": False, "sa": False},
    {"gc": False, "sa": False, "pe": "off"},
    {"gc": False, "sa": False, "pe": "off", "tau": 3.0},
    {"gc": False, "pe_at": "state", "tau": 3.0},
    {"adaptive": True},
    {"adaptive": True, "gc": False, "pe_at": "aggregate"},
    {"alpha": 0.7, "r": 2, "v_threshold": 0.8},
    {"gc_shared": True},
    {"gc_shared": True, "sa_form": "bottleneck", "r": 2},
    {"sa_form": "bottleneck", "gc": False, "learn_alpha": True},
    {"pe_at": "both"},
    {"pe_at": "both", "pe": "fixed", "gc": False, "tau": 3.0},
    {"adaptive": "channel"},
    {"adaptive": "channel", "gc": False, "pe_at": "both"},
    {"tsrd_drops": "module"},
    {"tsrd_drops": "module", "gc": False, "pe": "off"},
    {"learn_alpha": True},
    {"leak": "tau", "tau": 3.0},
    {"leak": "tau", "sa": False},
    {"v_reset": -0.4},
    {"v_reset": 0.3, "gc": False, "sa": False, "pe": "off", "tau": 3.0},
    {"v_reset": -0.7, "leak": "tau", "pe_at": "state"},
    {"v_reset": -0.3, "adaptive": True, "gc": False},
    {"surrogate_width": 2.0},
    {"surrogate_width": 0.4, "sa": False, "pe_at": "state", "gc_shared": True},
]
IDS = ["-".join(f"{k}={v}" for k, v in kw.items()) or "full" for kw in VARIANTS]


def make(seed: int = 0, channels: int = C, **fields) -> STAALIF:
    """A neuron in float64 with every parameter drawn, none at its special start."""
    torch.manual_seed(seed)
    lif = STAALIF(channels, NeuronConfig(**{"T": T, "tsrd": False, **fields})).double()
    for name, p in lif.named_parameters():
        nn.init.normal_(p, 1.0 if name in ("M", "N") else 0.0, 0.5)
    return lif


def currents(seed: int = 1, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2.5 * torch.randn(*(shape or (T, B, C, H, W)), generator=generator, dtype=torch.float64)


def reference(lif: STAALIF, x: torch.Tensor, kept: list[bool] | None = None) -> torch.Tensor:
    config = dataclasses.asdict(lif.config)
    config["table"] = None if lif.pe is None else lif.pe.table.detach()
    config["M"], config["N"] = lif.M, lif.N
    return staa_reference.neuron(x, dict(lif.state_dict()), config, kept)


def step_by_step(lif: STAALIF, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
    """The neuron without its fused recurrence, in whatever mode it is."""
    h, membranes = None, []
    for t, current in enumerate(lif.currents(x, kept).unbind(0)):
        v, h = lif.step(current, h, t, None if kept is None else kept[t])
        membranes.append(v)
    return lif.fire(torch.stack(membranes))


@pytest.mark.parametrize("fields", VARIANTS, ids=IDS)
def test_spikes_are_those_of_the_plain_loops(fields):
    lif, x = make(**fields), currents()
    expected = reference(lif, x)
    assert 0.02 < expected.mean() < 0.9, "a silent or saturated case proves nothing"
    assert torch.equal(lif.eval()(x), expected)
    assert torch.equal(lif.train()(x), expected)


@pytest.mark.parametrize("fields", VARIANTS, ids=IDS)
def test_a_dropped_step_aggregates_plainly(fields):
    lif, x = make(tsrd=True, **fields).train(), currents()
    kept = [True, False, False, True, False]
    lif.draw_kept = lambda steps: torch.tensor(kept)
    expected = reference(lif, x, kept)
    assert torch.equal(lif(x), expected)
    if lif.gc_in is not None or lif.config.tsrd_drops == "module":
        assert not torch.equal(expected, reference(lif, x)), "the drop must matter here"


@pytest.mark.parametrize("fields", [v for v in VARIANTS if staa_fused.covers(NeuronConfig(**v))])
@pytest.mark.parametrize("kept", [None, [True, False, True, True, False]], ids=["kept", "dropped"])
def test_fused_gradients_are_those_of_autograd_step_by_step(fields, kept):
    lif, weight = make(**fields), currents(2)
    kept = None if kept is None else torch.tensor(kept)
    gradients = []
    for forward in (step_by_step, lambda *args: staa_fused.run(*args)):
        x = currents().requires_grad_()
        lif.zero_grad()
        (forward(lif, x, kept) * weight).sum().backward()
        grads = {"x": x.grad, **{name: p.grad for name, p in lif.named_parameters()}}
        gradients.append(grads)
    plain, fused = gradients
    assert plain["x"].abs().sum() > 0
    for name in plain:
        expected = torch.zeros_like(fused[name]) if plain[name] is None else plain[name]
        torch.testing.assert_close(fused[name], expected, rtol=1e-9, atol=1e-10, msg=name)


def test_every_covered_neuron_gives_every_parameter_a_gradient():
    """Also at T = 1 and with every step dropped: distributed training waits for each of them."""
    for steps, beta in itertools.product((1, 3), (0.0, 1.0)):
        lif = make(T=steps, tsrd=True, beta=beta).train()
        lif(currents(1, steps, B, C, H, W)).sum().backward()
        assert [name for name, p in lif.named_parameters() if p.grad is None] == []


def test_gradient_through_the_surrogate_is_that_of_a_plain_loop():
    """Plain LIF: backward by hand, one number at a time."""
    lif, x, weight = make(gc=False, sa=False, pe="off", tau=3.0), currents().requires_grad_(), currents(2)
    (lif.train()(x) * weight).sum().backward()
    flat, g = x.detach().flatten(1), weight.flatten(1)
    for i in range(flat.shape[1]):
        h, v = 0.0, []
        for t in range(T):
            v.append(h * (1 - 1 / 3) + flat[t, i].item() / 3)
            h = 0.0 if v[t] >= 1 else v[t]
        carried = 0.0
        for t in reversed(range(T)):
            dv = g[t, i].item() * (abs(v[t] - 1) < 0.5) + carried * (v[t] < 1)
            carried = dv * (1 - 1 / 3)
            assert x.grad.flatten(1)[t, i].item() == pytest.approx(dv / 3, abs=1e-12)


def test_without_gates_it_is_spikingjellys_lif():
    lif = STAALIF(C, NeuronConfig(T=T, gc=False, sa=False, pe="off", tau=2.0))
    other = neuron.LIFNode(tau=2.0, surrogate_function=surrogate.Rect(), detach_reset=True, step_mode="m")
    weight = currents(2).float()
    for mode in (True, False):
        a, b = (currents().float().requires_grad_() for _ in range(2))
        functional.reset_net(other)
        ours, theirs = lif.train(mode)(a), other(b)
        assert torch.equal(ours, theirs)
        (ours * weight).sum().backward()
        (theirs * weight).sum().backward()
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_global_context_gradients(channels):
    """Smooth where ReLU is not at its corner; channels below r too."""
    torch.manual_seed(0)
    block = GlobalContext(channels, 4).double()
    for p in block.parameters():
        nn.init.normal_(p, 0, 0.5)
    x = currents(3, B, channels, H, W).requires_grad_()
    assert torch.autograd.gradcheck(block, (x,))
    names, values = zip(*block.named_parameters(), strict=True)
    assert torch.autograd.gradcheck(
        lambda *ps: torch.func.functional_call(block, dict(zip(names, ps, strict=True)), (x.detach(),)),
        values,
    )


def test_step_attention_gradients_and_parameters():
    torch.manual_seed(0)
    block = StepAttention(2.0).double()
    assert sum(p.numel() for p in block.parameters()) == 6
    assert torch.autograd.gradcheck(block, (currents(3, B, C, H, W).requires_grad_(),))


def test_global_context_of_zeros_is_what_its_biases_say():
    torch.manual_seed(0)
    block = GlobalContext(C, 4)
    zeros = torch.zeros(B, C, H, W)
    assert torch.equal(block(zeros), zeros), "fresh: the identity"
    for p in block.parameters():
        nn.init.normal_(p)
    torch.testing.assert_close(block(zeros), block.of_zeros().expand_as(zeros))
    assert block(zeros).isfinite().all()


def test_a_fresh_global_context_is_the_identity_and_still_learns():
    torch.manual_seed(0)
    block, x = GlobalContext(C, 2), torch.randn(B, C, H, W)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.value.weight.grad.abs().sum() > 0


@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(1, 4),
    batch=st.integers(1, 3),
    channels=st.integers(1, 9),
    r=st.integers(1, 16),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    zero=st.booleans(),
)
def test_any_shape_gives_spikes(steps, batch, channels, r, height, width, zero):
    lif = make(channels=channels, T=steps, r=r).float()
    x = currents(4, steps, batch, channels, height, width).float() * (not zero)
    x.requires_grad_()
    for mode in (True, False):
        spikes = lif.train(mode)(x)
        assert spikes.shape == x.shape
        assert set(spikes.unique().tolist()) <= {0.0, 1.0}
    spikes.sum().backward()
    assert x.grad.isfinite().all()


def test_the_threshold_itself_fires():
    lif = STAALIF(1, NeuronConfig(T=1, gc=False, sa=False, pe="off", tau=1.0))
    x = torch.tensor([1.0, 1.0 - 1e-6]).view(1, 1, 1, 1, 2)
    assert lif(x).flatten().tolist() == [1.0, 0.0]


def test_nothing_leaks_between_calls():
    lif, x, other = make(), currents(), currents(5)
    for mode in (True, False):
        first = lif.train(mode)(x)
        lif(other)
        assert torch.equal(lif(x), first)
    copy.deepcopy(lif)
    functional.reset_net(lif)
    assert torch.equal(lif(x), first)


def test_step_t_does_not_see_later_steps():
    lif, x = make().eval(), currents()
    later = x.clone()
    later[3:] = currents(6)[3:]
    assert torch.equal(lif(x)[:3], lif(later)[:3])
    assert not torch.equal(lif(x)[3:], lif(later)[3:])


def test_samples_do_not_see_one_another():
    lif, x = make().eval(), currents()
    assert torch.equal(lif(x)[:, :1], lif(x[:, :1]))


def test_tsrd_is_drawn_in_training_only_and_follows_the_seed():
    lif = make(tsrd=True, beta=0.5, channels=C).train()
    torch.manual_seed(3)
    first = [lif.draw_kept(T).tolist() for _ in range(8)]
    torch.manual_seed(3)
    assert [lif.draw_kept(T).tolist() for _ in range(8)] == first
    assert len({tuple(kept) for kept in first}) > 1, "drawn anew at each call"
    state = torch.get_rng_state()
    assert lif.eval().draw_kept(T) is None
    lif(currents())
    assert torch.equal(torch.get_rng_state(), state), "evaluation draws nothing"


def test_tsrd_drops_a_share_beta_of_the_steps():
    lif = make(tsrd=True, beta=0.3).train()
    torch.manual_seed(0)
    kept = torch.stack([lif.draw_kept(T) for _ in range(2000)]).double()
    assert abs(1 - kept.mean().item() - 0.3) < 4 * (0.3 * 0.7 / kept.numel()) ** 0.5


def test_no_beta_is_no_tsrd():
    x = currents()
    assert torch.equal(make(tsrd=True, beta=0.0).train()(x), make(tsrd=False).train()(x))


def test_a_position_encoding_starts_at_zero_or_is_sinusoidal():
    learnable, fixed = PositionEncoding(T, C, "learnable"), PositionEncoding(T, C, "fixed")
    assert learnable.table.shape == (T, C)
    assert not learnable.table.any()
    assert list(fixed.parameters()) == []
    assert list(fixed.state_dict()) == []
    for t, c in itertools.product(range(T), range(C)):
        angle = torch.tensor(t / 10000 ** (2 * (c // 2) / C))
        expected = angle.sin() if c % 2 == 0 else angle.cos()
        assert sinusoids(T, C)[t, c].item() == pytest.approx(expected.item(), abs=1e-6)


def test_adaptive_starts_where_the_constants_are():
    for gc in (True, False):
        plain = make(gc=gc, tau=3.0)
        adaptive = STAALIF(C, NeuronConfig(T=T, tsrd=False, gc=gc, tau=3.0, adaptive=True)).double()
        assert sum(p.numel() for p in adaptive.parameters()) == sum(p.numel() for p in plain.parameters()) + 2
        adaptive.load_state_dict(plain.state_dict(), strict=False)
        nn.init.constant_(adaptive.M, plain.M)  # float64 again
        nn.init.constant_(adaptive.N, plain.N)
        assert torch.equal(adaptive.eval()(currents()), plain.eval()(currents()))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("T", 0),
        ("T", 2.0),
        ("r", -1),
        ("gc", 1),
        ("pe", "sinus"),
        ("pe_at", "head"),
        ("beta", 1.5),
        ("beta", "0.1"),
        ("tau", 0.5),
        ("tau", float("nan")),
        ("alpha", float("inf")),
        ("v_threshold", -1),
        ("v_threshold", True),
        ("gc_shared", "yes"),
        ("sa_form", "squeeze"),
        ("learn_alpha", 2.0),
        ("tsrd_drops", None),
        ("tsrd_from", -1),
        ("tsrd_from", True),
        ("adaptive", "yes"),
        ("adaptive", 1),
        ("leak", "sa"),
        ("v_reset", 1.0),
        ("v_reset", float("-inf")),
        ("surrogate_width", 0),
        ("detach_reset", 0),
    ],
)
def test_fields_that_cannot_be_are_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=rf"^{field} = .*: must be") as error:
        NeuronConfig(**{field: value})
    assert "\n" not in str(error.value)


def test_other_steps_than_the_encoding_has_are_refused():
    with pytest.raises(DataError, match="T = 5"):
        make()(currents(1, 3, B, C, H, W))
    assert make(pe="off")(currents(1, 3, B, C, H, W)).shape[0] == 3
