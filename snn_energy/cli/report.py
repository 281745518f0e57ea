"""`snn-energy report`: the page of one profile, or the page that compares several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snn_energy.cli.out import echo
from snn_energy.cli.profile import Conventions, Costs, convention_names
from snn_energy.errors import ConfigError, DataError
from snn_energy.files import try_file, try_folder

if TYPE_CHECKING:
    from snn_energy.energy import Energy
    from snn_energy.profiling.profile import Profile

PROFILE = "profile.json"


def report(
    profiles: Annotated[
        list[Path],
        typer.Argument(help="A profile.json, a folder that holds it, or a folder of such folders."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Default: report.html beside the profile; of several, compare.html here."),
    ] = None,
    exports: Annotated[
        list[Path] | None,
        typer.Option(
            "--exports", "--verification", help="An exported folder whose verdict the report shows."
        ),
    ] = None,
    convention: Conventions = "exact",
    costs: Costs = "45nm-fp32",
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Also write the figures there, as SVG and PDF.")
    ] = None,
    tables: Annotated[
        Path | None, typer.Option("--tables", help="Also write the tables there, as LaTeX and Markdown.")
    ] = None,
) -> None:
    """Write the HTML report of a saved profile, or compare several; needs neither the model nor torch."""
    names = convention_names(convention)
    paths = profile_files(profiles)
    if len(paths) > 1:
        for given, flag in ((exports, "--exports"), (figures, "--figures"), (tables, "--tables")):
            if given:
                raise ConfigError(f"{flag} is for the report of one profile; {len(paths)} were given")
        if len(names) > 1:
            given_names = ", ".join(str(name) for name in names)
            raise ConfigError(
                f"--convention {given_names}: profiles are compared under one; {len(names)} were given"
            )
        echo(str(_compared(paths, names[0], costs, out or Path("compare.html"))))
        return
    target = out or paths[0].parent / "report.html"
    try_file(target)
    for folder in (figures, tables):
        if folder is not None:
            try_folder(folder)
    _one(paths[0], names, costs, target, exports or (), figures, tables)


def _one(
    path: Path,
    names: Sequence[str],
    costs: str,
    target: Path,
    exports: Sequence[Path],
    figures: Path | None,
    tables: Path | None,
) -> None:
    from snn_energy.profiling.profile import Profile
    from snn_energy.reports import report as write
    from snn_energy.reports.cards import exports_beside

    measured = Profile.load(path)
    energies = [measured.energy(name, costs) for name in names]
    shown = exports or exports_beside(path.parent, measured.environment.get("checkpoint_sha256"))
    write(measured, target, energies=energies, verifications=tuple(shown))
    echo(target)
    write_alone(measured, energies, figures, tables)


def write_alone(
    measured: Profile, energies: Sequence[Energy], figures: Path | None, tables: Path | None
) -> None:
    """Figures and tables as files of their own, where asked for."""
    if figures is not None:
        from snn_energy.reports.figures import write_figures

        for path in write_figures(measured, energies, figures):
            echo(path)
    if tables is not None:
        from snn_energy.reports.tables import write_tables

        for path in write_tables(measured, energies, tables):
            echo(path)


def _compared(paths: Sequence[Path], convention: str, costs: str, out: Path) -> Path:
    from snn_energy.reports.compare import Side, compare_page

    try_file(out)
    return compare_page([Side(*side) for side in sides(paths, convention, costs)], out)


def sides(paths: Sequence[Path], convention: str, costs: str) -> list[tuple[str, Profile, Energy]]:
    """(label, profile, energy) of each file."""
    from snn_energy.profiling.profile import Profile
    from snn_energy.reports.compare import labels

    loaded = [Profile.load(path) for path in paths]
    named = zip(labels(paths, loaded), loaded, strict=True)
    return [(label, profile, profile.energy(convention, costs)) for label, profile in named]


def profile_files(given: Sequence[Path]) -> list[Path]:
    """The profile of each path: the file itself, that of a folder, or those of the folders in a folder."""
    found: list[Path] = []
    for path in given:
        if not path.is_dir():
            found.append(path)
        elif (path / PROFILE).is_file():
            found.append(path / PROFILE)
        else:
            below = sorted(path.glob(f"*/{PROFILE}"))
            if not below:
                raise DataError(f"{path}: no {PROFILE} in this folder or in a folder of it")
            found += below
    return found
