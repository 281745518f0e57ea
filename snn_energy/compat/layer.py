"""The layers of SpikingJelly 0.0.0.0.12's `clock_driven` whose names or meanings changed since."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Any

from spikingjelly.activation_based import layer as new
from torch import nn

__all__ = [
    "MultiStepContainer",
    "MultiStepDropout",
    "MultiStepDropout2d",
    "MultiStepTemporalWiseAttention",
    "MultiStepThresholdDependentBatchNorm1d",
    "MultiStepThresholdDependentBatchNorm2d",
    "MultiStepThresholdDependentBatchNorm3d",
    "SeqToANNContainer",
]

CEXT = "spikingjelly.cext.neuron"


def _wrapped(layers: tuple[nn.Module, ...]) -> tuple[Any, ...]:
    """What a container is made of: its layers, or, beside `spikingjelly.cext`, one named `module`.

    The SpikingJelly of that package called it so, and the keys of checkpoints still do:
    `conv1.module.0.weight` there, `conv1.0.weight` in all later ones.
    """
    if CEXT not in sys.modules:
        return layers
    return (OrderedDict(module=layers[0] if len(layers) == 1 else nn.Sequential(*layers)),)


class SeqToANNContainer(new.SeqToANNContainer):
    """Layers without state, applied to all steps at once: (T, B, ...) -> (T, B, ...)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*_wrapped(layers))


class MultiStepContainer(new.MultiStepContainer):
    """Single-step layers, applied step by step: (T, B, ...) -> (T, B, ...)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*_wrapped(layers))


class MultiStepDropout(new.Dropout):
    """Dropout with one mask for all steps."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p, step_mode="m")


class MultiStepDropout2d(new.Dropout2d):
    """Dropout of channels with one mask for all steps; p is 0.5 by default, unlike `Dropout2d`'s 0.2."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p, step_mode="m")


class MultiStepThresholdDependentBatchNorm1d(new.ThresholdDependentBatchNorm1d):
    """tdBN over (T, B, C)."""

    def __init__(self, alpha: float, v_th: float, *args: Any, **kwargs: Any) -> None:
        super().__init__(alpha, v_th, *args, **kwargs)
        self.step_mode = "m"


class MultiStepThresholdDependentBatchNorm2d(new.ThresholdDependentBatchNorm2d):
    """tdBN over (T, B, C, H, W)."""

    def __init__(self, alpha: float, v_th: float, *args: Any, **kwargs: Any) -> None:
        super().__init__(alpha, v_th, *args, **kwargs)
        self.step_mode = "m"


class MultiStepThresholdDependentBatchNorm3d(new.ThresholdDependentBatchNorm3d):
    """tdBN over (T, B, C, D, H, W)."""

    def __init__(self, alpha: float, v_th: float, *args: Any, **kwargs: Any) -> None:
        super().__init__(alpha, v_th, *args, **kwargs)
        self.step_mode = "m"


class MultiStepTemporalWiseAttention(new.TemporalWiseAttention):
    """Attention over the steps of a sequence (Yao et al., ICCV 2021)."""
