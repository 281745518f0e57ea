"""Every old neuron against its equation, one element and one step at a time, in plain Python."""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from snn_energy.compat import old_names
from snn_energy.errors import ConfigError

T, B, C = 5, 2, 3
Charge = Callable[[float, float], float]


def get(path: str) -> Any:
    """A name by its old path."""
    with old_names():
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


def clock(name: str) -> Any:
    return get(f"spikingjelly.clock_driven.neuron.{name}")


def by_hand(
    x: torch.Tensor, charge: Charge, threshold: float, reset: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(spikes, membranes), both like `x` (T, …), from V[-1] = reset, or 0 where the reset is soft."""
    spikes, membranes = torch.zeros_like(x), torch.zeros_like(x)
    flat, s, m = x.flatten(1), spikes.flatten(1), membranes.flatten(1)
    for i in range(flat.shape[1]):
        v = 0.0 if reset is None else reset
        for t in range(len(flat)):
            h = charge(v, float(flat[t, i]))
            assert abs(h - threshold) > 1e-9 or h == threshold
            fired = h >= threshold
            s[t, i] = float(fired)
            v = (h - threshold if reset is None else reset) if fired else h
            m[t, i] = v
    return spikes, membranes


def currents(seed: int = 0) -> torch.Tensor:
    """Sixteenths between -1 and 3, in which every sum below with τ = 2 is exact."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-16, 48, (T, B, C), generator=generator).double() / 16


def lif(tau: float, rest: float, decay_input: bool) -> Charge:
    return lambda v, x: v + (x - (v - rest)) / tau if decay_input else v - (v - rest) / tau + x


# (class, its arguments in the old order, equation, threshold, reset)
PLAIN = [
    ("IFNode", (), lambda v, x: v + x, 1.0, 0.0),
    ("IFNode", (1.25, None), lambda v, x: v + x, 1.25, None),
    ("LIFNode", (), lif(2, 0, True), 1.0, 0.0),
    ("LIFNode", (4.0, False), lif(4, 0, False), 1.0, 0.0),
    ("LIFNode", (2.0, False, 0.75, None), lif(2, 0, False), 0.75, None),
    ("LIFNode", (2.0, True, 1.0, -0.25), lif(2, -0.25, True), 1.0, -0.25),
    ("LIFNode", (2.0, False, 1.0, -0.25), lif(2, -0.25, False), 1.0, -0.25),
    ("ParametricLIFNode", (), lif(2, 0, True), 1.0, 0.0),
    ("ParametricLIFNode", (2.0, False, 0.5, -0.5), lif(2, -0.5, False), 0.5, -0.5),
]


@pytest.mark.parametrize(("name", "args", "charge", "threshold", "reset"), PLAIN)
def test_single_and_multi_step_nodes_of_clock_driven(
    name: str, args: tuple[Any, ...], charge: Charge, threshold: float, reset: float | None
) -> None:
    x = currents()
    spikes, membranes = by_hand(x, charge, threshold, reset)
    assert 0.05 < spikes.mean() < 0.9
    single = clock(name)(*args)
    with torch.no_grad():
        for t in range(T):
            assert torch.equal(single(x[t]), spikes[t])
            assert torch.equal(single.v, membranes[t])
        multi = clock(f"MultiStep{name}")(*args)
        assert torch.equal(multi(x), spikes)
        assert torch.equal(multi.v, membranes[-1])
        assert torch.equal(multi.double()(x[:1]), by_hand_from(membranes[-1], x[:1], charge, threshold))
    get("spikingjelly.clock_driven.functional.reset_net")(nn.Sequential(multi))
    assert multi.v == (0.0 if reset is None else reset)


def by_hand_from(v: torch.Tensor, x: torch.Tensor, charge: Charge, threshold: float) -> torch.Tensor:
    """The spikes of one more step (1, …) after the membranes `v`: state stays between calls."""
    pairs = zip(v.flatten().tolist(), x.flatten().tolist(), strict=True)
    return torch.tensor([float(charge(a, b) >= threshold) for a, b in pairs]).double().reshape(x.shape)


def qif(v: float, x: float) -> float:
    return v + (x + 1.5 * (v - 0.125) * (v - 0.75)) / 2


def eif(v: float, x: float) -> float:
    return v + (x + 0.125 - v + 0.5 * math.exp((v - 0.75) / 0.5)) / 2


@pytest.mark.parametrize(
    ("name", "args", "charge"),
    [
        ("QIFNode", (2.0, 0.75, 1.5, 1.0, 0.125, -0.25), qif),
        ("EIFNode", (2.0, 0.5, 0.75, 1.0, 0.125, -0.25), eif),
    ],
)
def test_nonlinear_nodes(name: str, args: tuple[float, ...], charge: Charge) -> None:
    x = currents(3)
    spikes, membranes = by_hand(x, charge, 1.0, -0.25)
    assert 0.1 < spikes.mean() < 0.9
    node = clock(name)(*args)
    for t in range(T):
        assert torch.equal(node(x[t]), spikes[t])
        torch.testing.assert_close(node.v, membranes[t], rtol=1e-12, atol=1e-12)
    if name == "EIFNode":
        assert torch.equal(clock("MultiStepEIFNode")(*args, backend="cupy")(x), spikes)


def test_analog_fire() -> None:
    x = currents()
    for related in (False, True):
        node = clock("LIAFNode")(torch.abs, related, 2.0, True, 0.75)
        v = torch.zeros(B, C).double()
        for t in range(T):
            h = v + (x[t] - v) / 2
            assert torch.equal(node(x[t]), (h - 0.75 if related else h).abs())
            v = torch.where(h >= 0.75, 0.0, h)


# --- spikingjelly.cext ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "charge"),
    [
        ("IFNode", {}, lambda v, x: v + x),
        ("LIFNode", {"tau": 4, "v_threshold": 0.5}, lif(4, 0, True)),
        ("LIFNode", {"tau": 2.0, "detach_input": True, "v_reset": -0.25}, lif(2, -0.25, False)),
        ("ParametricLIFNode", {"init_tau": 2.0}, lif(2, 0, True)),
        ("ParametricLIFNode", {"detach_input": True}, lif(2, 0, False)),
    ],
)
def test_nodes_of_cext(name: str, options: dict[str, Any], charge: Charge) -> None:
    x = currents(1)
    spikes, membranes = by_hand(x, charge, options.get("v_threshold", 1.0), options.get("v_reset", 0.0))
    assert 0.05 < spikes.mean() < 0.9
    single = get(f"spikingjelly.cext.neuron.{name}")(**options)
    with torch.no_grad():
        for t in range(T):
            assert torch.equal(single(x[t]), spikes[t])
        multi = get(f"spikingjelly.cext.neuron.MultiStep{name}")(**options, detach_reset=True)
        assert torch.equal(multi(x), spikes)
        assert torch.equal(multi.v, membranes[-1])
    if name == "ParametricLIFNode":
        assert multi.w.shape == (1,)  # as in the files of SEW-ResNet; no axis in all later versions
        assert clock("ParametricLIFNode")().w.shape == ()


def test_defaults_of_cext_are_its_own() -> None:
    assert get("spikingjelly.cext.neuron.LIFNode")().tau == 100
    with pytest.raises(ConfigError, match="hard reset only"):
        get("spikingjelly.cext.neuron.MultiStepIFNode")(v_reset=None)
    with pytest.raises(ConfigError, match="surrogate_function = 'Atan'; did you mean 'ATan'"):
        get("spikingjelly.cext.neuron.IFNode")(surrogate_function="Atan")


# --- gradients: the default surrogates, and whether the reset is part of them -------------------------------


def sigmoid_slope(u: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(4 * u)
    return 4 * s * (1 - s)


def atan_slope(u: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + (math.pi * u) ** 2)  # α/2 / (1 + (π/2 α u)²) with α = 2


@pytest.mark.parametrize(
    ("path", "slope"),
    [
        ("spikingjelly.clock_driven.neuron.MultiStepIFNode", sigmoid_slope),
        ("spikingjelly.cext.neuron.MultiStepIFNode", atan_slope),
    ],
)
@pytest.mark.parametrize("detach", [False, True])
def test_gradients_of_two_steps(path: str, slope: Callable[..., torch.Tensor], detach: bool) -> None:
    """S₀ + 2 S₁ of an IF: ∂/∂x₀ goes through the membrane, and through the reset unless that is detached."""
    x = torch.tensor([[0.75, 1.25, 0.5], [0.5, 0.25, -0.5]]).double().requires_grad_()
    node = get(path)(detach_reset=True) if detach else get(path)()
    spikes = node(x.unsqueeze(1)).squeeze(1)
    (spikes[0] + 2 * spikes[1]).sum().backward()
    h0 = x[0].detach()
    s0 = (h0 >= 1).double()
    h1 = h0 * (1 - s0) + x[1].detach()
    through = 1 - s0 - (0 if detach else h0 * slope(h0 - 1))
    torch.testing.assert_close(x.grad[0], slope(h0 - 1) + 2 * slope(h1 - 1) * through, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(x.grad[1], 2 * slope(h1 - 1), rtol=1e-6, atol=1e-9)


# --- subclasses that write an equation ----------------------------------------------------------------------


def test_equations_that_a_subclass_writes_are_run() -> None:
    """SpikingJelly 2 calls none of them: it would run the equations of the parent instead."""
    x = currents(2)

    class Half(clock("MultiStepLIFNode")):  # type: ignore[misc]
        def neuronal_charge(self, x: torch.Tensor) -> None:
            self.v = self.v / 2 + x / 4

    spikes, membranes = by_hand(x, lambda v, x: v / 2 + x / 4, 0.5, 0.0)
    node = Half(tau=2.0, v_threshold=0.5, backend="cupy")
    assert torch.equal(node(x), spikes) and torch.equal(node.v, membranes[-1])

    class Own(clock("BaseNode")):  # type: ignore[misc]
        def neuronal_charge(self, x: torch.Tensor) -> None:
            self.v = self.v / 2 + x / 4

    own = Own(0.5, -0.25)
    spikes, _ = by_hand(x, lambda v, x: v / 2 + x / 4, 0.5, -0.25)
    assert torch.equal(torch.stack([own(step) for step in x]), spikes)

    class Ternary(clock("IFNode")):  # type: ignore[misc]
        def neuronal_fire(self) -> torch.Tensor:
            return (self.v >= 1).double() - (self.v <= -0.5).double()

    out = torch.stack([Ternary()(step) for step in x])
    assert set(out.unique().tolist()) == {-1.0, 0.0, 1.0}
    with pytest.raises(ConfigError, match=r"BaseNode: has no neuronal_charge"):
        clock("BaseNode")().one_step(x[0])


def test_activation_based_takes_backend_and_the_old_order_inside_only() -> None:
    from spikingjelly.activation_based import functional, neuron, surrogate

    x = currents(2)
    with old_names():

        class Quarter(neuron.LIFNode):
            def __init__(self) -> None:
                super().__init__(2.0, True, 0.5, 0.0, surrogate.ATan(), True, "m", "cupy", True)

            def neuronal_charge(self, x: torch.Tensor) -> None:
                self.v = self.v / 2 + x / 4

        class Base(neuron.BaseNode):
            def neuronal_charge(self, x: torch.Tensor) -> None:
                self.v = self.v + 2 * x

        own, base = Quarter(), Base(v_threshold=2.0, step_mode="m", backend="torch")
        stored = neuron.IFNode(1.0, 0.0, surrogate.Sigmoid(), False, "m", "torch", True)
        functional.set_backend(nn.Sequential(stored), "cupy", neuron.IFNode)
        klif = neuron.KLIFNode(backend="cupy")
        with pytest.raises(ConfigError, match="backend = 'lava': must be torch or cupy"):
            neuron.IFNode(backend="lava")
    assert (own.detach_reset, own.step_mode, own.store_v_seq) == (True, "m", True)
    assert isinstance(own, Quarter) and isinstance(klif, neuron.KLIFNode)
    assert torch.equal(own(x), by_hand(x, lambda v, x: v / 2 + x / 4, 0.5, 0.0)[0])
    assert torch.equal(base(x), by_hand(x, lambda v, x: v + 2 * x, 2.0, 0.0)[0])
    spikes, membranes = by_hand(x, lambda v, x: v + x, 1.0, 0.0)
    assert torch.equal(stored(x), spikes) and torch.equal(stored.v_seq, membranes)
    with pytest.raises(TypeError, match="backend"):
        neuron.IFNode(backend="cupy")
    assert not hasattr(functional, "set_backend")
    assert torch.equal(
        neuron.LIFNode(2.0, True, 1.0, 0.0, surrogate.ATan(), False, "m", True)(x), lif_spikes(x)
    )


def test_steps_that_a_class_of_0_0_0_0_14_writes_are_run() -> None:
    """SpikingJelly 2 would run the steps of the parent, or ask for a functional form."""
    from spikingjelly.activation_based import base, neuron

    x = currents(2)
    with old_names():

        class Double(neuron.IFNode):
            def single_step_forward(self, x: torch.Tensor) -> torch.Tensor:
                self.v_float_to_tensor(x)
                self.v = self.v + 2 * x
                spike = self.neuronal_fire()
                self.v = self.jit_hard_reset(self.v, spike, self.v_reset)
                return spike

        class Trace(base.MemoryModule):
            def __init__(self) -> None:
                super().__init__()
                self.register_memory("v", 0.0)

            def single_step_forward(self, x: torch.Tensor) -> torch.Tensor:
                self.v = self.v / 2 + x
                return self.v

        class Whole(neuron.LIFNode):
            def multi_step_forward(self, x_seq: torch.Tensor) -> torch.Tensor:
                return x_seq + 1

        class Today(neuron.IFNode):
            pass

        double, trace = Double(step_mode="m", backend="cupy", store_v_seq=True), Trace()
        whole, today = Whole(step_mode="m"), Today(step_mode="m")
    spikes, membranes = by_hand(x, lambda v, x: v + 2 * x, 1.0, 0.0)
    assert torch.equal(double(x), spikes) and torch.equal(double.v_seq, membranes)
    assert isinstance(double, Double) and type(double).__name__ == "Double"
    trace.step_mode = "m"
    expected, v = [], torch.zeros(B, C).double()
    for step in x:
        v = v / 2 + step
        expected.append(v)
    assert torch.equal(trace(x), torch.stack(expected))
    get("spikingjelly.activation_based.functional.reset_net")(nn.Sequential(double, trace))
    assert (double.v, trace.v) == (0.0, 0.0)
    assert torch.equal(copy.deepcopy(double)(x), spikes)
    assert torch.equal(whole(x), x + 1) and type(whole) is Whole
    assert torch.equal(today(x), by_hand(x, lambda v, x: v + x, 1.0, 0.0)[0]) and type(today) is Today


def lif_spikes(x: torch.Tensor) -> torch.Tensor:
    return by_hand(x, lif(2, 0, True), 1.0, 0.0)[0]


def test_membranes_of_all_steps_are_kept_where_asked_for() -> None:
    node, x = clock("MultiStepLIFNode")(), currents()
    assert node.v_seq is None
    node(x)
    with pytest.raises(ConfigError, match=r"MultiStepLIFNode\.v_seq: .* store_v_seq = True"):
        _ = node.v_seq
    node.reset()
    node.store_v_seq = True
    node(x)
    assert torch.equal(node.v_seq, by_hand(x, lif(2, 0, True), 1.0, 0.0)[1])


def test_calls_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="backend = 'lava'"):
        clock("MultiStepLIFNode")(backend="lava")
    with pytest.raises(TypeError, match="MultiStepIFNode: 7 positional arguments, must be at most 6"):
        clock("MultiStepIFNode")(1.0, 0.0, None, False, "torch", 64, 3)
    with pytest.raises(TypeError, match="tau is given twice"):
        clock("LIFNode")(2.0, tau=2.0)


def test_surrogates_that_users_wrote() -> None:
    class Rect(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, alpha: float) -> torch.Tensor:
            ctx.save_for_backward(x)
            ctx.alpha = alpha
            return (x >= 0).to(x)

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
            (x,) = ctx.saved_tensors
            return grad * (x.abs() < ctx.alpha).to(x), None

    def written(base: type) -> nn.Module:
        class Window(base):  # type: ignore[misc,valid-type]
            def __init__(self, alpha: float = 0.5, spiking: bool = True) -> None:
                super().__init__(alpha, spiking)

            @staticmethod
            def spiking_function(x: torch.Tensor, alpha: float) -> torch.Tensor:
                return Rect.apply(x, alpha)

        return Window()

    with old_names():
        modern = importlib.import_module("spikingjelly.activation_based.surrogate").SurrogateFunctionBase
        both = [written(get("spikingjelly.clock_driven.surrogate.SurrogateFunctionBase")), written(modern)]
    for window in both:
        x = currents().requires_grad_()
        spikes = clock("MultiStepIFNode")(surrogate_function=window, detach_reset=True)(x)
        assert torch.equal(spikes, by_hand(x.detach(), lambda v, x: v + x, 1.0, 0.0)[0])
        spikes[0].sum().backward()
        assert torch.equal(x.grad[0], ((x[0].detach() - 1).abs() < 0.5).double())
