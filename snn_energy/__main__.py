"""`snn-energy` and `python -m snn_energy`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; an error of the user's is one line on standard error and exit code 2.

    Below it, for a few of them, stand lines that show the way on.
    """
    from snn_energy.errors import SnnEnergyError

    try:
        import typer  # noqa: F401
    except ModuleNotFoundError:
        sys.exit("snn-energy: the command line needs typer: pip install snn-energy")
    from snn_energy.cli import app

    try:
        app()
    except SnnEnergyError as error:
        print(f"error: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
