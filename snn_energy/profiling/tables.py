"""A Profile as a table."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

from snn_energy.text import csv_cell

if TYPE_CHECKING:
    import pandas as pd

    from snn_energy.profiling.profile import OpRow, Profile

IDENTITY = ("name", "op", "site", "block", "role", "input_kind", "right_kind", "input_rate", "output_rate")
RATES = ("input_rate_by_step", "output_rate_by_step")
PER_SAMPLE = (
    "calls", "dense_macs", "valid_macs", "ac", "mac", "ac_executed", "ac_events", "mac_executed",
    "mac_nonzero", "ac_unpruned", "ac_events_unpruned", "mac_unpruned", "mac_nonzero_unpruned",
    "ac_coincident", "ac_one_sided", "input_elements", "input_nonzero", "input_units", "right_elements",
    "right_nonzero", "right_units", "output_elements", "output_nonzero",
    "bias_adds", "scale_muls", "norm_macs", "neuron_mul", "neuron_add", "neuron_cmp", "neuron_reset",
    "pool_cmp", "special_evals",
)  # fmt: skip
CONSTANT = ("static_repeats", "fan_out", "weight_elements", "bias_elements", "state_elements", "note")
TOTALS = ("ac_std", "mac_std", "ac_total", "mac_total", "samples")
COLUMNS = (*IDENTITY, *RATES, *PER_SAMPLE, *TOTALS, *CONSTANT)


def ops_table(profile: Profile) -> pd.DataFrame:
    """One row per operation: identity, rates, counts per sample, exact totals, standard deviations."""
    import pandas as pd

    return pd.DataFrame([_record(row, profile.samples) for row in profile.rows], columns=list(COLUMNS))


def ops_csv(profile: Profile) -> str:
    """The same table as CSV, as pandas would write it, without waiting for pandas."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in profile.rows:
        record = _record(row, profile.samples)
        writer.writerow([_cell(record[name]) for name in COLUMNS])
    return out.getvalue()


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else csv_cell(value)


def _record(row: OpRow, samples: int) -> dict[str, Any]:
    return {
        **{name: getattr(row, name) for name in (*IDENTITY, *CONSTANT)},
        "name": row.name or "(model)",
        "input_rate": row.input_rate if row.input_read else math.nan,
        "output_rate": row.output_rate if row.output_read else math.nan,
        "input_rate_by_step": by_step(row.input_nonzero_by_step, row.input_elements),
        "output_rate_by_step": by_step(row.output_nonzero_by_step, row.output_elements),
        **{name: getattr(row, name) / samples for name in PER_SAMPLE},
        "ac_std": spread(row.ac, row.ac_square_sum, samples),
        "mac_std": spread(row.mac, row.mac_square_sum, samples),
        "ac_total": row.ac,
        "mac_total": row.mac,
        "samples": samples,
    }


def by_step(nonzero: tuple[int, ...], elements: int) -> tuple[float, ...]:
    """Nonzero share at each time step; empty where the row's steps were not told apart."""
    return tuple(count * len(nonzero) / elements for count in nonzero) if elements else ()


def spread(total: int, square_sum: int | None, samples: int) -> float:
    """Standard deviation over samples (n - 1); NaN for one sample or where samples were not told apart."""
    if square_sum is None or samples < 2:
        return math.nan
    return math.sqrt(max(0, square_sum * samples - total * total) / (samples * (samples - 1)))
