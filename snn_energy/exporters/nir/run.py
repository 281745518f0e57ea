"""Run a NIR graph by NIR's own equations, in float64, step by step (forward Euler).

Neurons fire above their threshold.  Edges that meet are summed.  An edge that closes a loop carries what its
source put out one step before.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import TopologicalSorter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from snn_energy.errors import DataError
from snn_energy.exporters.nir.write import DT, MARK

STATEFUL = ("IF", "LIF", "CubaLIF", "I", "LI")


class NirRun:
    """What a graph puts out for `frames` (T, B, …).

    `held`: every node's output (T, B, …); `heard`: what charges each membrane (T, B, …); `blocked`:
    names that hang on a marked part and cannot be run.
    """

    def __init__(self, file: Any, frames: Tensor) -> None:
        self.nodes, self.dt = file.nodes, float(np.asarray((file.metadata or {}).get("dt", DT)))
        self.sources: dict[str, list[str]] = {name: [] for name in file.nodes}
        for a, b in file.edges:
            self.sources[b].append(a)
        self.order = list(self._order())
        self.blocked = set(self._blocked())
        steps: dict[str, list[Tensor]] = {name: [] for name in self.order if name not in self.blocked}
        heard: dict[str, list[Tensor]] = {name: [] for name in steps if self.kind(name) in STATEFUL}
        self.membranes: dict[str, Tensor] = {}
        self.currents: dict[str, Tensor] = {}
        with torch.no_grad():
            for frame in frames.double():
                now: dict[str, Tensor] = {}
                for name in steps:
                    if self.kind(name) == "Input":
                        now[name] = frame
                    else:
                        total = self._total(name, now, steps)
                        now[name] = self._step(name, total, frame)
                        if name in heard:
                            total = self.currents.get(name, total)
                            heard[name].append(torch.as_tensor(total).expand_as(now[name]))
                    steps[name].append(now[name])
        self.held = {name: torch.stack(values) for name, values in steps.items()}
        self.heard = {name: torch.stack(values) for name, values in heard.items()}

    def kind(self, name: str) -> str:
        return type(self.nodes[name]).__name__

    def _order(self) -> Iterator[str]:
        """Every node after what it hears; of a loop, its membranes first."""
        reach = {name: self._reached(name) for name in self.nodes}
        self.late = {
            (a, b)
            for b, sources in self.sources.items()
            for a in sources
            if self.kind(b) in STATEFUL and a in reach[b]
        }
        waits = {b: [a for a in s if (a, b) not in self.late] for b, s in self.sources.items()}
        yield from TopologicalSorter(waits).static_order()

    def _reached(self, name: str) -> set[str]:
        found: set[str] = set()
        waiting = [name]
        while waiting:
            at = waiting.pop()
            for b, sources in self.sources.items():
                if at in sources and b not in found:
                    found.add(b)
                    waiting.append(b)
        return found

    def _blocked(self) -> Iterator[str]:
        blocked: set[str] = set()
        for name in self.order:
            if MARK in (self.nodes[name].metadata or {}) or blocked & set(self.sources[name]):
                blocked.add(name)
                yield name

    def _total(self, name: str, now: dict[str, Tensor], steps: dict[str, list[Tensor]]) -> Any:
        """The sum of what a node hears at this step."""
        total: Any = 0.0
        for source in self.sources[name]:
            if (source, name) not in self.late:
                total = total + now[source]
            elif steps[source]:
                total = total + steps[source][-1]
        return total

    def _step(self, name: str, x: Any, frame: Tensor) -> Tensor:
        node = self.nodes[name]
        if self.kind(name) not in STATEFUL:
            return execute(node, x)
        rest = _array(node.v_reset) if hasattr(node, "v_reset") else torch.zeros(())
        v = self.membranes.get(name)
        if v is None:
            shape = (len(frame), *_array(node.r).shape)
            v = rest.expand(shape).clone().double()
        if self.kind(name) == "CubaLIF":
            i = self.currents.get(name, torch.zeros_like(v))
            x = self.currents[name] = i + (_array(node.w_in) * x - i) / self._steps(node.tau_syn)
        if hasattr(node, "tau") or hasattr(node, "tau_mem"):
            tau = self._steps(node.tau if hasattr(node, "tau") else node.tau_mem)
            v = v + (_array(node.v_leak) - v + _array(node.r) * x) / tau
        else:
            v = v + self.dt * _array(node.r) * x
        if not hasattr(node, "v_threshold"):
            self.membranes[name] = v
            return v
        s = (v > _array(node.v_threshold)).double()
        self.membranes[name] = torch.where(s > 0, rest.double(), v)
        return s

    def _steps(self, seconds: Any) -> Tensor:
        """A time constant in steps; float32 in the file: 2e-4 / 1e-4 is 2."""
        return torch.round(_array(seconds) / self.dt * 1e6) / 1e6


def execute(node: Any, x: Tensor) -> Tensor:
    """One NIR primitive without a membrane on (B, …), float64.  Raises `DataError` for another one."""
    match type(node).__name__:
        case "Output":
            return x
        case "Flatten":
            start, end = int(node.start_dim), int(node.end_dim)
            return x.flatten(start + 1 if start >= 0 else start, end + 1 if end >= 0 else end)
        case "Scale":
            return x * _array(node.scale)
        case "Threshold":
            return (x > _array(node.threshold)).double()
        case "Affine":
            return x @ _array(node.weight).T + _array(node.bias)
        case "Linear":
            return x @ _array(node.weight).T
        case "Conv1d":
            settings = (int(node.stride), int(node.padding), int(node.dilation), int(node.groups))
            return F.conv1d(x, _array(node.weight), _array(node.bias), *settings)
        case "Conv2d":
            options = (_pair(node.stride), _pair(node.padding), _pair(node.dilation), int(node.groups))
            return F.conv2d(x, _array(node.weight), _array(node.bias), *options)
        case "AvgPool2d" | "SumPool2d" as kind:
            kernel, stride, padding = _pair(node.kernel_size), _pair(node.stride), _pair(node.padding)
            mean = F.avg_pool2d(x, kernel, stride, padding)
            return mean * (kernel[0] * kernel[1]) if kind == "SumPool2d" else mean
        case kind:
            raise DataError(f"{kind}: this reader knows what snn-energy writes, not every NIR primitive")


def _array(values: Any) -> Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float64)


def _pair(values: Any) -> tuple[int, int]:
    first, second = np.broadcast_to(np.asarray(values), (2,))
    return int(first), int(second)
