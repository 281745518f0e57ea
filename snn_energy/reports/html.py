"""The report: everything a reviewer asks of an energy figure, on one page without outside files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_energy.files import write_text
from snn_energy.reports import embed, view
from snn_energy.reports.cards import Card, cards
from snn_energy.reports.maps import pictures
from snn_energy.reports.training import training
from snn_energy.reports.words import count, even, many, percent, picojoules, rate, together

if TYPE_CHECKING:
    from snn_energy.energy import Energy
    from snn_energy.profiling.maps import SampleMaps
    from snn_energy.profiling.profile import Profile

__all__ = ["count", "percent", "picojoules", "render_page", "report"]
SCRIPTS = ("format.js", "evaluate.js", "shared.js", "analysis.js", "switch.js", "table.js", "own.js")


def report(
    profile: Profile,
    out: str | os.PathLike[str],
    *,
    energies: Sequence[Energy] = (),
    verifications: Sequence[Path] = (),
    maps: Sequence[SampleMaps] = (),
) -> Path:
    """Write the report of `profile` to `out`, one HTML file.

    The first of `energies` (default: `exact`, 45 nm fp32) is the headline; all shipped conventions stand
    beside it at the same prices, and the page can switch between all of them.  `verifications` are exported
    folders whose verification.json is shown; `maps`, what `profiling.maps.sample_maps` gives, is shown where
    given.  Raises `DataError` for a folder without a verification.
    """
    energies = energies or (profile.energy(),)
    content = page_content(profile, energies, cards(verifications))
    content["maps"] = pictures(maps, profile.class_names)
    write_text(out, render_page("page.html.j2", content))
    return Path(out)


def render_page(template: str, content: Mapping[str, Any], scripts: Sequence[str] = SCRIPTS) -> str:
    """A template of ours with its styles and scripts set in."""
    inside = {"styles": _part("style.css"), "scripts": "\n".join(map(_part, scripts))}
    return _environment().get_template(template).render(**content, **inside)


def _part(name: str) -> str:
    return (resources.files("snn_energy.reports") / "templates" / name).read_text("utf-8")


def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        count=count, percent=percent, pj=picojoules, rate=rate, even=even, many=many, together=together
    )
    return environment


def page_content(profile: Profile, energies: Sequence[Energy], exports: Sequence[Card]) -> dict[str, Any]:
    """What the template shows, under the names that it uses."""
    from snn_energy.energy import analysis
    from snn_energy.energy.quantised import compare_with_quantised
    from snn_energy.reports.network import block_diagram

    headline = energies[0]
    costs, convention = headline.costs, headline.convention
    side_by_side = _beside(profile, energies)
    twin = analysis.compare_with_twin(profile, convention, costs)
    precision = analysis.precision(profile, convention=convention, costs=costs)
    known = embed.choices((e.convention for e in energies), (e.costs for e in energies))
    layers, steps, top = view.rates_of(profile)
    blocks = view.tree(profile, headline)
    return {
        "profile": profile,
        "energy": headline,
        "tiles": view.tile_values(profile, headline, twin),
        "badges": view.badges(profile, headline, precision, twin.missing, exports),
        "price_words": view.price_words(costs),
        "covers": view.arithmetic_words(headline),
        "twin_words": view.twin_words(twin),
        "range_words": view.range_words(side_by_side),
        "blocks": blocks,
        "widest": max((b.pj for b in blocks), default=0.0) or 1.0,
        "small": view.SMALL,
        "part_words": view.PART_WORDS,
        "diagram_block": {b.name: i for i, b in enumerate(blocks)},
        "bibtex": bibtex(profile),
        "diagrams": [(b.name, block_diagram(profile, headline, _path(b.name))) for b in blocks],
        "layers": list(enumerate(zip(profile.rows, headline.rows, strict=True))),
        "operation_name": view.operation_name,
        "rates": layers,
        "steps": steps,
        "top": top,
        "conventions": side_by_side,
        "dearest": max(e.total_pj for e in side_by_side) or 1.0,
        "twin": twin,
        "missing": analysis.missing_prices(twin.missing, costs),
        "quantised": compare_with_quantised(profile),
        "break_even": analysis.break_even(profile, convention, costs),
        "sensitivity": analysis.sensitivity(profile, convention, costs)[:10],
        "precision": precision,
        "exports": exports,
        "training": training(profile),
        "offered": known,
        "choices": convention.choices(),
        "data": embed.page_data([profile], known, headline, small=view.SMALL),
        "download": embed.profile_link(profile),
    }


def _beside(profile: Profile, energies: Sequence[Energy]) -> list[Energy]:
    """Every convention once at the prices of the first: those that were asked for, then all shipped ones."""
    from snn_energy.energy import analysis

    same = [e for e in energies if e.costs == energies[0].costs]
    found = {
        e.convention.name: e for e in (*analysis.spread(profile, costs=energies[0].costs), *reversed(same))
    }
    asked = list(dict.fromkeys(e.convention.name for e in same))
    return [found[name] for name in dict.fromkeys((*asked, *found))]


def _path(name: str) -> str:
    """A block's path from its name on the page."""
    return "" if name == "(model)" else name


def bibtex(profile: Profile) -> str:
    """How to cite the program that measured the profile."""
    return (
        "@software{snn_energy,\n  title = {snn-energy: what an inference of a spiking network costs},\n"
        "  author = {{the snn-energy developers}},\n"
        f"  version = {{{profile.environment.get('snn-energy', '?')}}}\n}}"
    )
