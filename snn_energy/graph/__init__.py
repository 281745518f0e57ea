"""The static network as data: `Graph`, its nodes, and how a torch model becomes one.

Importing this package does not import torch; `capture` does so when it is called.
"""

from __future__ import annotations

from snn_energy.graph.graph import Graph

__all__ = ["Graph"]
