"""Cut populations into boxes and put them on cores, first fit in the order of time.

A population fills the core that is open until a limit is met, then the next one, by whole output maps (for a
dense layer: by neurons, the rows of its matrix).  Where one map asks too much of a core it is cut into tiles
of rows and columns.  A dense layer of more inputs than a core has axons is cut by the columns of its matrix:
cores relay partial sums as graded spikes.  It is an upper bound on cores, not an optimum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from snn_energy.exporters.chip.chips import Chip
from snn_energy.exporters.chip.demand import Asks, Range
from snn_energy.exporters.netlist.record import Array, Dense, Identity, Synapses


@dataclass(frozen=True)
class Slice:
    """A box of a population, channels × rows × columns, each (start, stop), on core `core` of chip `chip`."""

    population: str
    channels: Range
    rows: Range
    columns: Range
    chip: int
    core: int
    weight_bits: int
    in_axons: int

    @property
    def neurons(self) -> int:
        return prod(stop - start for start, stop in (self.channels, self.rows, self.columns))


class Packer:
    """Cores, filled one after another."""

    def __init__(self, chip: Chip) -> None:
        self.chip = chip
        self.slices: list[Slice] = []
        self.core = self.neurons = self.axons = self.groups = self.bits = 0

    def place(self, name: str, asks: Asks) -> None:
        """Put every neuron of a population somewhere; what exceeds an empty core lies alone on one."""
        tile = self.tile(asks)
        for rows in _spans(asks.shape[1], tile[0]):
            for columns in _spans(asks.shape[2], tile[1]):
                bits = asks.bits(rows, columns)
                start = 0
                while start < asks.shape[0]:
                    stop = self.last(asks, bits, start, rows, columns)
                    if stop == start and self.neurons:
                        self.open()
                        continue
                    self.put(name, asks, bits, (start, max(stop, start + 1)), rows, columns)
                    start = max(stop, start + 1)

    def open(self) -> None:
        """Go to the next core."""
        self.core += 1
        self.neurons = self.axons = self.groups = self.bits = 0

    def put(self, name: str, asks: Asks, bits: Array, channels: Range, rows: Range, columns: Range) -> None:
        held, axons = int(bits[slice(*channels)].sum()), asks.axons(channels, rows, columns)
        cores = self.chip["cores_per_chip"]
        self.slices.append(
            Slice(name, channels, rows, columns, self.core // cores, self.core % cores, held, axons)
        )
        self.neurons += self.slices[-1].neurons
        self.axons, self.bits, self.groups = self.axons + axons, self.bits + held, self.groups + 1

    def last(self, asks: Asks, bits: Array, start: int, rows: Range, columns: Range) -> int:
        """The largest `stop` for which output maps start … stop-1 of a tile fit what is left of the core."""
        if self.groups >= self.chip["groups_per_core"]:
            return start
        size = (rows[1] - rows[0]) * (columns[1] - columns[0])
        room = self.chip["synapse_bits_per_core"] - self.bits
        most = int(np.searchsorted(np.cumsum(bits[start:]), room, "right"))
        most = min(most, (self.chip["neurons_per_core"] - self.neurons) // size)
        axons = self.chip["in_axons_per_core"] - self.axons
        low, high = start, start + most
        while low < high:  # axons grow with the maps
            middle = (low + high + 1) // 2
            low, high = (
                (middle, high) if asks.axons((start, middle), rows, columns) <= axons else (low, middle - 1)
            )
        return low

    def holds_a_map(self, asks: Asks, rows: Range, columns: Range) -> bool:
        """Does every output map of a tile fit an empty core?"""
        chip, size = self.chip, (rows[1] - rows[0]) * (columns[1] - columns[0])
        return bool(
            size <= chip["neurons_per_core"]
            and asks.bits(rows, columns).max(initial=0) <= chip["synapse_bits_per_core"]
            and asks.most_axons(rows, columns) <= chip["in_axons_per_core"]
        )

    def tile(self, asks: Asks) -> tuple[int, int]:
        """Rows and columns of a tile: the whole map where each fits a core, else what needs fewest cores."""
        channels, height, width = asks.shape
        best, whole = (height, width), Packer(self.chip)
        if self.holds_a_map(asks, (0, height), (0, width)):
            return best
        fewest = float("inf")
        for rows in _sides(height):
            for columns in _sides(width):
                top, left = (height - rows) // 2, (width - columns) // 2
                inner = (top, top + rows), (left, left + columns)  # nothing of it is padding
                maps = whole.last(asks, asks.bits(*inner), 0, *inner)
                cores = (
                    ceil(height / rows) * ceil(width / columns) * ceil(channels / maps) if maps else fewest
                )
                if cores < fewest:
                    fewest, best = cores, (rows, columns)
        return best


def fits_alone(asks: Asks, chip: Chip) -> bool:
    """Does every single neuron fit an empty core?  (Of a map, the one that hears most: in its middle.)"""
    return not excess(asks, chip)


def excess(asks: Asks, chip: Chip) -> dict[str, int]:
    """What one neuron asks beyond an empty core: `axons`, `bits`; nothing where it fits."""
    _, height, width = asks.shape
    rows, columns = (height // 2, height // 2 + 1), (width // 2, width // 2 + 1)
    bits = int(asks.bits(rows, columns).max(initial=0))
    axons = asks.most_axons(rows, columns)
    found = {"axons": (axons, chip["in_axons_per_core"]), "bits": (bits, chip["synapse_bits_per_core"])}
    return {what: asked for what, (asked, limit) in found.items() if asked > limit}


def by_columns(asks: Asks, chip: Chip) -> tuple[list[Asks], Asks] | None:
    """A dense layer too wide for a core as partial sums over its columns, and the neurons that hear these.

    None where it has another form, or where the chip cannot relay sums.
    """
    nodes = [incoming.node for incoming in asks.incoming]
    if len(nodes) != 1 or not isinstance(nodes[0], Dense) or not chip["graded_spikes"]:
        return None
    first = nodes[0]
    columns = first.weight.shape[1]
    for parts in range(2, columns + 1):
        cuts = _spans(columns, ceil(columns / parts))
        made = [
            Asks(asks.shape, [Dense((1, 1, stop - start), first.weight[:, start:stop])], chip)
            for start, stop in cuts
        ]
        if all(fits_alone(part, chip) for part in made):
            heard: list[Synapses] = [Identity(asks.shape) for _ in made]
            return made, Asks(asks.shape, heard, chip)
    return None


def _spans(size: int, step: int) -> list[Range]:
    return [(start, min(start + step, size)) for start in range(0, size, step)]


def _sides(size: int) -> Iterator[int]:
    """Sides of tiles that cut `size` into 1, 2, 3, … parts, each once."""
    yield from dict.fromkeys(ceil(size / parts) for parts in range(1, size + 1))
