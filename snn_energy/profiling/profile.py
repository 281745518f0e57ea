"""The `Profile`: what was measured, one row per module path and operation.  No picojoules in it.

All counts are exact integers, summed over the profiled samples and their T time steps; rates and means
are derived (`docs/counting.md` defines every count).  `energy` turns a Profile into joules under a
convention; `reports` prints it.  Nothing here imports torch: a saved profile can be re-costed anywhere.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from snn_energy.errors import DataError
from snn_energy.files import write_text
from snn_energy.profiling.kinds import KINDS
from snn_energy.profiling.resolve import SYNAPTIC, Count
from snn_energy.reading import read_json
from snn_energy.records import record_from, short
from snn_energy.text import plain

if TYPE_CHECKING:
    import pandas as pd

    from snn_energy.reports.render import Table

SCHEMA = 2
SIGNED = {"input_values": -math.inf, "right_values": -math.inf}  # the other numbers are counts
__all__ = ["KINDS", "SCHEMA", "SYNAPTIC", "Count", "OpRow", "Profile"]


@dataclass(frozen=True)
class OpRow:
    """One operation of one module, measured.

    Identity: `name` (module path), `op`, `site` (0, 1, … for several places in one forward).
    Totals are over all samples and steps, `calls` too (so calls / samples is the calls in one forward);
    `*_by_step` and `*_square_sum` are those of `Count`.
    """

    name: str
    op: str  # conv2d, linear, matmul, add, mul, scale, sum, mean, norm, lif …, max_pool, avg_pool, uncounted
    site: int = 0
    decided_as: str = ""  # of `resolve.DECISIONS`; "" where `resolve.ROWS` has it
    calls: int = 0
    role: str = (
        "hidden"  # encoder (fed by the network's input), attention, head (last synaptic layer), hidden
    )
    block: str = ""  # the path's prefix that groups layers in reports: patch_embed, block.0, head
    # operands
    input_kind: str = (
        ""  # one of KINDS, "" where the operation does not depend on it and values were not read
    )
    input_values: tuple[float, ...] | None = None  # the nonzero values seen, None where they have no unit
    right_kind: str | None = None  # the second operand of a matmul or elementwise operation
    right_values: tuple[float, ...] | None = None
    input_shape: tuple[int, ...] = ()  # of one sample and step, channels first: (C, H, W)
    output_shape: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()  # neurons (or "input") whose output arrives here, through views and pools
    feeds: tuple[str, ...] = ()  # neurons that this op's output drives, through norms, adds, views and pools
    input_elements: int = 0
    input_nonzero: int = 0
    input_units: int = 0  # unit events: an event of value k counts |k| times; weighted layers and products
    right_elements: int = 0
    right_nonzero: int = 0
    right_units: int = 0
    output_elements: int = 0
    output_nonzero: int = 0  # neurons only; 0 where not looked at
    output_kind: str = ""  # neurons only
    input_nonzero_by_step: tuple[int, ...] = ()
    output_nonzero_by_step: tuple[int, ...] = ()
    two_valued_input: bool = False  # at most two unique values, within [0, 1]: the test of syops
    # synaptic operations
    dense_macs: int = 0  # shape alone, padding included
    valid_macs: int = 0  # synapses that exist, padding excluded
    ac: int = 0  # accumulates that unit events cause (0 for a real operand)
    ac_events: int = 0  # as executed, an event counted once whatever its value; `ac_executed` where all are 1
    ac_executed: int = 0  # the same, every repetition of a static input charged
    mac: int = 0  # multiply-accumulates of a real operand; a static input repeated T times charged once
    mac_executed: int = 0  # the same, every repetition charged
    mac_nonzero: int = 0  # MACs whose input is nonzero, as executed
    # the same over nonzero weights only, as executed; equal to their namesakes where no weight is zero
    ac_unpruned: int = 0  # of `ac_executed`
    ac_events_unpruned: int = 0  # of `ac_events`
    mac_unpruned: int = 0  # of `mac_executed`
    mac_nonzero_unpruned: int = 0  # of `mac_nonzero`: what NeuroBench calls effective
    ac_coincident: int = 0
    ac_one_sided: int = 0
    ac_by_step: tuple[int, ...] = ()
    mac_by_step: tuple[int, ...] = ()
    ac_square_sum: int | None = None
    mac_square_sum: int | None = None
    static_repeats: int = 1  # T where the same input was presented at each step, else 1
    fan_out: float = 0.0  # dense_macs per input element
    # what only some conventions charge
    bias_adds: int = 0
    scale_muls: int = 0
    norm_macs: int = 0  # 0 where folded; the `exact` convention charges it beside `mac`
    norm_elements: int = 0
    norm_folded: bool = False
    neuron_mul: int = 0
    neuron_add: int = 0
    neuron_cmp: int = 0
    neuron_reset: int = 0
    pool_cmp: int = 0
    special_evals: int = (
        0  # exp, softmax, sigmoid, GELU …: elements evaluated, charged by no shipped convention
    )
    # memory, in elements (constants of the layer, not sums over samples)
    weight_elements: int = 0
    weight_side: str = ""  # of a product with a weight: left or right
    bias_elements: int = 0
    state_elements: int = 0  # membrane potentials and other neuron state of one sample
    note: str = ""
    details: dict[str, Any] = field(
        default_factory=dict
    )  # kernel, stride, groups, heads …: shapes and attributes
    counts: dict[str, Count] = field(default_factory=dict)  # candidates, whatever the kind: see `resolve`

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies the row."""
        return self.name, self.op, self.site

    @property
    def input_read(self) -> bool:
        """Were the input's values looked at?  Only then is `input_rate` a measurement."""
        return bool(self.input_nonzero) or self.input_kind not in ("", "real")

    @property
    def output_read(self) -> bool:
        """Were the output's values looked at?  Those of neurons and pools are."""
        return bool(self.output_nonzero or self.output_kind or self.neuron_cmp)

    @property
    def input_rate(self) -> float:
        """Nonzero fraction of the input."""
        return self.input_nonzero / self.input_elements if self.input_elements else 0.0

    @property
    def output_rate(self) -> float:
        """Nonzero fraction of the output: a neuron's firing rate per step."""
        return self.output_nonzero / self.output_elements if self.output_elements else 0.0


@dataclass(frozen=True, repr=False)
class Profile:
    """Everything measured on one model and one set of samples; `print` sums it up, `table` lists layers."""

    rows: tuple[OpRow, ...]
    samples: int
    time_steps: int
    model: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    correct: int | None = None  # right predictions, where labels were given
    parameters: int = 0
    uncalled: tuple[str, ...] = ()  # leaf modules that never ran
    aliases: dict[str, str] = field(default_factory=dict)  # other names of shared modules
    environment: dict[str, str] = field(default_factory=dict)  # versions, date, checkpoint hash
    class_names: tuple[str, ...] = ()
    contract: str = ""  # how the network was run, and how that is known: docs/your-network.md
    notes: tuple[str, ...] = ()  # remarks on the measurement as a whole, one sentence each
    crosscheck: tuple[dict[str, Any], ...] = ()  # dense MACs beside another tool's: see `crosscheck.fvcore`
    history: tuple[dict[str, Any], ...] = ()  # of the training, a row of numbers per epoch: the checkpoint's

    @property
    def accuracy(self) -> float | None:
        """Share of the profiled samples that were classified right, or None without labels."""
        return None if self.correct is None else self.correct / self.samples

    @property
    def mean_rate(self) -> float | None:
        """Spikes per neuron and step over all spiking layers, or None without neurons."""
        elements = sum(row.output_elements for row in self.neurons)
        return sum(row.output_nonzero for row in self.neurons) / elements if elements else None

    @property
    def ops(self) -> pd.DataFrame:
        """The table: one row per (name, op, site), counts per sample, exact totals beside them."""
        from snn_energy.profiling.tables import ops_table

        return ops_table(self)

    def __repr__(self) -> str:
        return (
            f"<Profile of {plain(self.model) or 'a network'}: {len(self.rows)} operations, "
            f"{self.samples} samples of {plain(self.data) or 'data without a name'}, T = {self.time_steps}>"
        )

    def __str__(self) -> str:
        from snn_energy.reports.summary import summary

        return summary(self)

    def _repr_html_(self) -> str:
        from snn_energy.reports.summary import summary_html

        return summary_html(self)

    def table(
        self,
        convention: str | Sequence[str] = "exact",
        costs: str = "45nm-fp32",
        *,
        top: int | None = 15,
        depth: int | None = None,
        sort: str = "energy",
    ) -> Table:
        """The layers with rates, operations and energy: a table to print, or to show in a notebook.

        The `top` rows in the order of `sort` (energy, ac, mac, rate, name, network) and the sum of the rest
        (None: all); `depth` sums over all below that many parts of a module's path.  Several conventions
        stand side by side.  Raises `ConfigError` for what is not known.
        """
        from snn_energy.reports.terminal import layers

        names = [convention] if isinstance(convention, str) else list(convention)
        energies = [self.energy(name, costs) for name in names]
        return layers(self, energies, top=top, depth=depth, sort=sort)

    @property
    def uncounted(self) -> tuple[OpRow, ...]:
        """Rows that no rule covers."""
        return tuple(r for r in self.rows if r.op == "uncounted")

    @property
    def neurons(self) -> tuple[OpRow, ...]:
        """Rows of spiking layers: those that compare with a threshold."""
        return tuple(r for r in self.rows if r.neuron_cmp)

    @property
    def dead(self) -> tuple[str, ...]:
        """Spiking layers that never fired."""
        return tuple(r.name for r in self.neurons if r.output_nonzero == 0)

    @property
    def saturated(self) -> tuple[str, ...]:
        """Spiking layers in which every neuron fired at every step."""
        return tuple(r.name for r in self.neurons if r.output_nonzero == r.output_elements)

    def energy(self, convention: str = "exact", costs: str = "45nm-fp32") -> Any:
        """Joules under a convention: see `snn_energy.energy.estimate`."""
        from snn_energy import energy

        return energy.estimate(self, convention=convention, costs=costs)  # type: ignore[attr-defined, unused-ignore]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON, atomically: `docs/schemas/profile.schema.json`."""
        write_text(path, json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, indent=1))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Profile:
        """Read what `save` wrote.

        Raises `DataError` for anything else: `reading.read_json` has the limits, `records.record_from` the
        types; counts that no measurement can give are refused, too (`sane.check`).
        """
        from snn_energy.profiling.sane import check

        record = read_json(path, "profile", finite=False)  # a network's own settings may be infinite
        if "rows" not in record:
            raise DataError(f"{path}: not a profile: expected a JSON object with `schema` and `rows`")
        schema = record.pop("schema", None)
        if schema != SCHEMA:
            raise DataError(f"{path}: profile of schema {short(schema)}; this version reads schema {SCHEMA}")
        found = record_from(cls, record, f"{path}: not a profile of schema {SCHEMA}", bounds=SIGNED)
        found = dataclasses.replace(found, rows=tuple(_with_tuples(row) for row in found.rows))
        return check(found, str(path))

    @classmethod
    def merge(cls, profiles: Iterable[Profile]) -> Profile:
        """The profile of all samples together: the same integers as one process would have counted.

        Raises `DataError` when the parts are not of one model and number of time steps.
        """
        from snn_energy.profiling.merge import merge

        return merge(tuple(profiles))


def _tuples(record: dict[str, Any]) -> dict[str, Any]:
    """JSON lists back to tuples, one level deep."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}


def _with_tuples(row: OpRow) -> OpRow:
    return dataclasses.replace(row, details=_tuples(row.details))
