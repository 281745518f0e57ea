"""The command line: each command parses, calls the API, prints.  torch is imported inside commands only."""

from __future__ import annotations

from snn_energy.cli.app import app

__all__ = ["app"]
