"""The HTML report: everything a reviewer asks of an energy figure, on one page without outside files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_energy.exporters.mcu.parts import BoardRun, Fit
from snn_energy.exporters.verification import read_verification
from snn_energy.files import write_text
from snn_energy.records import record_from
from snn_energy.reports import figures

if TYPE_CHECKING:
    from snn_energy.energy import Energy
    from snn_energy.profiling.profile import Profile


def report(
    profile: Profile,
    out: str | os.PathLike[str],
    *,
    energies: Sequence[Energy] = (),
    verifications: Sequence[Path] = (),
) -> Path:
    """Write the report of `profile` to `out`, one HTML file.

    The first of `energies` (default: `exact`, 45 nm fp32) is the headline; all shipped conventions stand
    beside it at the same prices.  `verifications` are exported folders whose verification.json is shown.
    Raises `DataError` for a folder without one.
    """
    energies = energies or (profile.energy(),)
    page = _environment().get_template("report.html").render(**_content(profile, energies, verifications))
    write_text(out, page)
    return Path(out)


def _environment() -> Any:
    import jinja2

    folder = resources.files("snn_energy.reports") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(count=count, percent=percent, pj=picojoules)
    return environment


def _content(profile: Profile, energies: Sequence[Energy], verifications: Sequence[Path]) -> dict[str, Any]:
    """What the template shows, under the names that it uses."""
    from snn_energy.energy import analysis
    from snn_energy.energy.quantised import compare_with_quantised

    headline = energies[0]
    costs, convention = headline.costs, headline.convention
    shipped = analysis.spread(profile, costs=costs)
    named = {energy.convention.name for energy in shipped}
    side_by_side = [*(e for e in energies if e.convention.name not in named), *shipped]
    charges = {(charge.name, charge.op, charge.site): charge for charge in headline.rows}
    twin = analysis.compare_with_twin(profile, convention, costs)
    dead, saturated = analysis.dead_and_saturated(profile)
    return {
        "profile": profile,
        "energy": headline,
        "layers": [(row, charges[row.name, row.op, row.site]) for row in profile.rows],
        "blocks": headline.by_block(),
        "conventions": side_by_side,
        "twin": twin,
        "missing": analysis.missing_prices(twin.missing, costs),
        "quantised": compare_with_quantised(profile),
        "break_even": analysis.break_even(profile, convention, costs),
        "sensitivity": analysis.sensitivity(profile, convention, costs),
        "precision": analysis.precision(profile, convention=convention, costs=costs),
        "dead": dead,
        "saturated": saturated,
        "verifications": [_verification(folder) for folder in verifications],
        "energy_plot": figures.energy_by_layer(headline),
        "rate_plot": figures.firing_rates(profile),
        "convention_plot": figures.conventions(side_by_side),
    }


def _verification(folder: Path) -> dict[str, Any]:
    """What the report says of an export: its folder and a table of facts."""
    verdict = read_verification(folder / "verification.json" if folder.is_dir() else folder)
    parts = verdict["parts"]
    facts = _scalars(verdict)
    facts |= {f"accuracy ({who})": percent(share) for who, share in verdict.get("accuracy", {}).items()}
    for key in ("source", "onnx", "nir", "netlist", "int8"):
        facts |= {name: value for name, value in _scalars(parts.get(key, {})).items() if value is not None}
    facts |= parts.get("source", {}).get("origin", {})
    facts |= {f"on {a['title']}": _answer(a) for a in parts.get("mapping", {}).get("answers", ())}
    if "lava" in parts:
        facts["in the Lava runtime"] = parts["lava"]["summary"]
    if "sanafe" in parts:
        ran = parts["sanafe"]
        facts["in SANA-FE"] = ran["summary"]
        facts[f"energy per inference ({ran['architecture']})"] = picojoules(
            ran["joules_per_inference"] * 1e12
        )
        facts[f"latency per inference ({ran['architecture']})"] = (
            f"{ran['seconds_per_inference'] * 1e6:.4g} µs"
        )
        facts["how far SANA-FE is from the chip"] = ran["error"]
    facts |= _in_c(parts)
    if "chip_energy" in parts:
        chip = parts["chip_energy"]
        beside = "".join(f", without {what}" for what in chip["unpriced"])
        facts[f"energy of the netlist ({chip['label']})"] = picojoules(chip["total_mj"] * 1e9) + beside
    return {"folder": str(folder), "facts": facts}


def _in_c(parts: dict[str, Any]) -> dict[str, str]:
    """The C program: how it was built, what microcontrollers measured, which parts hold it."""
    facts = {}
    for build in parts.get("c", {}).get("builds", ()):
        equal = f"{build['compared'] - build['mismatches']:,} of {build['compared']:,} spikes equal"
        facts[f"C by {build['compiler']} {build['flags']}"] = equal
    boards = parts.get("microcontrollers", {})
    runs = [record_from(BoardRun, run, "microcontrollers") for run in boards.get("runs", ())]
    fits = [record_from(Fit, found, "microcontrollers") for found in boards.get("fits", ())]
    facts |= {f"C on {run.board} in QEMU": f"{run}; {run.answers()}" for run in runs}
    return facts | {f"memory of {found.title}": str(found) for found in fits}


def _answer(answer: dict[str, Any]) -> str:
    """`does not fit: 5 cores of 1 chip; patch_embed.pool: …; way out: …`."""
    words = "fits" if answer["fits"] else "does not fit"
    stand = [f"{o['node']}: {o['what']}; way out: {o['way_out']}" for o in answer["obstacles"]]
    return "; ".join([f"{words}: {answer['cores']} cores on {answer['chips']} chips", *stand])


def _scalars(table: dict[str, Any]) -> dict[str, Any]:
    """Entries that fit a cell: single values, and lists of them joined."""
    cells = {key: value for key, value in table.items() if not isinstance(value, dict | list)}
    for key, value in table.items():
        if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
            cells[key] = ", ".join(map(str, value)) or "none"
    return cells


def count(value: float) -> str:
    """1234567 -> 1.235 M: four figures and the field's suffixes."""
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{suffix}"
    return f"{value:.4g}"


def percent(value: float) -> str:
    """0.98333 -> 98.33 %."""
    return f"{100 * value:.2f} %"


def picojoules(value: float) -> str:
    """Energy in the unit that reads best."""
    for limit, unit in ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ")):
        if abs(value) >= limit:
            return f"{value / limit:.4g} {unit}"
    return f"{value:.4g} pJ"
