"""What moving data costs: two models, each a pure function of a measured row.

Arithmetic is the convention's business; memory is the cost table's.  Both models read the exact counts of
a row, whatever the convention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from snn_energy.profiling.profile import OpRow
from snn_energy.profiling.resolve import CONVOLUTIONS, SYNAPTIC


@dataclass(frozen=True)
class Sram:
    """Lemaire et al. (ICONIP 2022): SRAM accesses priced by the size of the memory, plus addressing.

    `points` are (bytes, pJ per access), joined by straight lines; beyond the last point the price stays, i.e.
    a larger memory is banks of that size and the wires between banks are not charged.  A 32-bit word is
    charged a whole access, as the paper does.

    Event-driven operand with e unit events that reach a synapses: read e words from the input queue, a
    weights and a potentials, write a potentials; addressing a additions, and for a convolution 2 MACs per
    event.
    Real operand with m MACs: read m weights; m inputs (a convolution) or each input once (linear); write each
    output once unless a neuron takes it; addressing one addition per input and output, and for a convolution
    per output channel and kernel position.
    Neuron, per step: read and write its state; write one word per spike to the output queue.
    The events reach the synapses that exist.  The paper, and SpikingJelly's implementation of it, give each
    event kernel × channels: near a border that is too many, with padding or without.
    """

    points: tuple[tuple[float, float], ...]
    add: float
    mac: float
    word_bytes: int = 4
    fifo_words: int = 1000

    def access_pj(self, size_bytes: float) -> float:
        """pJ of one access to a memory of `size_bytes`."""
        below = self.points[0]
        for point in self.points[1:]:
            if size_bytes <= point[0]:
                slope = (point[1] - below[1]) / (point[0] - below[0])
                return below[1] + slope * (size_bytes - below[0])
            below = point
        return below[1]

    def charge(self, row: OpRow) -> dict[str, float]:
        """pJ of all samples by component: activations, weights, potentials, addressing."""
        if row.neuron_cmp:
            return self._neuron(row)
        if row.op in SYNAPTIC:
            return self._events(row) if row.ac or not row.mac else self._dense(row)
        return {}

    def covers(self, row: OpRow) -> bool:
        """Does the model say anything about this kind of row?"""
        return bool(row.neuron_cmp) or row.op in SYNAPTIC

    def _word(self, words: float) -> float:
        return self.access_pj(words * self.word_bytes)

    def _events(self, row: OpRow) -> dict[str, float]:
        left = row.op != "matmul" or row.input_kind != "real"
        given = row.input_units or row.input_nonzero if left else row.right_units or row.right_nonzero
        events = given / row.static_repeats
        stored = _weight_words(row)
        potential = self._word(prod(row.output_shape))
        base = 2 * self.mac * events if row.op in CONVOLUTIONS else 0.0
        return {
            "activations": events * self._word(self.fifo_words),
            "weights": (row.ac + row.bias_adds) * self._word(stored),
            "potentials": 2 * row.ac * potential,
            "addressing": row.ac * self.add + base,
        }

    def _dense(self, row: OpRow) -> dict[str, float]:
        inputs, outputs = row.input_elements / row.static_repeats, row.output_elements / row.static_repeats
        passes = outputs / prod(row.output_shape) if row.output_shape else 1.0
        stored = _weight_words(row)
        read = row.mac if row.op in CONVOLUTIONS else inputs
        kernels = passes * _kernel_positions(row) if row.op in CONVOLUTIONS else 0.0
        written = 0.0 if row.feeds else outputs
        return {
            "activations": read * self._word(prod(row.input_shape)),
            "weights": (row.mac + row.bias_adds) * self._word(stored),
            "potentials": written * self._word(prod(row.output_shape)),
            "addressing": (inputs + outputs + kernels) * self.add,
        }

    def _neuron(self, row: OpRow) -> dict[str, float]:
        state = max(row.state_elements, prod(row.output_shape))
        return {
            "potentials": 2 * row.neuron_cmp * self._word(state),
            "activations": row.output_nonzero * self._word(self.fifo_words),
        }


@dataclass(frozen=True)
class PerByte:
    """A flat price for every byte moved, one word of `bytes_per_operation` with each AC and MAC.

    STEP (arXiv:2505.11151) publishes the price.  One 32-bit word per accumulate is our reading: it makes
    memory 99 % of the total, as that paper reports.
    """

    pj_per_byte: float
    bytes_per_operation: float = 4

    def charge(self, row: OpRow) -> dict[str, float]:
        """pJ of all samples, under `weights`."""
        if not self.covers(row):
            return {}
        return {"weights": (row.ac + row.mac) * self.bytes_per_operation * self.pj_per_byte}

    def covers(self, row: OpRow) -> bool:
        """Does the model say anything about this kind of row?"""
        return row.op in SYNAPTIC


Memory = Sram | PerByte
MODELS: Mapping[str, type[Sram] | type[PerByte]] = {"sram": Sram, "per-byte": PerByte}


def _kernel_positions(row: OpRow) -> float:
    """Output channels × kernel positions; all weights where the kernel is not known."""
    kernel = row.details.get("kernel")
    return row.output_shape[0] * prod(kernel) if kernel and row.output_shape else row.weight_elements


def _weight_words(row: OpRow) -> float:
    """Words of the stored operand: the weights and biases, or the right operand of a product of one step."""
    if row.weight_elements:
        return row.weight_elements + row.bias_elements
    passes = row.output_elements / prod(row.output_shape) if row.output_shape else 1.0
    return row.right_elements / passes if passes else 0.0
