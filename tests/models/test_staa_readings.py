"""What a STAA neuron is where its paper leaves a choice: each field against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from test_staa_neuron import B, H, T, W, currents, make
from torch import nn

from snn_energy.models.staa_gates import BottleneckAttention, Fire
from snn_energy.models.staa_neuron import STAALIF, NeuronConfig


def test_the_old_truth_values_of_adaptive_are_words_now():
    assert NeuronConfig(adaptive=True) == NeuronConfig(adaptive="layer")
    assert NeuronConfig(adaptive=False) == NeuronConfig(adaptive="off") == NeuronConfig()


IMPULSE = {"T": 4, "gc": True, "pe": "off", "sa": False, "tsrd": False, "v_threshold": 1.0}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [0.8, 0.8, 0.8, 0.8]),  # M = N = 1 and no gate: an integrator
        ({"leak": "tau"}, [0.4, 0.2, 0.1, 0.05]),
        ({"gc": False}, [0.4, 0.2, 0.1, 0.05]),
        ({"sa": True}, [0.4, 0.2, 0.1, 0.05]),  # the gate is ½ where its kernels are 0
        ({"leak": "tau", "tau": 4.0, "v_reset": 0.4}, [0.6, 0.55, 0.5125, 0.484375]),
        ({"v_reset": 0.1}, [0.9, 0.9, 0.9, 0.9]),
    ],
    ids=str,
)
def test_the_leak_of_an_impulse(fields, expected):
    """A current of .8 at the first step and none behind it; fresh gates add nothing."""
    lif = STAALIF(1, NeuronConfig(**{**IMPULSE, **fields})).double().eval()
    if lif.sa is not None:
        nn.init.zeros_(lif.sa.conv1.weight)
    currents = torch.tensor([0.8, 0.0, 0.0, 0.0], dtype=torch.float64).view(4, 1, 1, 1, 1)
    h, seen = None, []
    for t, current in enumerate(lif.currents(currents)):
        v, h = lif.step(current, h, t)
        seen.append(v.item())
    assert seen == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("fields", [{}, {"v_reset": -0.4}, {"pe_at": "both", "v_reset": 0.2}])
def test_one_step_at_a_time_is_the_whole_sequence(fields):
    """Outside, a membrane is its distance from rest: it starts with zeros."""
    lif, x = make(**fields).eval(), currents()
    whole, table = lif(x), lif.get_parameter(lif.step_table).detach()
    h = torch.zeros_like(x[0])
    for t in range(T):
        lif.pe.table = nn.Parameter(table[t : t + 1])
        spikes, h = lif.one_step(x[t], h)
        assert torch.equal(spikes, whole[t])


@pytest.mark.parametrize("width", [0.5, 1.0, 2.5])
def test_the_surrogate_is_a_rectangle_of_that_width_and_of_area_one(width):
    fire = Fire(0.7, width)
    v = torch.tensor([0.7 + share * width for share in (-0.51, -0.49, 0.0, 0.49, 0.51)], requires_grad=True)
    spikes = fire(v)
    assert spikes.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]
    spikes.sum().backward()
    assert v.grad.tolist() == pytest.approx([0.0, 1 / width, 1 / width, 1 / width, 0.0])


def test_a_reset_that_is_not_detached_has_the_gradient_of_the_plain_chain_rule():
    """Two steps of one number by hand: H = V (1 - S), so ∂H/∂V = 1 - S - V·[|V - 1| < ½]."""
    for detach in (True, False):
        config = NeuronConfig(T=2, gc=False, sa=False, pe="off", tau=2.0, detach_reset=detach)
        lif = STAALIF(1, config).double().train()
        x = torch.tensor([1.8, 2.0], dtype=torch.float64).view(2, 1, 1, 1, 1).requires_grad_()
        (lif(x) * torch.tensor([0.0, 1.0]).view(2, 1, 1, 1, 1)).sum().backward()
        v = [0.9, 0.45 + 1.0]
        through = 1.0 - (0.0 if detach else v[0])
        expected = [0.5 * 0.5 * through, 0.5]
        assert x.grad.flatten().tolist() == pytest.approx(expected, abs=1e-12)


def test_the_first_step_that_may_be_dropped():
    lif = make(tsrd=True, beta=1.0, tsrd_from=2).train()
    assert lif.draw_kept(T).tolist() == [True, True, False, False, False]
    assert make(tsrd=True, beta=1.0).train().draw_kept(T).tolist() == [False] * T


def test_sharing_gc_keeps_one_block_and_its_gradient_is_the_sum():
    shared, apart = make(gc_shared=True).train(), make().train()
    assert shared.gc_state is None and shared.state_context is shared.gc_in
    state = shared.state_dict()
    apart.load_state_dict({**state, **{k.replace("gc_in", "gc_state"): v for k, v in state.items()}})
    for lif in (shared, apart):
        (lif(currents()) * currents(2)).sum().backward()
    for name, p in shared.gc_in.named_parameters():
        both = apart.gc_in.get_parameter(name).grad + apart.gc_state.get_parameter(name).grad
        torch.testing.assert_close(p.grad, both, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("channels", "r"), [(6, 4), (12, 3), (2, 5)])
def test_the_bottleneck_costs_what_a_squeeze_and_excitation_block_does(channels, r):
    hidden = max(1, channels // r)
    block = BottleneckAttention(channels, r, 2.0)
    assert sum(p.numel() for p in block.parameters()) == 2 * channels * hidden + hidden + channels
    assert torch.autograd.gradcheck(block.double(), (currents(3, B, channels, H, W).requires_grad_(),))
