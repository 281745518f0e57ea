"""`snn-energy check`: bounds that a profile must keep, for continuous integration."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snn_energy.cli.out import echo
from snn_energy.cli.profile import Costs
from snn_energy.errors import BoundExceeded, ConfigError, DataError
from snn_energy.text import plain

if TYPE_CHECKING:
    from snn_energy.profiling.profile import Profile

UNITS = {"pJ": 1.0, "nJ": 1e3, "uJ": 1e6, "µJ": 1e6, "μJ": 1e6, "mJ": 1e9, "J": 1e12}
Found = tuple[bool, str]


def check(
    profile: Annotated[Path, typer.Argument(help="A profile.json, or the folder that holds it.")],
    max_energy: Annotated[
        str | None, typer.Option("--max-energy", help="Of one inference, with a unit: 20uJ, 1.5mJ.")
    ] = None,
    max_rate: Annotated[
        str | None, typer.Option("--max-rate", help="Mean firing rate over all neurons and steps: 0.2, 20%.")
    ] = None,
    max_layer_rate: Annotated[
        str | None, typer.Option("--max-layer-rate", help="Firing rate of each spiking layer.")
    ] = None,
    min_accuracy: Annotated[str | None, typer.Option("--min-accuracy", help="0.9, 90%.")] = None,
    no_uncounted: Annotated[
        bool, typer.Option("--no-uncounted", help="Every operation is covered by a counting rule.")
    ] = False,
    convention: Annotated[str, typer.Option("--convention", help="A name or a YAML file.")] = "exact",
    costs: Costs = "45nm-fp32",
) -> None:
    """Hold a saved profile against bounds; exit 1 where one is not kept, 2 where one cannot be checked."""
    from snn_energy.cli.report import profile_files
    from snn_energy.profiling.profile import Profile

    asked: list[Callable[[Profile], Found]] = []
    if max_energy is not None:
        asked.append(_energy(max_energy, convention, costs))
    if max_rate is not None:
        asked.append(_rate(_share(max_rate, "--max-rate")))
    if max_layer_rate is not None:
        asked.append(_layer_rate(_share(max_layer_rate, "--max-layer-rate")))
    if min_accuracy is not None:
        asked.append(_accuracy(_share(min_accuracy, "--min-accuracy")))
    if no_uncounted:
        asked.append(_uncounted)
    if not asked:
        raise ConfigError(
            "nothing to check: give --max-energy, --max-rate, --max-layer-rate, --min-accuracy "
            "or --no-uncounted"
        )
    paths = profile_files([profile])
    if len(paths) != 1:
        raise ConfigError(f"{profile} holds {len(paths)} profiles; check one at a time")
    measured = Profile.load(paths[0])
    found = [ask(measured) for ask in asked]
    for kept, words in found:
        echo(plain(f"{'ok  ' if kept else 'FAIL'}  {words}"))
    failed = [words for kept, words in found if not kept]
    if failed:
        raise BoundExceeded(f"{profile}: {'; '.join(failed)}")


def picojoules_in(text: str, where: str) -> float:
    """`20uJ` -> 2e7.  Raises `ConfigError` for what is no energy with a unit."""
    found = re.fullmatch(r"\s*([0-9.eE+-]+)\s*([pnuµμm]?J)\s*", text)
    value = _number(found[1]) if found else None
    if not found or value is None or value < 0:
        raise ConfigError(f"{where} {text!r}: must be an energy with its unit, such as 20uJ, 350nJ or 1.5mJ")
    return value * UNITS[found[2]]


def _share(text: str, where: str) -> float:
    """`.2` or `20%` -> .2.  Raises `ConfigError` for what is no share."""
    stripped = text.strip()
    value = _number(stripped.removesuffix("%"))
    if value is not None and stripped.endswith("%"):
        value /= 100
    if value is None or not 0 <= value <= 1:
        raise ConfigError(f"{where} {text!r}: must be a share between 0 and 1, or a percentage such as 20%")
    return value


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _energy(text: str, convention: str, costs: str) -> Callable[[Profile], Found]:
    from snn_energy.energy import load_convention, load_costs
    from snn_energy.energy.analysis import missing_prices
    from snn_energy.reports.words import many, picojoules

    most = picojoules_in(text, "--max-energy")
    load_convention(convention), load_costs(costs)

    def ask(measured: Profile) -> Found:
        energy = measured.energy(convention, costs)
        missing = [name for name in energy.unpriced if name != "special"]
        if missing:
            raise DataError(f"--max-energy: the energy is not whole: {missing_prices(missing, energy.costs)}")
        kept = energy.total_pj <= most
        if kept and energy.uncounted:
            raise DataError(
                f"--max-energy: the energy is not whole: {many(len(energy.uncounted), 'row')} not counted"
            )
        priced = f"{energy.convention.name}, {energy.costs.name}"
        priced += f"; movement of {', '.join(energy.unmoved)} not counted" if energy.unmoved else ""
        words = f"{picojoules(energy.total_pj)} per inference ({priced})"
        return kept, f"energy: {words}, {'at most' if kept else 'more than'} {picojoules(most)}"

    return ask


def _rate(most: float) -> Callable[[Profile], Found]:
    def ask(measured: Profile) -> Found:
        rate = measured.mean_rate
        if rate is None:
            raise DataError("--max-rate: no spiking layer was found in this profile")
        return (
            rate <= most,
            f"rate: {rate:.4f} on average, {'at most' if rate <= most else 'more than'} {most:g}",
        )

    return ask


def _layer_rate(most: float) -> Callable[[Profile], Found]:
    def ask(measured: Profile) -> Found:
        if not measured.neurons:
            raise DataError("--max-layer-rate: no spiking layer was found in this profile")
        row = max(measured.neurons, key=lambda row: row.output_rate)
        kept = row.output_rate <= most
        words = f"{row.name or '(model)'} fires at {row.output_rate:.4f}"
        return kept, f"layer rate: {words}, {'at most' if kept else 'more than'} {most:g}"

    return ask


def _accuracy(least: float) -> Callable[[Profile], Found]:
    def ask(measured: Profile) -> Found:
        if measured.accuracy is None:
            raise DataError("--min-accuracy: this profile was measured without labels")
        kept = measured.accuracy >= least
        words = f"{measured.accuracy:.4f} on {measured.samples} samples"
        return kept, f"accuracy: {words}, {'at least' if kept else 'less than'} {least:g}"

    return ask


def _uncounted(measured: Profile) -> Found:
    missed = measured.uncounted
    if not missed:
        return True, "uncounted: none, every operation is covered by a counting rule"
    named = ", ".join(f"{row.name or '(model)'} ({row.note or row.op})" for row in missed[:3])
    more = f" and {len(missed) - 3} more" if len(missed) > 3 else ""
    return False, f"uncounted: {len(missed)} operations without a counting rule: {named}{more}"
