"""The commands and their help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from snn_energy import __version__
from snn_energy.cli import (
    check,
    demo,
    diff,
    doctor,
    energy,
    evaluate,
    export,
    listing,
    profile,
    report,
    sweep,
    train,
)
from snn_energy.cli.examples import EXIT_CODES, epilog
from snn_energy.cli.guard import guarded
from snn_energy.cli.options import with_quiet
from snn_energy.cli.out import echo
from snn_energy.reading import limits

app = typer.Typer(
    name="snn-energy",
    help="What an inference of a spiking network costs, whether that is right, whether it runs on a chip.",
    epilog=f"Start with `snn-energy demo`, or `snn-energy doctor`.\n\n{EXIT_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        echo(f"snn-energy {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
    max_bytes: str | None = typer.Option(
        None,
        "--max-bytes",
        help="Read files of up to this size, unpacked: 8G. Default: JSON 64M, YAML 128K, arrays 2G.",
    ),
) -> None:
    """snn-energy"""
    context.with_resource(limits(max_bytes))


COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": demo.demo,
    "profile": profile.profile,
    "evaluate": evaluate.evaluate,
    "report": report.report,
    "diff": diff.diff,
    "check": check.check,
    "export": export.export,
    "verify": export.verify,
    "train": train.train,
    "sweep": sweep.sweep,
    "reproduce": energy.reproduce,
    "audit": energy.audit,
    "list": listing.list_names,
    "doctor": doctor.doctor,
}
for name, command in COMMANDS.items():
    app.command(name, epilog=epilog(name))(guarded(with_quiet(command)))
