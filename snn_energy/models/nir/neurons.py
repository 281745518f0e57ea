"""NIR's neurons: the differential equation of each, and the Euler step of dt seconds that stands for it.

A step takes the input current x[t] of its own step and (B, …), the features of one step, of any shape that
the parameters broadcast to.  What is constant is folded into one number per element, once, in float64:

    decay = 1 - dt/τ,   gain = R·dt/τ (without a leak: R·dt),   drift = v_leak·dt/τ

so that a leaky membrane takes v ← decay·v + gain·x + drift.  On a machine that measures the membrane from its
leak and in units of the gain, u = (v - v_leak)/gain, this is u ← decay·u + x: one multiplication and one
addition, for parameters per element too; what an integrator puts out is read with the gain in the weights.
That is what the profiler charges.

A neuron fires where its membrane is above v_threshold (not at it), and is then set to v_reset.  A call with a
fresh state begins at v_reset, an integrator that never fires at v_leak (at 0 if it has none), and every
synaptic current at 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import base

from snn_energy.errors import ConfigError

# how many digits of a decimal number a type keeps, nearly always
DIGITS = {np.dtype(np.float16): 4, np.dtype(np.float32): 8}


class NirNeuron(base.MemoryModule):
    """A neuron of one step per call; `reset` brings it to rest.

    `fields`: the parameters of the node, arrays or numbers that broadcast together; `shape` is what they
    broadcast to.  Raises `ConfigError` for a parameter that cannot be.
    """

    FIELDS: tuple[str, ...] = ()
    """Parameters that the node must have."""
    OPTIONAL: Mapping[str, float] = {}
    """Further ones, and what they are where the node does not say."""
    v: torch.Tensor
    i: torch.Tensor

    def __init__(self, fields: Mapping[str, Any], dt: float) -> None:
        super().__init__()
        known = {name: numbers(fields[name], name) for name in self.FIELDS}
        known |= {name: numbers(fields.get(name, value), name) for name, value in self.OPTIONAL.items()}
        try:
            self.shape = np.broadcast_shapes(*(value.shape for value in known.values()))
        except ValueError:
            told = ", ".join(f"{name} {value.shape}" for name, value in known.items())
            raise ConfigError(f"parameters of different shapes: {told}") from None
        self.fold(known, dt)

    def fold(self, given: dict[str, np.ndarray], dt: float) -> None:
        """Make the constants of the step."""
        raise NotImplementedError

    def constant(self, name: str, value: Any) -> None:
        """Keep `value` as a buffer: part of the network, not of what is trained here."""
        self.register_buffer(name, torch.as_tensor(np.asarray(value, np.float64)).float().contiguous())

    def state(self, name: str, start: str | None) -> None:
        """Register a state variable that begins at the constant `start`, or at 0."""
        self.starts = {**getattr(self, "starts", {}), name: start}
        self.register_memory(name, None)

    def begin(self, x: torch.Tensor) -> None:
        """Give every state variable a tensor like `x`, where it has none."""
        for name, start in self.starts.items():
            if getattr(self, name) is None:
                first = torch.zeros_like(x) if start is None else getattr(self, start).expand_as(x)
                setattr(self, name, first)

    def fire(self) -> torch.Tensor:
        """Spikes where v > v_threshold, as 0 and 1; there the membrane becomes v_reset."""
        fired = self.v > self.v_threshold
        self.v = torch.where(fired, self.v_reset, self.v)
        return fired.to(self.v.dtype)


class NirIF(NirNeuron):
    """IF: dv/dt = R·x.  v ← v + (R·dt)·x; fires above v_threshold, reset to v_reset."""

    FIELDS, OPTIONAL = ("r", "v_threshold"), {"v_reset": 0.0}

    def fold(self, given: dict[str, np.ndarray], dt: float) -> None:
        self.constant("gain", per_second(given["r"], dt))
        self.constant("v_threshold", given["v_threshold"])
        self.constant("v_reset", given["v_reset"])
        self.state("v", "v_reset")

    def single_step_forward(self, x: torch.Tensor) -> torch.Tensor:
        self.begin(x)
        self.v = self.v + self.gain * x
        return self.fire()


class NirLIF(NirNeuron):
    """LIF: τ·dv/dt = (v_leak - v) + R·x.  v ← v + dt/τ·(v_leak - v + R·x); fires above v_threshold."""

    FIELDS, OPTIONAL = ("tau", "r", "v_leak", "v_threshold"), {"v_reset": 0.0}

    def fold(self, given: dict[str, np.ndarray], dt: float) -> None:
        rate = rates(given["tau"], dt, "tau")
        self.constant("decay", 1 - rate)
        self.constant("gain", given["r"] * rate)
        self.constant("drift", given["v_leak"] * rate)
        self.constant("v_threshold", given["v_threshold"])
        self.constant("v_reset", given["v_reset"])
        self.state("v", "v_reset")

    def single_step_forward(self, x: torch.Tensor) -> torch.Tensor:
        self.begin(x)
        self.v = self.decay * self.v + self.gain * x + self.drift
        return self.fire()


class NirCubaLIF(NirNeuron):
    """CubaLIF: τ_syn·di/dt = -i + w_in·x, then LIF with i for its input.

    i ← i + dt/τ_syn·(w_in·x - i);  v ← v + dt/τ_mem·(v_leak - v + R·i), with the i of this step: NIR defines
    CubaLIF as LI, Linear, LIF in a row, and a row of nodes passes a value on within its step.
    """

    FIELDS = ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold")
    OPTIONAL: Mapping[str, float] = {"v_reset": 0.0, "w_in": 1.0}

    def fold(self, given: dict[str, np.ndarray], dt: float) -> None:
        fold_synapse(self, given, dt)
        self.constant("v_threshold", given["v_threshold"])
        self.constant("v_reset", given["v_reset"])
        self.state("v", "v_reset")

    def single_step_forward(self, x: torch.Tensor) -> torch.Tensor:
        self.begin(x)
        self.i = self.decay_syn * self.i + self.gain_syn * x
        self.v = self.decay * self.v + self.gain * self.i + self.drift
        return self.fire()


class NirI(NirNeuron):
    """I: dv/dt = R·x.  v ← v + (R·dt)·x, which is the output; never reset."""

    FIELDS = ("r",)

    def fold(self, given: dict[str, np.ndarray], dt: float) -> None:
        self.constant("gain", per_second(given["r"], dt))
        self.state("v", None)

    def single_step_forward(self, x: torch.Tensor) -> torch.Tensor:
        self.begin(x)
        self.v = self.v + self.gain * x
        return self.v


class NirLI(NirNeuron):
    """LI: τ·dv/dt = (v_leak - v) + R·x.  v ← v + dt/τ·(v_leak - v + R·x), the output; never reset."""

    FIELDS = ("tau", "r", "v_leak")

    def fold(self, given: dict[str, np.ndarray], dt: float) -> None:
        rate = rates(given["tau"], dt, "tau")
        self.constant("decay", 1 - rate)
        self.constant("gain", given["r"] * rate)
        self.constant("drift", given["v_leak"] * rate)
        self.constant("v_leak", given["v_leak"])
        self.state("v", "v_leak")

    def single_step_forward(self, x: torch.Tensor) -> torch.Tensor:
        self.begin(x)
        self.v = self.decay * self.v + self.gain * x + self.drift
        return self.v


class NirCubaLI(NirNeuron):
    """CubaLI: τ_syn·di/dt = -i + w_in·x, then LI with i for its input; the steps of CubaLIF, never reset."""

    FIELDS, OPTIONAL = ("tau_syn", "tau_mem", "r", "v_leak"), {"w_in": 1.0}

    def fold(self, given: dict[str, np.ndarray], dt: float) -> None:
        fold_synapse(self, given, dt)
        self.constant("v_leak", given["v_leak"])
        self.state("v", "v_leak")

    def single_step_forward(self, x: torch.Tensor) -> torch.Tensor:
        self.begin(x)
        self.i = self.decay_syn * self.i + self.gain_syn * x
        self.v = self.decay * self.v + self.gain * self.i + self.drift
        return self.v


NEURONS: dict[str, type[NirNeuron]] = {
    "IF": NirIF,
    "LIF": NirLIF,
    "CubaLIF": NirCubaLIF,
    "I": NirI,
    "LI": NirLI,
    "CubaLI": NirCubaLI,
}


def fold_synapse(neuron: NirNeuron, given: dict[str, np.ndarray], dt: float) -> None:
    """The constants and states that CubaLIF and CubaLI share, but for the membrane."""
    synaptic, rate = rates(given["tau_syn"], dt, "tau_syn"), rates(given["tau_mem"], dt, "tau_mem")
    neuron.constant("decay_syn", 1 - synaptic)
    neuron.constant("gain_syn", given["w_in"] * synaptic)
    neuron.constant("decay", 1 - rate)
    neuron.constant("gain", given["r"] * rate)
    neuron.constant("drift", given["v_leak"] * rate)
    neuron.state("i", None)


def numbers(value: Any, name: str) -> np.ndarray:
    """A field as an array.  Raises `ConfigError` if it holds no numbers."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ConfigError(f"{name} holds {array.dtype}, must hold numbers")
    return array


def rates(tau: np.ndarray, dt: float, name: str) -> np.ndarray:
    """dt/τ in float64.  Raises `ConfigError` where τ is not above 0."""
    if not (tau > 0).all():
        raise ConfigError(f"{name} = {float(tau.min()):g} s: must be above 0")
    return 1 / plain(tau / np.float64(dt), tau, lambda ratio: ratio * dt)


def per_second(r: np.ndarray, dt: float) -> np.ndarray:
    """R·dt in float64."""
    return plain(r * np.float64(dt), r, lambda product: product / dt)


def plain(value: np.ndarray, stored: np.ndarray, back: Any) -> np.ndarray:
    """The shortest decimal numbers that are stored as `stored` was; `value` itself where there are none.

    A file keeps 2·dt as the float32 2.0000001e-4, of which 1e-4 is 2.0000001 steps: the writer meant 2, and
    only with 2 does a membrane that comes to lie on its threshold do so here.  `back` makes of a value what
    would be stored.
    """
    digits = DIGITS.get(stored.dtype)
    value = np.asarray(value, np.float64)
    if digits is None or not np.isfinite(value).all():
        return value
    found, left = value.copy(), value != 0
    size = np.floor(np.log10(np.abs(np.where(left, value, 1.0))))
    for count in range(1, digits + 1):
        scale = 10.0 ** (count - 1 - size)
        short = np.round(value * scale) / scale
        fits = left & (back(short).astype(stored.dtype) == stored)
        found, left = np.where(fits, short, found), left & ~fits
    return found
