"""The operations of a spiking network, one frozen dataclass each, with what each computes.

Every node has one output, which carries the node's name.  `inputs` are the names of the nodes it reads.
`shape` is the shape of its output, with T and B as symbols (see `dims`).  Axes are counted from 0.
Weights are float32 numpy arrays in PyTorch's layout.  Nothing here imports torch.

`Conv`, `ConvTranspose`, `MaxPool`, `AvgPool` and `AdaptiveAvgPool` work on the trailing axes (C, *space); all
axes before those are independent: x (T, B, C, H, W) is T·B images.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from snn_energy.graph.dims import Shape, show

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """What all nodes have.  `module`: path of the torch module whose forward called the operation."""

    name: str
    inputs: tuple[str, ...] = ()
    shape: Shape = ()
    module: str = ""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        pairs = [(getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self)]
        return all(_same(a, b) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]

    @property
    def op(self) -> str:
        """The kind, as listings print it: `Conv`, `Lif`."""
        return type(self).__name__

    def attributes(self) -> dict[str, Any]:
        """What the kind adds to a node: its parameters and weights."""
        common = {f.name for f in dataclasses.fields(Node)}
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in common}

    def _usual(self, key: str, value: Any) -> bool:
        """Is this attribute what a reader expects where nothing is printed?"""
        default = type(self).__dataclass_fields__[key].default
        if value is None or (not isinstance(value, np.ndarray) and value == default):
            return True
        neutral = {"stride": 1, "dilation": 1, "padding": 0, "output_padding": 0}.get(key)
        return neutral is not None and set(value) == {neutral}

    def __str__(self) -> str:
        details = ", ".join(_show(k, v) for k, v in self.attributes().items() if not self._usual(k, v))
        call = "; ".join(part for part in (", ".join(self.inputs), details) if part)
        return f"{self.name} = {self.op}({call}) -> {show(self.shape)}"


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    return bool(type(a) is type(b) and a == b)


def _show(key: str, value: Any) -> str:
    if key in ("body", "step"):
        return f"{key}={len(value)} nodes"
    if isinstance(value, np.ndarray):
        return f"{key}={value.dtype}{list(value.shape)}" if value.ndim else f"{key}={value.item():g}"
    return f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"


# ---------------------------------------------------------------------------------------------- sources


@dataclass(frozen=True, eq=False, kw_only=True)
class Input(Node):
    """What the caller gives: images (B, C, H, W), frames (B, T, C, H, W), …"""


@dataclass(frozen=True, eq=False, kw_only=True)
class Constant(Node):
    """A tensor that is neither input nor a layer's weight, for example a position embedding."""

    value: Array


# -------------------------------------------------------------------------------------------- synapses


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Node):
    """Cross-correlation on (..., C, *space) -> (..., O, *space').

    weight (O, C/groups, *kernel); bias (O,) or None; stride, padding, dilation: one number per space axis.
    """

    weight: Array
    bias: Array | None = None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class ConvTranspose(Node):
    """Transposed convolution on (..., C, *space); weight (C, O/groups, *kernel)."""

    weight: Array
    bias: Array | None = None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Node):
    """x Wᵀ + b on the last axis: (..., I) -> (..., O); weight (O, I); bias (O,) or None."""

    weight: Array
    bias: Array | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class MatMul(Node):
    """left @ right, both computed: an attention product.  Leading axes broadcast."""


# ---------------------------------------------------------------------------------------------- norms


@dataclass(frozen=True, eq=False, kw_only=True)
class Norm(Node):
    """Batch norm in inference: (x - mean) / sqrt(var + eps) · weight + bias along axis `axis`."""

    weight: Array
    bias: Array
    mean: Array
    var: Array
    eps: float
    axis: int


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerNorm(Node):
    """Layer norm over the last `weight.ndim` axes."""

    weight: Array
    bias: Array
    eps: float


# --------------------------------------------------------------------------------------------- neurons


@dataclass(frozen=True, eq=False, kw_only=True)
class Lif(Node):
    """Leaky integrate-and-fire; x (T, B, ...) -> spikes 0/1 of the same shape.

    r is v_reset, or 0 where that is None.

    decay_input:      H[t] = V[t-1] + (X[t] - (V[t-1] - r)) / τ
    not decay_input:  H[t] = V[t-1] - (V[t-1] - r) / τ + X[t]
    S[t] = 1 where H[t] ≥ v_threshold;  V[-1] = r
    hard reset (v_reset a number):  V[t] = v_reset where S[t], else H[t]
    soft reset (v_reset None):      V[t] = H[t] - v_threshold·S[t], or `taken` where that is a number

    `learned`: τ was a parameter (PLIF); the charge multiplies by float32(1/τ) instead of dividing by τ.
    """

    tau: float
    v_threshold: float = 1.0
    v_reset: float | None = 0.0
    decay_input: bool = True
    learned: bool = False
    taken: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class If(Node):
    """Integrate-and-fire, no leak: H[t] = V[t-1] + X[t]; firing and reset as in `Lif`."""

    v_threshold: float = 1.0
    v_reset: float | None = 0.0
    taken: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Filter(Node):
    """A current that fades, x (T, B, ...) -> the same shape: Y[t] = keep·Y[t-1] + gain·X[t], Y[-1] = 0."""

    keep: float
    gain: float = 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Heaviside(Node):
    """1.0 where x ≥ threshold (`strict`: x > threshold), else 0.0: a spike function outside a neuron node."""

    threshold: float = 0.0
    strict: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Threshold(Node):
    """x where x ≥ threshold, else 0: what a hard reset takes from a membrane."""

    threshold: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Neuron(Node):
    """A spiking neuron of another kind, with its equations as a graph: x (T, B, ...) -> spikes of the same
    shape.

    `kind`: the class of the torch module, for example "STAALIF".  `body`: a `Graph` with one input of the
    shape of x and one output, all T steps written out, T a number in it; its last node is the `Heaviside`
    that fires.  `step`: a `Graph` of a single step where the neuron has one: x[t] (B, ...), membrane (B, ...)
    and, with a `table` (T, C), its row t as (1, C) -> spikes, next membrane.
    """

    kind: str
    body: Any
    step: Any = None
    table: Array | None = None


# ---------------------------------------------------------------------------------------------- pooling


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool(Node):
    """Maximum over windows of the trailing `len(kernel)` axes; padding counts as -∞."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class AvgPool(Node):
    """Mean over windows of the trailing `len(kernel)` axes; padding counts as 0 if `count_include_pad`."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    ceil_mode: bool = False
    count_include_pad: bool = True


@dataclass(frozen=True, eq=False, kw_only=True)
class AdaptiveAvgPool(Node):
    """Mean over a grid of `size` windows on the trailing axes."""

    size: tuple[int, ...]


# ----------------------------------------------------------------------------- arithmetic and reductions


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Node):
    """left + right with broadcasting: a membrane shortcut, a position embedding."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Sub(Node):
    """left - right with broadcasting."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Mul(Node):
    """left · right with broadcasting; an AND where both are spikes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Div(Node):
    """left / right with broadcasting."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Scale(Node):
    """x · factor + offset, both numbers.  Exactly one rounding happens if offset is 0 or factor is 1."""

    factor: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Reduce(Node):
    """Mean, sum or maximum over `axes`."""

    kind: Literal["mean", "sum", "max"]
    axes: tuple[int, ...]
    keepdims: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Activation(Node):
    """A real-valued function of each element (softmax: along the last axis)."""

    kind: Literal["sigmoid", "relu", "tanh", "gelu", "silu", "softmax", "sqrt", "exp", "abs", "neg"]


# ------------------------------------------------------------------------------------------ rearrangement


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Node):
    """The same elements in row-major order under the shape `shape`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Permute(Node):
    """Axis i of the output is axis order[i] of the input."""

    order: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Expand(Node):
    """Broadcast axes of size 1 (and missing leading axes) to `shape`: a static image shown at every step."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Repeat(Node):
    """Tile axis i `repeats[i]` times (a Dim: `T` for a static image shown at every step)."""

    repeats: Shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Node):
    """x[start:stop:step] along `axis`; `stop` None is the end."""

    axis: int
    start: int
    stop: int | None
    step: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Select(Node):
    """x[index] along `axis`, which disappears."""

    axis: int
    index: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Node):
    """Join along an axis that exists."""

    axis: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Stack(Node):
    """Join along a new axis."""

    axis: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Node):
    """Pad with `value`: `before[i]` and `after[i]` elements on axis i."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float = 0.0


def falls_by(node: Lif | If) -> float:
    """What a soft reset takes from the membrane."""
    return node.v_threshold if node.taken is None else node.taken


def node_types() -> dict[str, type[Node]]:
    """Every kind by its name."""
    return {cls.__name__: cls for cls in Node.__subclasses__()}


NEURONS = (Lif, If, Neuron)
