"""Sweeps: one recipe trained with many settings, accuracy beside energy, shared by any number of machines."""

from snn_energy.sweep.space import Space, read_space
from snn_energy.sweep.study import Outcome, Sweep

__all__ = ["Outcome", "Space", "Sweep", "read_space"]
