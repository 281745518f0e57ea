"""`snn-energy` and `python -m snn_energy`."""

from __future__ import annotations

import contextlib
import os
import sys


def main() -> None:
    """Run the command line; an error of the user's is one line on standard error and exit code 2.

    Below it, for a few of them, stand lines that show the way on.
    """
    from snn_energy.errors import SnnEnergyError

    # threads that wait for work sleep: on a busy machine spinning ones take the time of those that have some
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is loaded
    try:
        _run()
    except SnnEnergyError as error:
        from snn_energy.text import lines, plain

        _forget_output()
        with contextlib.suppress(OSError):
            notes = map(lines, getattr(error, "__notes__", ()))
            print(f"error: {plain(error)}", *notes, sep="\n", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # while modules were imported
        print("error: interrupted", file=sys.stderr)
        sys.exit(2)


def _run() -> None:
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError:
        sys.exit("snn-energy: the command line needs typer: pip install typer")
    from snn_energy.cli import app
    from snn_energy.cli.guard import one_line_errors

    with one_line_errors():
        try:
            app()
        finally:
            sys.stdout.flush()


def _forget_output() -> None:
    """What could not be printed is not tried again when Python ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
