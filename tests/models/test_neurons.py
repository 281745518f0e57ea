"""Our faster CPU training step of the LIF neuron is SpikingJelly's, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron, surrogate

from snn_energy.models.neurons import LIF, LIFSequence, reset


def theirs(tau: float, threshold: float) -> neuron.LIFNode:
    return neuron.LIFNode(
        tau=tau,
        v_threshold=threshold,
        detach_reset=True,
        surrogate_function=surrogate.Sigmoid(4.0),
        step_mode="m",
    )


@settings(deadline=None, max_examples=40)
@given(
    steps=st.integers(1, 6),
    tau=st.sampled_from([1.5, 2.0, 3.7]),
    threshold=st.sampled_from([0.5, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_spikes_membrane_and_gradient(steps: int, tau: float, threshold: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = (2 * torch.randn(steps, 3, 4, 5, generator=generator)).requires_grad_()
    weight = torch.randn(steps, 3, 4, 5, generator=generator)
    node = theirs(tau, threshold)
    expected = node(x)
    (expected_grad,) = torch.autograd.grad((expected * weight).sum(), x)
    spikes, v = LIFSequence.apply(x, tau, threshold)
    (grad,) = torch.autograd.grad((spikes * weight).sum(), x)
    assert torch.equal(spikes, expected)
    assert torch.equal(v, node.v)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-5, atol=2e-6)  # sums of terms near 1 may cancel


@settings(deadline=None, max_examples=40)
@given(
    shape=st.sampled_from([(1, 3), (5, 2, 3, 4, 7), (3, 1, 11)]),
    tau=st.sampled_from([1.5, 2.0, 3.7]),
    threshold=st.sampled_from([0.5, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_without_gradients_it_is_spikingjellys(
    shape: tuple[int, ...], tau: float, threshold: float, seed: int
) -> None:
    x = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    ours, plain = LIF(threshold, tau).eval(), theirs(tau, threshold).eval()
    with torch.no_grad():
        for _ in range(2):  # the second call goes on from the first one's membrane
            assert torch.equal(ours(x), plain(x))
            assert torch.equal(ours.v, plain.v)


@pytest.mark.parametrize("training", [True, False])
def test_state_continues_and_resets(training: bool) -> None:
    ours, plain = LIF(0.5).train(training), theirs(2.0, 0.5)
    x = torch.randn(4, 3, 2, 5)
    for _ in range(2):  # the second call goes on from the first one's membrane
        assert torch.equal(ours(x), plain(x))
    reset(ours)
    plain.reset()
    assert torch.equal(ours(x), plain(x))


def test_fires_at_the_threshold_itself() -> None:
    x = torch.tensor([[2.0], [1.9999998], [2.0]])  # H = 1, then just below, then above
    assert LIF().train()(x).flatten().tolist() == [1.0, 0.0, 1.0]
