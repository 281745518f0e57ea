"""The chip's answer in words: a table for a terminal, a page for a browser."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence

from snn_energy.errors import ConfigError, DoesNotFit, suggest
from snn_energy.exporters.chip.mapping import CoreUse, MappingReport
from snn_energy.exporters.chip.parts import ChipAnswer

WIDTH = 80


def table(answers: Sequence[ChipAnswer]) -> str:
    """One line per chip, `fits` or `does not fit` with cores and chips, and below it what does not and why;
    at most 80 columns."""
    wide = max((len(answer.chip) for answer in answers), default=0)
    lines = []
    for answer in answers:
        size = f"{_many(answer.cores, 'core')} on {_many(answer.chips, 'chip')}"
        lines.append(f"{answer.chip:{wide}}  {answer.words:12}  {size}")
        for obstacle in answer.obstacles:
            lines += _wrapped(f"{obstacle.node}: {obstacle.what}", "  - ", "    ")
            lines += _wrapped(obstacle.way_out, "    way out: ", "             ")
    return "\n".join(line.rstrip() for line in lines)


def _wrapped(text: str, first: str, later: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def require_fit(answers: Sequence[ChipAnswer], chip: str) -> None:
    """Raise `DoesNotFit` where the netlist does not fit `chip`, `ConfigError` where it was not asked."""
    known = {answer.chip: answer for answer in answers}
    if chip not in known:
        raise ConfigError(f"chip {chip!r} was not asked; {suggest(chip, known)}")
    if not known[chip].fits:
        first, *rest = known[chip].obstacles
        more = f" (and {len(rest)} more)" if rest else ""
        raise DoesNotFit(f"does not fit {known[chip].title}: {first}{more}")


STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.45 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:46rem;overflow-wrap:anywhere}
h1{font-size:1.3rem}h2{font-size:1.1rem;margin:1.6rem 0 .3rem}
.yes{color:#187a3c}.no{color:#b3261e}.yes,.no{font-weight:600}
ul{padding-left:1.1rem}li{margin:.5rem 0}.way{display:block;opacity:.8}
details{margin:.6rem 0}summary{cursor:pointer;padding:.4rem 0}
.core{border-top:1px solid #8884;padding:.4rem 0;font-size:.9rem}
.bar{display:flex;align-items:center;gap:.5rem}.bar span{flex:0 0 5.5rem}
meter{flex:1 1 auto;min-width:4rem}dt{font-weight:600}dd{margin:0 0 .5rem 1rem}
"""
BARS = (
    ("neurons", "neurons", "neurons_per_core"),
    ("weights", "weight_bits", "synapse_bits_per_core"),
    ("axons in", "in_axons", "in_axons_per_core"),
    ("axons out", "out_axons", "out_axons_per_core"),
)


def page(reports: Sequence[MappingReport], title: str = "Does it fit the chip?") -> str:
    """A page of its own that a phone can read: one column, no wide table, no outside file."""
    body = "".join(section(report) for report in reports)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><h1>{html.escape(title)}</h1>{body}</body></html>\n"
    )


def section(report: MappingReport) -> str:
    """One chip: the verdict, the obstacles with ways out, the use of every core, the limits with sources."""
    answer = report.answer()
    head = f'<span class="{"yes" if answer.fits else "no"}">{answer.words}</span>'
    size = f"{_many(answer.cores, 'core')} on {_many(answer.chips, 'chip')}"
    obstacles = "".join(
        f"<li><b>{html.escape(o.node)}</b>: {html.escape(o.what)}"
        f'<span class="way">Way out: {html.escape(o.way_out)}</span></li>'
        for o in answer.obstacles
    )
    splits = "".join(f"<li>{html.escape(line)}</li>" for line in report.splits)
    cores = "".join(_core(report, core) for core in report.cores)
    limits = "".join(
        f"<dt>{html.escape(key.replace('_', ' '))}: {html.escape(str(value))}</dt>"
        f"<dd>{html.escape(report.chip.sources[key])}</dd>"
        for key, value in report.chip.limits.items()
    )
    listed = f"<ul>{obstacles}{splits}</ul>" if obstacles or splits else ""
    return (
        f'<section class="mapping"><h2>{html.escape(answer.title)}: {head}</h2><p>{size}</p>{listed}'
        f"<details><summary>Use of every core</summary>{cores}</details>"
        f"<details><summary>Limits and their sources</summary><dl>{limits}</dl></details></section>"
    )


def _core(report: MappingReport, core: CoreUse) -> str:
    bars = "".join(
        f'<div class="bar"><span>{name}</span><meter max="1" value="{min(share, 1):.3f}"></meter>'
        f'<b class="{_colour(share)}">{share:.0%}</b></div>'
        for name, share in ((name, getattr(core, what) / report.chip[limit]) for name, what, limit in BARS)
    )
    held = html.escape(", ".join(core.populations))
    return f'<div class="core">Core {core.chip}.{core.core}: {held}{bars}</div>'


def _colour(share: float) -> str:
    return "no" if share > 1 else "ok"
