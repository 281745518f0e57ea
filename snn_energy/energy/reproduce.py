"""Published energies, recomputed: what a paper alone knows from its own table, the rest from our arithmetic.

    computed mJ = MACs × price of a MAC + published SOPs × price of an AC

The MACs are those that the row's convention charges for our description of the architecture; where the source
prints MACs and SOPs and no architecture is described, its own.  Rows that their own paper does not determine
are a spread with the reason, never a verdict.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from snn_energy.energy.architectures import build
from snn_energy.energy.conventions import Convention, convention_from, load_convention
from snn_energy.energy.costs import CostTable, load_costs
from snn_energy.energy.estimate import PJ_PER_MJ, estimate
from snn_energy.energy.twin import dense_twin
from snn_energy.energy.yaml_records import check_choice, read_mapping, shipped
from snn_energy.errors import ConfigError
from snn_energy.profiling.profile import Profile
from snn_energy.records import record_from, short

GIGA = 1e9


@dataclass(frozen=True)
class Reproduction:
    """One published energy beside ours.

    `status`: `reproduced` (within what the printed digits allow), `differs`, `spread` (the paper does not
    determine it: `spread_mj` by reading, no computed figure), `not computable` or `erratum`.
    `terms`: what entered the sum, or what the printed figures imply (G operations beyond the printed ones,
    the mean firing rate of our description); `checks`: other printed figures of the row beside ours.
    `reason` is filled for every row that is not reproduced.
    """

    table: str
    model: str
    published_mj: float | None
    computed_mj: float | None
    convention: str
    status: str
    spread_mj: dict[str, float] = field(default_factory=dict)
    terms: dict[str, float] = field(default_factory=dict)
    checks: dict[str, tuple[float, float]] = field(default_factory=dict)
    reason: str = ""
    differs: str = ""
    source: str = ""

    @property
    def difference(self) -> float | None:
        """Ours minus theirs, in mJ."""
        if self.computed_mj is None or self.published_mj is None:
            return None
        return self.computed_mj - self.published_mj


def tables() -> tuple[str, ...]:
    """Names of the shipped tables of published energies."""
    return tuple(shipped("published.yaml"))


def reproduce(
    table: str | None = None,
    costs: str | os.PathLike[str] | CostTable = "45nm-fp32",
    published: str | os.PathLike[str] | None = None,
) -> tuple[Reproduction, ...]:
    """Every row of a table of published energies, or of all tables.

    `published`: a YAML file of the user's own in the form of `published.yaml`.  Raises `ConfigError` for an
    unknown table and for a file of another form.
    """
    data = shipped("published.yaml") if published is None else read_mapping(published, "table of energies")
    if table is not None:
        check_choice(table, data, "table")
    prices = load_costs(costs)
    chosen = {name: content for name, content in data.items() if table in (None, name)}
    return tuple(_row(name, row, prices) for name, content in chosen.items() for row in _rows(name, content))


@dataclass(frozen=True)
class _Reading:
    encoder: str
    words: str
    sops_g: float


@dataclass(frozen=True)
class _Published:
    """What a row of a table may say; `published.yaml` explains its keys."""

    source: str
    model: str
    convention: Any = "exact"
    architecture: dict[str, Any] | None = None
    mac_from: dict[str, Any] | None = None
    sops_g: float | None = None
    published_mj: float | None = None
    tolerance_mj: float | None = None
    round_g: int | None = None
    readings: tuple[_Reading, ...] = ()
    readings_of: dict[str, Any] | None = None
    dense_twin: bool = False
    parameters: int | None = None
    params_m: float | None = None
    macs_g: float | None = None
    dense_g: float | None = None
    not_charged: tuple[str, ...] = ()
    reason: str = ""
    known_error: str = ""


def _rows(table: str, content: Any) -> Iterator[dict[str, Any]]:
    """The rows of a table with its defaults filled in.  Raises `ConfigError` for another form."""
    rows = content.get("rows") if isinstance(content, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ConfigError(f"table {table!r}: 'rows' must be a list of mappings")
    defaults = {k: v for k, v in content.items() if k != "rows"}
    for i, row in enumerate(rows, 1):
        full = {**defaults, **row}
        where = f"table {table!r}, row {i}"
        record_from(_Published, {"source": "", "model": "", **full}, where, ConfigError)
        judged = bool({"macs_g", "sops_g"} <= set(full) or {"architecture", "sops_g"} <= set(full))
        judged = judged and not {"readings", "dense_twin", "known_error"} & set(full)
        for key in ("model", "source", *(("published_mj", "tolerance_mj") if judged else ())):
            if key not in full:
                raise ConfigError(f"{where}: {key!r} is missing")
        if "readings" in full and ("readings_of" not in full or "architecture" not in full):
            raise ConfigError(f"{where}: 'readings' needs 'readings_of' and 'architecture'")
        yield {key: value for key, value in full.items() if value is not None}


def _row(table: str, row: Mapping[str, Any], prices: CostTable) -> Reproduction:
    convention = _convention(row.get("convention", "exact"), table)
    base = Reproduction(
        table=table,
        model=row["model"],
        published_mj=row.get("published_mj"),
        computed_mj=None,
        convention=convention.name,
        status="erratum" if "known_error" in row else "not computable",
        reason="; ".join(str(row[k]) for k in ("known_error", "reason") if k in row),
        differs=convention.differs,
        source=row["source"],
    )
    return _explained(_filled(base, row, convention, prices))


def _filled(
    base: Reproduction, row: Mapping[str, Any], convention: Convention, prices: CostTable
) -> Reproduction:
    if "architecture" not in row:
        printed = {"macs_g", "sops_g"} <= set(row)
        return _as_printed(base, row, prices) if printed else _implied(base, row, None, 0.0, prices)
    profile = build(row["architecture"]).profile()
    if "readings" in row:
        return dataclasses.replace(base, status="spread", spread_mj=_readings(row, profile, prices))
    if row.get("dense_twin"):
        return dataclasses.replace(
            base, status="spread", spread_mj=_dense_spread(profile, convention, prices)
        )
    if "sops_g" not in row and _event_operations(profile):
        macs = estimate(profile, convention, prices).mac
        return _implied(base, row, profile, macs / GIGA, prices)
    return _computed(base, row, profile, convention, prices)


def _explained(result: Reproduction) -> Reproduction:
    """The same with a reason, if it is not reproduced and the table gives none."""
    if result.status == "reproduced" or result.reason:
        return result
    by_status = {
        "differs": "the printed operations do not give the printed energy; the source does not say why",
        "not computable": "the source does not print what its energy would be computed from",
    }
    reason = by_status.get(result.status, "the source does not determine the figure")
    return dataclasses.replace(result, reason=reason)


def _as_printed(base: Reproduction, row: Mapping[str, Any], prices: CostTable) -> Reproduction:
    """The MACs and SOPs that the source prints, priced."""
    terms = {"macs_g": float(row["macs_g"]), "sops_g": float(row["sops_g"])}
    computed = _mj(terms["macs_g"], terms["sops_g"], prices)
    return dataclasses.replace(base, computed_mj=computed, status=_status(base, row, computed), terms=terms)


def _implied(
    base: Reproduction, row: Mapping[str, Any], profile: Profile | None, macs_g: float, prices: CostTable
) -> Reproduction:
    """What the printed energy would hold: MACs beyond the printed SOPs, or a described network's SOPs."""
    mj = row.get("published_mj")
    terms: dict[str, float] = {}
    if mj is not None and profile is not None:
        sops_g = (mj - macs_g * (prices.mac or 0.0)) / prices.ac
        rate = sops_g * GIGA / _event_operations(profile)
        terms = {"macs_g": macs_g, "implied_sops_g": sops_g, "implied_firing_rate": rate}
    elif mj is not None and "sops_g" in row and prices.mac:
        terms = {"sops_g": row["sops_g"], "implied_macs_g": (mj - row["sops_g"] * prices.ac) / prices.mac}
    return dataclasses.replace(base, terms=terms, checks=_checks(row, profile))


def _checks(row: Mapping[str, Any], profile: Profile | None) -> dict[str, tuple[float, float]]:
    """Printed figures that a description must meet, beside the description's."""
    if profile is None:
        return {}
    ours = {
        "dense_g": sum(r.dense_macs for r in profile.rows) / GIGA,
        "parameters": float(profile.parameters or 0),
        "params_m": (profile.parameters or 0) / 1e6,
    }
    return {key: (row[key], value) for key, value in ours.items() if key in row}


def _status(base: Reproduction, row: Mapping[str, Any], computed: float) -> str:
    if base.status == "erratum":
        return base.status
    for key in ("published_mj", "tolerance_mj"):
        if key not in row:
            raise ConfigError(f"table {base.table!r}, {base.model!r}: {key!r} is missing")
    close = abs(computed - row["published_mj"]) <= row["tolerance_mj"] * (1 + 1e-9)
    return "reproduced" if close else "differs"


def _convention(spec: Any, where: str) -> Convention:
    if not isinstance(spec, Mapping | str):
        raise ConfigError(f"table {where!r}: convention = {short(spec)}: must be a name or a convention")
    if isinstance(spec, Mapping):
        return convention_from(spec, f"{where}: convention")
    return load_convention(spec)


def _computed(
    base: Reproduction, row: Mapping[str, Any], profile: Profile, convention: Convention, prices: CostTable
) -> Reproduction:
    own = estimate(profile, convention, prices).mac
    used = estimate(build(row["mac_from"]).profile(), convention, prices).mac if "mac_from" in row else own
    macs_g, sops_g = used / GIGA, row.get("sops_g", 0.0)
    terms = {"macs_g": macs_g, "sops_g": sops_g}
    operations = _event_operations(profile)
    if sops_g and operations:
        terms["mean_firing_rate"] = sops_g * GIGA / operations
    if "round_g" in row:
        terms["unrounded_mj"] = _mj(macs_g, sops_g, prices)
        macs_g = terms["macs_g_rounded"] = round(macs_g, row["round_g"])
    if used != own:
        terms["own_width_mj"] = _mj(own / GIGA, sops_g, prices)
    computed = _mj(macs_g, sops_g, prices)
    if row.get("not_charged"):
        left_out = [r for r in profile.rows if r.role in row["not_charged"]]
        terms["macs_not_charged_g"] = sum(r.dense_macs for r in left_out) / GIGA
        terms["with_them_mj"] = computed + _mj(terms["macs_not_charged_g"], 0.0, prices)
    checks = {"macs_g": (row["macs_g"], used / GIGA)} if "macs_g" in row else {}
    checks |= _checks(row, profile)
    status = _status(base, row, computed)
    return dataclasses.replace(base, computed_mj=computed, status=status, terms=terms, checks=checks)


def _mj(macs_g: float, sops_g: float, prices: CostTable) -> float:
    """G operations × pJ each = mJ."""
    return macs_g * (prices.mac or 0.0) + sops_g * prices.ac


def _readings(row: Mapping[str, Any], profile: Profile, prices: CostTable) -> dict[str, float]:
    """mJ by reading.  The SOPs are those of `readings_of`; another size takes the same mean firing rate."""
    share = _event_operations(profile) / _event_operations(build(row["readings_of"]).profile())
    spread = {}
    for reading in row["readings"]:
        convention = dataclasses.replace(load_convention(row["convention"]), encoder=reading["encoder"])
        macs = estimate(profile, convention, prices).mac
        spread[reading["words"]] = _mj(macs / GIGA, reading["sops_g"] * share, prices)
    return spread


def _event_operations(profile: Profile) -> int:
    """Dense operations of all layers fed by spikes, over all steps."""
    return sum(row.dense_macs for row in profile.rows if row.input_kind != "real")


def _dense_spread(profile: Profile, convention: Convention, prices: CostTable) -> dict[str, float]:
    """mJ of the dense twin, with and without its attention products."""
    twin = dense_twin(profile)
    parts = {r.name: r.pj / PJ_PER_MJ for r in estimate(twin, convention, prices).rows}
    products = {r.name for r in twin.rows if r.op == "matmul"}
    return {
        "all layers": sum(parts.values()),
        "without attention products": sum(mj for name, mj in parts.items() if name not in products),
    }
