"""Tables of layers, blocks, steps, conventions and reproductions: pure functions from records to rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_energy.files import write_text
from snn_energy.reports.render import FORMATS, Column, Table, render

if TYPE_CHECKING:
    from snn_energy.energy import Energy
    from snn_energy.energy.reproduce import Reproduction
    from snn_energy.profiling.profile import OpRow, Profile

__all__ = [
    "FORMATS",
    "Column",
    "Table",
    "block_table",
    "convention_table",
    "layer_table",
    "render",
    "reproduction_table",
    "step_table",
    "write_tables",
]


def write_tables(profile: Profile, energies: Sequence[Energy], folder: Path) -> list[Path]:
    """Layers, blocks, steps and conventions in `folder`, each for LaTeX (booktabs) and as Markdown."""
    from snn_energy.energy.analysis import spread

    beside = [*energies, *(e for e in spread(profile, costs=energies[0].costs) if e not in energies)]
    made = {
        "layers": layer_table(profile, energies),
        "blocks": block_table(energies),
        "steps": step_table(profile, energies),
        "conventions": convention_table(beside),
    }
    written = []
    for name, table in made.items():
        for ending, format in (("tex", "latex"), ("md", "markdown")):
            written.append(Path(folder) / f"{name}.{ending}")
            write_text(written[-1], render(table, format))
    return written


def layer_table(profile: Profile, energies: Sequence[Energy]) -> Table:
    """One row per operation: kind, rates, the AC and MAC of the first convention, pJ under each."""
    counted = {row.key: row for row in profile.rows}
    rows = []
    for charges in zip(*(energy.rows for energy in energies), strict=True):
        first = charges[0]
        row = counted[first.name, first.op, first.site]
        if not any(charge.pj or charge.ac or charge.mac for charge in charges) and not row.neuron_cmp:
            continue
        rows.append(
            {
                "name": first.name or "(model)",
                "op": first.op,
                "site": first.site,
                "block": first.block,
                "input_kind": row.input_kind,
                "input_rate": row.input_rate if row.input_read else None,
                "output_rate": row.output_rate if row.output_elements and row.neuron_cmp else None,
                "dense_macs": row.dense_macs / profile.samples,
                "ac": first.ac,
                "mac": first.mac,
                **_pj_by_convention(energies, [charge.pj for charge in charges]),
                "share": first.pj / energies[0].total_pj if energies[0].total_pj else 0.0,
            }
        )
    columns = (
        Column("name", "layer"),
        Column("op", "operation"),
        Column("input_kind", "input"),
        Column("input_rate", "rate in", digits=4),
        Column("output_rate", "rate out", digits=4),
        Column("dense_macs", "dense (M)", 1e-6),
        Column("ac", "AC (M)", 1e-6),
        Column("mac", "MAC (M)", 1e-6),
        *_energy_columns(energies, "µJ", 1e-6),
        Column("share", "share (%)", 100, 1),
    )
    dense = sum(row.dense_macs for row in profile.rows) / profile.samples
    return Table(columns, (*rows, {**_total(energies), "dense_macs": dense}), _notes(energies))


def block_table(energies: Sequence[Energy]) -> Table:
    """One row per block of layers."""
    sums: dict[str, dict[str, Any]] = {}
    for i, energy in enumerate(energies):
        for charge in energy.rows:
            line = sums.setdefault(charge.block, {"ac": 0.0, "mac": 0.0, "pj": [0.0] * len(energies)})
            line["pj"][i] += charge.pj
            if i == 0:
                line["ac"] += charge.ac
                line["mac"] += charge.mac
    total = energies[0].total_pj
    rows = [
        {
            "name": block or "(model)",
            "ac": line["ac"],
            "mac": line["mac"],
            **_pj_by_convention(energies, line["pj"]),
            "share": line["pj"][0] / total if total else 0.0,
        }
        for block, line in sums.items()
        if any(line["pj"])
    ]
    columns = (
        Column("name", "block"),
        Column("ac", "AC (M)", 1e-6),
        Column("mac", "MAC (M)", 1e-6),
        *_energy_columns(energies, "µJ", 1e-6),
        Column("share", "share (%)", 100, 1),
    )
    return Table(columns, (*rows, _total(energies)), _notes(energies))


def step_table(profile: Profile, energies: Sequence[Energy]) -> Table:
    """One row per time step: firing rate, measured AC and MAC, pJ.

    A row's pJ is divided over steps as its measured operations are; operations that joined several steps, and
    a static input that a convention charges at every step, equally.  What cannot be divided stands apart.
    """
    steps = profile.time_steps
    pj = [[0.0] * len(energies) for _ in range(steps + 1)]
    for i, energy in enumerate(energies):
        for row, charge in zip(profile.rows, energy.rows, strict=True):
            once = charge.ac + charge.mac <= (row.ac + row.mac) / profile.samples
            share = _by_step(row, steps) if once or row.static_repeats == 1 else [1 / steps] * steps
            for step, part in enumerate(share or [0.0] * steps + [1.0]):
                pj[step][i] += part * charge.pj
    rows: list[dict[str, Any]] = []
    for step in range(steps):
        counts = {name: _step_count(profile, name, step) for name in ("ac", "mac")}
        rows.append(
            {
                "name": step + 1,
                "firing_rate": _step_rate(profile, step),
                **{name: count / profile.samples for name, count in counts.items()},
                **_pj_by_convention(energies, pj[step]),
            }
        )
    if any(pj[steps]):
        rows.append({"name": "not divided", **_pj_by_convention(energies, pj[steps])})
    columns = (
        Column("name", "step"),
        Column("firing_rate", "firing rate", digits=4),
        Column("ac", "AC (M)", 1e-6),
        Column("mac", "MAC (M)", 1e-6),
        *_energy_columns(energies, "µJ", 1e-6),
    )
    return Table(columns, (*rows, _total(energies)), _notes(energies))


def convention_table(energies: Sequence[Energy]) -> Table:
    """The same measurement under each convention: AC, MAC, mJ, the ratio to the first, and what differs.

    No ratio where either has operations without a price.
    """
    first = energies[0].total_pj
    rows = tuple(
        {
            "convention": energy.convention.name,
            "costs": energy.costs.name,
            "ac": energy.ac,
            "mac": energy.mac,
            "mj": energy.mj,
            "standard_error_mj": energy.standard_error_mj,
            "ratio": energy.total_pj / first if first and _comparable(energy, energies[0]) else None,
            "differs": energy.convention.differs,
        }
        for energy in energies
    )
    columns = (
        Column("convention", "convention"),
        Column("ac", "AC (M)", 1e-6),
        Column("mac", "MAC (M)", 1e-6),
        Column("mj", "mJ"),
        Column("standard_error_mj", "± at most"),
        Column("ratio", f"/ {energies[0].convention.name}", digits=3),
        Column("differs", "what makes it differ"),
    )
    return Table(columns, rows, tuple(n for n in _notes(energies) if not n.startswith("Convention ")))


def _comparable(one: Energy, other: Energy) -> bool:
    """Are both priced alike?  Functions that no table prices are the same in both: one measurement."""
    return not any(name != "special" for energy in (one, other) for name in energy.unpriced)


def reproduction_table(rows: Sequence[Reproduction]) -> Table:
    """Published energies beside ours; a spread stands as its range, with every reading in `spread_mj`."""
    notes = list(dict.fromkeys(row.reason for row in rows if row.reason))
    records = tuple(
        {
            "table": row.table,
            "model": row.model,
            "published_mj": row.published_mj,
            "computed_mj": row.computed_mj,
            "difference_mj": row.difference,
            "published": "" if row.published_mj is None else f"{row.published_mj:.10g}",
            "computed": _range(row),
            "convention": row.convention,
            "status": row.status,
            "note": notes.index(row.reason) + 1 if row.reason else None,
            "reason": row.reason,
            "spread_mj": row.spread_mj,
            "terms": row.terms,
            "checks": {k: {"published": p, "computed": c} for k, (p, c) in row.checks.items()},
            "differs": row.differs,
            "source": row.source,
        }
        for row in rows
    )
    columns = (
        Column("table", "table"),
        Column("model", "model"),
        Column("published", "theirs (mJ)"),
        Column("computed", "ours (mJ)"),
        Column("difference_mj", "difference", digits=4),
        Column("convention", "convention"),
        Column("status", "status"),
        Column("note", "note"),
    )
    readings = (
        f"{row.model}: " + "; ".join(f"{mj:.4g} ({words})" for words, mj in row.spread_mj.items())
        for row in rows
        if row.spread_mj
    )
    numbered = (f"{i}: {text}" for i, text in enumerate(notes, 1))
    return Table(columns, records, (*numbered, *readings, *_implied(rows)))


def _implied(rows: Sequence[Reproduction]) -> list[str]:
    """What the printed mJ of rows that cannot be computed would hold, one line a row."""
    lines = []
    for row in rows:
        macs, sops = (row.terms.get(f"implied_{kind}_g") for kind in ("macs", "sops"))
        if macs is not None:
            lines.append(f"{row.model}: {macs * 1e3:,.4g} M MACs would be left beyond the printed SOPs")
        if sops is not None:
            rate = row.terms["implied_firing_rate"]
            lines.append(
                f"{row.model}: would be {sops:.4g} G SOPs, a mean firing rate of {rate:.2f} as described"
            )
    return lines


def _range(row: Reproduction) -> str:
    if row.spread_mj:
        return f"{min(row.spread_mj.values()):.4g} – {max(row.spread_mj.values()):.4g}"
    return "" if row.computed_mj is None else f"{row.computed_mj:.8g}"


def _labels(energies: Sequence[Energy]) -> list[str]:
    """A name for each energy: the convention's, and the cost table's where several are in use."""
    several = len({e.costs.name for e in energies}) > 1
    names = [f"{e.convention.name} @ {e.costs.name}" if several else e.convention.name for e in energies]
    return [f"{n} ({names[:i].count(n) + 1})" if n in names[:i] else n for i, n in enumerate(names)]


def _pj_by_convention(energies: Sequence[Energy], values: Sequence[float]) -> dict[str, float]:
    return {f"pj_{label}": value for label, value in zip(_labels(energies), values, strict=True)}


def _energy_columns(energies: Sequence[Energy], unit: str, scale: float) -> list[Column]:
    labels = _labels(energies)
    return [Column(f"pj_{n}", unit if len(labels) == 1 else f"{unit}, {n}", scale) for n in labels]


def _total(energies: Sequence[Energy]) -> dict[str, Any]:
    first = energies[0]
    totals = _pj_by_convention(energies, [e.total_pj for e in energies])
    return {"name": "total", "ac": first.ac, "mac": first.mac, **totals, "share": 1.0}


def _notes(energies: Sequence[Energy]) -> tuple[str, ...]:
    """What is printed below every table of energies: whose prices, and what is not in the total."""
    first = energies[0]
    label = f" ({first.costs.label})" if first.costs.label else ""
    notes = [f"Prices: {first.costs.name}{label}: {'; '.join(first.costs.citations)}"]
    notes += [f"Convention {e.convention.name}: {e.convention.differs}" for e in energies]
    unpriced: dict[str, list[str]] = {}
    for energy in energies:
        for name, count in energy.unpriced.items():
            kind = "special functions (softmax, sigmoid …)" if name == "special" else name.upper()
            what = f"{count:,.0f} {kind}, for which {energy.costs.name} has no price"
            unpriced.setdefault(what, []).append(energy.convention.name)
    notes += [f"Not in {', '.join(names)}: {what}" for what, names in unpriced.items()]
    if first.unmoved:
        notes.append(f"Data movement not modelled for: {', '.join(first.unmoved)}")
    if first.uncounted:
        notes.append(f"UNCOUNTED operations in: {', '.join(first.uncounted)}")
    return tuple(notes)


def _by_step(row: OpRow, steps: int) -> list[float] | None:
    """The share of each step in the row's measured operations, or None where it cannot be told."""
    counts = row.ac_by_step if row.ac else row.mac_by_step
    if not row.ac and not row.mac and row.neuron_cmp:
        return [1 / steps] * steps
    total = sum(counts)
    if not total or steps % len(counts):
        return None
    joined = steps // len(counts)
    return [count / total / joined for count in counts for _ in range(joined)]


def _step_count(profile: Profile, name: str, step: int) -> float:
    total = 0.0
    for row in profile.rows:
        counts = getattr(row, f"{name}_by_step")
        if counts and profile.time_steps % len(counts) == 0:
            joined = profile.time_steps // len(counts)
            total += counts[step // joined] / joined
    return total


def _step_rate(profile: Profile, step: int) -> float | None:
    neurons = [
        r for r in profile.rows if r.neuron_cmp and len(r.output_nonzero_by_step) == profile.time_steps
    ]
    elements = sum(row.output_elements for row in neurons) / profile.time_steps
    return sum(row.output_nonzero_by_step[step] for row in neurons) / elements if elements else None
