"""What no measurement can give: a profile that was edited or damaged is refused, not reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snn_energy.errors import DataError
from snn_energy.profiling.kinds import KINDS
from snn_energy.profiling.resolve import CONVOLUTIONS
from snn_energy.records import short

if TYPE_CHECKING:
    from snn_energy.profiling.profile import OpRow, Profile

WITHIN = (
    ("input_nonzero", "input_elements"),
    ("right_nonzero", "right_elements"),
    ("output_nonzero", "output_elements"),
    ("valid_macs", "dense_macs"),
    ("ac_unpruned", "ac_executed"),
    ("ac_events_unpruned", "ac_events"),
    ("mac_unpruned", "mac_executed"),
    ("mac_nonzero_unpruned", "mac_nonzero"),
)
"""(part, whole): a part is never larger."""

MOST_STEPS = 100_000  # tables have a row for each
DETAILS: dict[str, type] = {"affine": bool, "accumulates": bool, "function": str, "heads": int}
"""What conventions read of a row's details."""


def check(profile: Profile, where: str) -> Profile:
    """The profile itself.  Raises `DataError`, beginning with `where`, for what cannot have been measured."""
    for name in ("samples", "time_steps"):
        if getattr(profile, name) < 1:
            raise DataError(f"{where}: {name} = {short(getattr(profile, name))}: must be at least 1")
    if profile.time_steps > MOST_STEPS:
        raise DataError(f"{where}: time_steps = {short(profile.time_steps)}: must be at most {MOST_STEPS:,}")
    if profile.correct is not None and profile.correct > profile.samples:
        raise DataError(
            f"{where}: correct = {short(profile.correct)}: must be at most samples = {profile.samples}"
        )
    seen: set[Any] = set()
    for row in profile.rows:
        at = f"{where}: row {short(row.name)}, {short(row.op)}, site {short(row.site)}"
        if row.key in seen:
            raise DataError(f"{at}: stands twice")
        seen.add(row.key)
        _check_row(row, at, profile)
    return profile


def _check_row(row: OpRow, at: str, profile: Profile) -> None:
    for name in ("input_kind", "output_kind", "right_kind"):
        if (kind := getattr(row, name)) and kind not in KINDS:
            raise DataError(f"{at}: {name} = {short(kind)}: must be one of {', '.join(KINDS)}")
    if row.static_repeats < 1:
        raise DataError(f"{at}: static_repeats = {row.static_repeats}: must be at least 1")
    for name, kind in DETAILS.items():
        value = row.details.get(name, kind())
        if type(value) is not kind:
            raise DataError(f"{at}: details: {name} = {short(value)}: must be a {kind.__name__}")
    kernel = row.details.get("kernel")
    if row.op in CONVOLUTIONS and not (
        kernel is None or (isinstance(kernel, tuple | list) and all(type(k) is int and k > 0 for k in kernel))
    ):
        raise DataError(f"{at}: details: kernel = {short(kernel)}: must be a list of positive whole numbers")
    for part, whole in WITHIN:
        if getattr(row, part) > getattr(row, whole):
            raise DataError(
                f"{at}: {part} = {short(getattr(row, part))}: must be at most {whole} = "
                f"{short(getattr(row, whole))}"
            )
    for name, total in (("input_nonzero", row.input_nonzero), ("output_nonzero", row.output_nonzero)):
        steps = getattr(row, f"{name}_by_step")
        if len(steps) > profile.time_steps or (steps and sum(steps) != total):
            raise DataError(
                f"{at}: {name}_by_step has {len(steps)} entries of sum {short(sum(steps))}: must be "
                f"{name} = {short(total)}, over at most {profile.time_steps} steps"
            )
