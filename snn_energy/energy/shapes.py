"""Networks as lists of shapes: the arithmetic of dense operations and parameters, without torch or weights.

A `Net` collects layers and becomes a `Profile` whose activity is a given firing rate, so that one evaluator
(`estimate`) charges a network that was only described as well as one that was measured.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from math import prod
from typing import Literal

from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.resolve import ADDITIONS, REDUCTIONS, SYNAPTIC

Fed = Literal["image", "spikes", "integer", "real"]
Shape = tuple[int, ...]


def conv_output(size: int, kernel: int, stride: int, padding: int) -> int:
    """Output positions along one axis."""
    return (size + 2 * padding - kernel) // stride + 1


def taps(size: int, kernel: int, stride: int, padding: int) -> int:
    """(output position, kernel tap) pairs along one axis that fall inside the input, not on padding."""
    starts = (o * stride - padding for o in range(conv_output(size, kernel, stride, padding)))
    return sum(max(0, min(start + kernel, size) - max(start, 0)) for start in starts)


@dataclass
class Net:
    """A network being described, layer by layer; every method returns the output shape of its layer.

    `steps` of a layer is how often it runs in one inference: `time_steps` unless told otherwise.
    """

    name: str
    time_steps: int = 1
    rows: list[OpRow] = field(default_factory=list)
    parameters: int = 0

    def conv(
        self,
        name: str,
        shape: Shape,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int = 0,
        *,
        groups: int = 1,
        bias: bool = False,
        norm: bool = True,
        fed: Fed = "spikes",
        steps: int | None = None,
        role: str = "hidden",
    ) -> Shape:
        """A square 2-d convolution of (C, H, W), and the batch norm behind it."""
        cin, height, width = shape
        out = (
            channels,
            conv_output(height, kernel, stride, padding),
            conv_output(width, kernel, stride, padding),
        )
        pairs = channels * cin // groups
        valid = pairs * taps(height, kernel, stride, padding) * taps(width, kernel, stride, padding)
        weights = pairs * kernel * kernel
        dense = prod(out) * cin // groups * kernel * kernel
        self._synapse("conv2d", name, shape, out, dense, valid, weights, channels * bias, fed, steps, role)
        self.rows[-1].details.update(kernel=(kernel, kernel), stride=(stride, stride), groups=groups)
        if norm:
            self.norm(f"{name}_bn", out, steps=steps)
        return out

    def linear(
        self,
        name: str,
        shape: Shape,
        features: int,
        *,
        bias: bool = True,
        norm: bool = False,
        fed: Fed = "spikes",
        steps: int | None = None,
        role: str = "hidden",
    ) -> Shape:
        """A linear layer on the first axis of (C, …), the same for each of the other positions."""
        out = (features, *shape[1:])
        macs = prod(out) * shape[0]
        weights = features * shape[0]
        self._synapse("linear", name, shape, out, macs, macs, weights, features * bias, fed, steps, role)
        if norm:
            self.norm(f"{name}_bn", out, steps=steps)
        return out

    def norm(self, name: str, shape: Shape, *, steps: int | None = None, folded: bool = True) -> None:
        """A batch or layer norm with weight and bias per channel."""
        elements = prod(shape) * self._steps(steps)
        self.parameters += 2 * shape[0]
        self.rows.append(
            OpRow(
                name,
                "norm",
                block=_block(name),
                output_shape=shape,
                norm_elements=elements,
                norm_folded=folded,
                norm_macs=0 if folded else elements,
            )
        )

    def neuron(self, name: str, shape: Shape, *, leaky: bool = True, steps: int | None = None) -> Shape:
        """Spiking neurons without parameters."""
        elements = prod(shape) * self._steps(steps)
        self.rows.append(
            OpRow(
                name,
                "lif" if leaky else "if",
                block=_block(name),
                input_shape=shape,
                output_shape=shape,
                output_elements=elements,
                neuron_mul=elements * leaky,
                neuron_add=elements,
                neuron_cmp=elements,
                state_elements=prod(shape),
            )
        )
        return shape

    def pool(
        self, name: str, shape: Shape, out: Shape, *, fed: Fed = "spikes", op: str = "max_pool"
    ) -> Shape:
        """A pooling layer."""
        self.rows.append(
            OpRow(
                name,
                op,
                block=_block(name),
                input_kind=_kind(fed),
                two_valued_input=fed == "spikes",
                input_shape=shape,
                output_shape=out,
                input_elements=prod(shape) * self.time_steps,
                output_elements=prod(out) * self.time_steps,
            )
        )
        return out

    def product(
        self,
        name: str,
        left: Shape,
        right: Shape,
        *,
        fed: tuple[Fed, Fed] = ("spikes", "spikes"),
        site: int = 0,
    ) -> Shape:
        """A batched matrix product (…, m, k) × (…, k, n), once per step."""
        out = (*left[:-1], right[-1])
        macs = prod(out) * left[-1] * self.time_steps
        self.rows.append(
            OpRow(
                name,
                "matmul",
                site,
                role="attention",
                block=_block(name),
                input_kind=_kind(fed[0]),
                right_kind=_kind(fed[1]),
                two_valued_input=fed[0] == "spikes",
                input_shape=left,
                output_shape=out,
                input_elements=prod(left) * self.time_steps,
                right_elements=prod(right) * self.time_steps,
                output_elements=prod(out) * self.time_steps,
                dense_macs=macs,
                valid_macs=macs,
                mac=macs if fed == ("real", "real") else 0,
                mac_executed=macs if fed == ("real", "real") else 0,
                fan_out=right[-1],
            )
        )
        return out

    def unused(self, parameters: int) -> None:
        """Parameters that exist and never run."""
        self.parameters += parameters

    def profile(self, rate: float = 0.0) -> Profile:
        """The network as a Profile of one sample whose spiking operands all have the firing rate `rate`."""
        rows = tuple(at_rate(row, rate) for row in self.rows)
        return Profile(
            rows, samples=1, time_steps=self.time_steps, model=self.name, parameters=self.parameters
        )

    def _steps(self, steps: int | None) -> int:
        return self.time_steps if steps is None else steps

    def _synapse(
        self,
        op: str,
        name: str,
        shape: Shape,
        out: Shape,
        dense: int,
        valid: int,
        weights: int,
        biases: int,
        fed: Fed,
        steps: int | None,
        role: str,
    ) -> None:
        steps = self._steps(steps)
        real = fed in ("image", "real")
        repeats = steps if fed == "image" else 1
        self.parameters += weights + biases
        self.rows.append(
            OpRow(
                name,
                op,
                role="encoder" if fed == "image" else role,
                block=_block(name),
                input_kind=_kind(fed),
                two_valued_input=fed == "spikes",
                input_shape=shape,
                output_shape=out,
                input_elements=prod(shape) * steps,
                input_nonzero=prod(shape) * steps if real else 0,
                output_elements=prod(out) * steps,
                dense_macs=dense * steps,
                valid_macs=valid * steps,
                mac=valid * steps // repeats if real else 0,
                mac_executed=valid * steps if real else 0,
                mac_nonzero=valid * steps if real else 0,
                static_repeats=repeats,
                fan_out=dense / prod(shape),
                bias_adds=prod(out) * steps if biases else 0,
                weight_elements=weights,
                bias_elements=biases,
            )
        )


def at_rate(row: OpRow, rate: float) -> OpRow:
    """`row` as if its spiking operands (or a neuron's output) had the firing rate `rate`, evenly spread.

    Real operands stay as they are.  A coincidence of two operands takes the rate squared.
    """
    if row.neuron_cmp:
        fired = round(rate * row.output_elements)
        return dataclasses.replace(row, output_nonzero=fired, neuron_reset=fired)
    if row.mac or (row.input_kind == "real" and row.right_kind in (None, "real")):
        return row
    if row.op not in (*SYNAPTIC, *ADDITIONS, *REDUCTIONS):
        return dataclasses.replace(row, input_nonzero=round(rate * row.input_elements))
    both = row.op == "matmul" and "real" not in (row.input_kind, row.right_kind)
    synapses = row.valid_macs or row.input_elements
    events = round(rate * synapses)
    return dataclasses.replace(
        row,
        input_nonzero=row.input_nonzero if row.input_kind == "real" else round(rate * row.input_elements),
        right_nonzero=row.right_nonzero if row.right_kind == "real" else round(rate * row.right_elements),
        ac=round(rate * rate * synapses) if both else round(events / row.static_repeats),
        ac_executed=round(rate * rate * synapses) if both else events,
        ac_coincident=round(rate * rate * synapses) if both else events,
        ac_one_sided=events,
    )


def _kind(fed: Fed) -> str:
    return {"image": "real", "spikes": "binary", "integer": "integer", "real": "real"}[fed]


def _block(name: str) -> str:
    parts = name.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 and parts[1].isdigit() else parts[0]
