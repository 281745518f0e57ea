"""Base classes of surrogate gradients as SpikingJelly's users subclassed them before version 2."""

from __future__ import annotations

from typing import Any

from spikingjelly.activation_based import surrogate as new
from torch import nn

__all__ = ["MultiArgsSurrogateFunctionBase", "SurrogateFunctionBase"]


class SurrogateFunctionBase(new.SurrogateFunctionBase):
    """A subclass writes `spiking_function(x, alpha)` and `primitive_function(x, alpha)`."""

    def __init__(self, alpha: float, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=alpha)

    def forward(self, x: Any) -> Any:
        function = self.spiking_function if self.spiking else self.primitive_function
        return function(x, self.alpha)


class MultiArgsSurrogateFunctionBase(nn.Module):
    """A subclass writes `forward` itself."""

    def __init__(self, spiking: bool, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.spiking = spiking

    def set_spiking_mode(self, spiking: bool) -> None:
        self.spiking = spiking
