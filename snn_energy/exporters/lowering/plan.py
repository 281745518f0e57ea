"""What lowering reads out of a `Graph` before any number is rounded: sources of spikes, terms, neurons.

A *term* turns spikes into current: a convolution, a gather, an attention product, a pool of other terms.
A *stream* is a sum of terms plus a bias per channel; one stream may feed many neurons (a membrane shortcut),
so all its terms must end up in one unit.  Real-valued weights here, registers in `quantize`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snn_energy.exporters.lowering.staa import StaaParameters
from snn_energy.exporters.netlist.record import Array, Shape


@dataclass(frozen=True)
class Source:
    """Something that emits spikes: the input, a neuron, an OR, an AND, or a sum of spikes.

    `kind`: input | lif | staa | or | and | and not | sum | product.  `largest`: of its messages (1 for
    binary).  `made_of`: names of the terms that feed it (of a product the attention, else gathers of weight 1
    or -1).  `unit`: what a message of 1 is worth.
    """

    kind: str
    shape: Shape
    largest: int = 1
    made_of: tuple[str, ...] = ()
    unit: float = 1.0


@dataclass(frozen=True)
class Synapse:
    """Real-valued weights from one source: `conv` (weight (O, I/g, kH, kW)), `dense` (O, I) or `gather`.

    A gather connects flat source position `sources[i]` to flat target position `targets[i]` with weight 1.
    `exact`: no node of the graph could hold other weights (a shortcut of spikes), so they are not rounded.
    """

    kind: str
    source: str
    shape: Shape
    weight: Array
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    sources: Array | None = None
    targets: Array | None = None
    exact: bool = False


@dataclass(frozen=True)
class Pool:
    """Window over the sum of `terms`: `max` (graded max pool) or `sum` (relay and ones)."""

    kind: str
    terms: tuple[str, ...]
    in_shape: Shape
    shape: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Attention:
    """scale · Q(KᵀV) over chunks of steps."""

    q: str
    k: str
    v: str
    shape: Shape
    heads: int
    chunk: int
    scale: float


Term = Synapse | Pool | Attention


@dataclass(frozen=True)
class Neuron:
    """A LIF: the terms and the bias (C,) it hears, and its equation in one form.

    v ← v·(1 − 1/τ) + gain·x, fires where v ≥ threshold, resets to 0.  `tau` None: no leak.  `current` (keep,
    entry): it hears i ← keep·i + entry·x in place of x.
    """

    terms: tuple[str, ...]
    bias: Array
    shape: Shape
    tau: float | None
    gain: float
    threshold: float
    rest: float = 0.0
    current: tuple[float, float] | None = None


@dataclass(frozen=True)
class StaaNeuron:
    """A STAA neuron: what it hears, as a `Neuron`, and its gates."""

    terms: tuple[str, ...]
    bias: Array
    shape: Shape
    parameters: StaaParameters


@dataclass(frozen=True)
class Output:
    """The classifier: dense terms and bias; logits are the mean over steps."""

    terms: tuple[str, ...]
    bias: Array
    shape: Shape


@dataclass
class Plan:
    """Everything read, by name, in an order in which each stands after what it is made of."""

    time_steps: int
    sources: dict[str, Source] = field(default_factory=dict)
    terms: dict[str, Term] = field(default_factory=dict)
    neurons: dict[str, Neuron] = field(default_factory=dict)
    staa: dict[str, StaaNeuron] = field(default_factory=dict)
    outputs: dict[str, Output] = field(default_factory=dict)
    biases: dict[str, Array] = field(default_factory=dict)  # term -> its own bias (O,)
    meta: dict[str, Any] = field(default_factory=dict)


# Values that flow along the graph while it is read.  `index` says, for every element of a tensor of shape
# (T, 1, ...) — all steps of one sample —, which flat element of (T, C, H, W) of the base it is.


@dataclass(frozen=True)
class View:
    """Spikes of source `base`, rearranged."""

    base: str
    index: Array


@dataclass(frozen=True)
class Averaged:
    """Mean of spikes over the last axis of `index`; `window` if it came from an average pool."""

    base: str
    index: Array
    window: tuple[int, int] | None = None


@dataclass(frozen=True)
class TimeMean:
    """Mean over steps of spikes: what a classifier may read instead of taking the mean itself."""

    view: View | Averaged


@dataclass(frozen=True)
class Stream:
    """A real-valued current of shape `shape` (C, H, W), rearranged by `index`."""

    terms: tuple[str, ...]
    bias: Array
    shape: Shape
    index: Array


@dataclass(frozen=True)
class Faded:
    """A stream behind a synaptic current, i ← keep·i + gain·x: what a neuron hears."""

    stream: Stream
    keep: float
    gain: float


@dataclass(frozen=True)
class Product:
    """Half of an attention: left @ right, times `scale`."""

    left: View
    right: View
    scale: float = 1.0


@dataclass(frozen=True)
class Inverse:
    """1 - spikes."""

    view: View


@dataclass(frozen=True)
class Logits:
    """Mean over steps of a stream: the end."""

    stream: Stream


Value = View | Averaged | TimeMean | Stream | Faded | Product | Inverse | Logits


def whole(time_steps: int, shape: Shape) -> Array:
    """The index of a tensor that lies as its base does: (T, 1, C, H, W)."""
    return np.arange(time_steps * int(np.prod(shape))).reshape(time_steps, 1, *shape)


def one_step(index: Array, size: int) -> Array | None:
    """The rearrangement of one step, if all T steps rearrange their own `size` elements alike."""
    steps = index.shape[0]
    shifted = index - (np.arange(steps) * size).reshape(-1, *[1] * (index.ndim - 1))
    first = shifted[0]
    same = bool(np.all(shifted == first)) and first.size and first.min() >= 0 and first.max() < size
    return first[0] if same and first.shape[0] == 1 else None
