"""Counting: run a model over samples, get a `Profile`.  docs/counting.md defines every count.

Importing this package does not import torch: a saved `Profile` is read and re-costed without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snn_energy.profiling.profile import Count, OpRow, Profile

if TYPE_CHECKING:
    from snn_energy.profiling.session import profile, record_spikes

__all__ = ["Count", "OpRow", "Profile", "profile", "record_spikes"]


def __getattr__(name: str) -> Any:
    if name in ("profile", "record_spikes"):
        from snn_energy.profiling import session

        return getattr(session, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
