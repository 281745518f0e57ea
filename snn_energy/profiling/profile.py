"""The `Profile`: what was measured, one row per module path and operation.  No picojoules in it.

All counts are exact integers, summed over the profiled samples and their T time steps; rates and means
are derived (`docs/counting.md` defines every count).  `energy` turns a Profile into joules under a
convention; `reports` prints it.  Nothing here imports torch: a saved profile can be re-costed anywhere.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_energy.errors import DataError
from snn_energy.files import write_text

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
KINDS = ("binary", "scaled", "ternary", "integer", "real")
SYNAPTIC = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "matmul")


@dataclass(frozen=True)
class OpRow:
    """One operation of one module, measured.

    Identity: `name` (module path), `op`, `site` (0, 1, … for several calls of one op in one module's forward).
    Totals are over all samples and steps; `*_by_step` has T entries; `*_square_sum` is Σ over samples of the
    per-sample count squared (None where samples could not be told apart).
    """

    name: str
    op: str  # conv2d, linear, matmul, add, mul, sum, mean, norm, lif …, max_pool, avg_pool, uncounted
    site: int = 0
    calls: int = 0
    role: str = "hidden"  # encoder (fed by the network's input), attention, head (last synaptic layer), hidden
    block: str = ""  # the path's prefix that groups layers in reports: patch_embed, block.0, head
    # operands
    input_kind: str = "real"
    right_kind: str | None = None  # the second operand of a matmul or elementwise operation
    input_shape: tuple[int, ...] = ()  # of one sample and step, channels first: (C, H, W)
    output_shape: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()  # neurons (or "input") whose output arrives here, through views and pools
    feeds: tuple[str, ...] = ()  # neurons that this op's output drives, through norms, adds, views and pools
    input_elements: int = 0
    input_nonzero: int = 0
    output_elements: int = 0
    output_nonzero: int = 0
    input_nonzero_by_step: tuple[int, ...] = ()
    output_nonzero_by_step: tuple[int, ...] = ()
    two_valued_input: bool = False  # at most two unique values, within [0, 1]: the test of syops
    # synaptic operations
    dense_macs: int = 0  # shape alone, padding included
    valid_macs: int = 0  # synapses that exist, padding excluded
    ac: int = 0  # accumulates that events cause (0 for a real operand)
    mac: int = 0  # multiply-accumulates of a real operand; a static input repeated T times charged once
    mac_executed: int = 0  # the same, every repetition charged
    mac_nonzero: int = 0  # MACs whose input is nonzero, as executed
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
    norm_macs: int = 0  # 0 where folded
    norm_elements: int = 0
    norm_folded: bool = False
    neuron_mul: int = 0
    neuron_add: int = 0
    neuron_cmp: int = 0
    neuron_reset: int = 0
    pool_cmp: int = 0
    # memory
    weight_elements: int = 0
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)  # kernel, stride, groups, heads …: only shapes and attributes

    @property
    def input_rate(self) -> float:
        """Nonzero fraction of the input."""
        return self.input_nonzero / self.input_elements if self.input_elements else 0.0

    @property
    def output_rate(self) -> float:
        """Nonzero fraction of the output: a neuron's firing rate per step."""
        return self.output_nonzero / self.output_elements if self.output_elements else 0.0


@dataclass(frozen=True)
class Profile:
    """Everything measured on one model and one set of samples."""

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

    @property
    def accuracy(self) -> float | None:
        """Share of the profiled samples that were classified right, or None without labels."""
        return None if self.correct is None else self.correct / self.samples

    @property
    def ops(self) -> pd.DataFrame:
        """The table: one row per (name, op, site), counts per sample, exact totals beside them."""
        raise NotImplementedError

    @property
    def uncounted(self) -> tuple[OpRow, ...]:
        """Rows that no rule covers."""
        return tuple(r for r in self.rows if r.op == "uncounted")

    def energy(self, convention: str = "exact", costs: str = "45nm-fp32") -> Any:
        """Joules under a convention: see `snn_energy.energy.estimate`."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON, atomically."""
        write_text(path, json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, indent=1))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Profile:
        """Read what `save` wrote.  Raises `DataError` for anything else."""
        raise DataError(f"{Path(path)}: not a profile")
