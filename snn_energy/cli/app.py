"""The commands and their help."""

from __future__ import annotations

import typer

from snn_energy import __version__
from snn_energy.cli import check, diff, energy, evaluate, export, profile, report, sweep, train
from snn_energy.cli.guard import guarded
from snn_energy.reading import limits

app = typer.Typer(
    name="snn-energy",
    help="What an inference of a spiking network costs, whether that is right, whether it runs on a chip.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"snn-energy {__version__}")
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


for command in (
    train.train,
    sweep.sweep,
    profile.profile,
    evaluate.evaluate,
    export.export,
    export.verify,
    report.report,
    diff.diff,
    check.check,
    energy.reproduce,
    energy.audit,
):
    app.command()(guarded(command))
app.command("list")(guarded(energy.list_names))
