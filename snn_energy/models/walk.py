"""The modules of a network, by torch's own table of them.

A class may override `modules`, `parameters` or `named_modules` (rockpool's return dicts of names); what is
read here is what `torch.nn.Module` itself keeps.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn


def named_modules(model: nn.Module, *, every_name: bool = False) -> Iterator[tuple[str, nn.Module]]:
    """Path and module, the network itself as "" first, parents before children.

    A module that stands at several places comes once, or with `every_name` under each of its names.
    """
    seen: set[nn.Module] = set()
    waiting: list[tuple[str, nn.Module, tuple[nn.Module, ...]]] = [("", model, ())]
    while waiting:
        path, module, above = waiting.pop()
        if module in above or (module in seen and not every_name):
            continue
        seen.add(module)
        yield path, module
        inner = [
            (f"{path}.{name}" if path else name, child, (*above, module))
            for name, child in module._modules.items()
            if child is not None
        ]
        waiting += reversed(inner)


def modules(model: nn.Module) -> Iterator[nn.Module]:
    """Every module of the network once, itself first."""
    return (module for _, module in named_modules(model))


def parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Every parameter once."""
    seen: set[int] = set()
    for module in modules(model):
        for parameter in module._parameters.values():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter


def device_of(model: nn.Module) -> torch.device:
    """Where the network is, by its first parameter or else its first buffer; the CPU for one without."""
    for parameter in parameters(model):
        return parameter.device
    for module in modules(model):
        for buffer in module._buffers.values():
            if buffer is not None:
                return buffer.device
    return torch.device("cpu")
