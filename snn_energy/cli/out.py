"""The one way out to a terminal: whatever strangers named their layers, nothing steers it.

Tables that rich draws escape their cells themselves (`tables`); JSON goes out by `echo_json`.
"""

from __future__ import annotations

from typing import Any

import typer

from snn_energy.text import json_text, lines


def echo(text: object = "", *, err: bool = False, color: str | None = None) -> None:
    """Print lines of text on standard output or standard error, in `color` where a terminal shows it."""
    safe = lines(text)
    typer.echo(typer.style(safe, fg=color) if color else safe, err=err)


def echo_json(value: Any) -> None:
    """Print a value as JSON: what steers a terminal is escaped inside its strings, as JSON has it."""
    typer.echo(json_text(value))
