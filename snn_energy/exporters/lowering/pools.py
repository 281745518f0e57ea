"""Reading pools, means and sums: an OR, a graded maximum, a relay, or part of the next weights."""

from __future__ import annotations

import math

import numpy as np

from snn_energy.exporters.lowering.base import ReaderBase, as_chw, pair
from snn_energy.exporters.lowering.plan import (
    Averaged,
    Logits,
    Pool,
    Stream,
    Synapse,
    TimeMean,
    Value,
    View,
    whole,
)
from snn_energy.graph import nodes as n


class PoolReader(ReaderBase):
    """Handlers of pools and reductions."""

    def max_pool(self, node: n.MaxPool, value: Value) -> Value:
        if node.ceil_mode or max(node.dilation) > 1 or len(node.kernel) != 2:
            self.refuse(node, "use a two-dimensional max pool without ceil_mode or dilation")
        kernel, stride, padding = pair(node.kernel), pair(node.stride), pair(node.padding)
        if isinstance(value, Stream) and self.is_whole(value):
            shape = as_chw(self.shape(node)[2:])
            self.plan.terms[node.name] = Pool("max", value.terms, value.shape, shape, kernel, stride, padding)
            return self.stream(node, node.name, shape, value.bias)
        if isinstance(value, View) and self.plan.sources[value.base].largest == 1:
            return self.spike_pool(node, value, kernel, stride, padding)
        self.refuse(node, "pool binary spikes or currents")
        raise AssertionError

    def spike_pool(
        self,
        node: n.Node,
        view: View,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> View:
        """A max of spikes is an OR: a stateless population that one spike makes fire."""
        base, term = self.base_shape(view), f"{node.name}.synapses"
        if self.is_whole(view):
            shape, weight = as_chw(self.shape(node)[2:]), np.ones((base[0], 1, *kernel))
            self.plan.terms[term] = Synapse("conv", view.base, shape, weight, stride, padding, groups=base[0])
            return self.add_source(node.name, "or", shape, made_of=(term,))
        index = self.step_index(node, view)
        if stride != (1, 1) or np.unique(index).size != index.size or index.size != np.prod(base):
            self.refuse(node, "a max pool over rearranged spikes must have stride 1")
        padded = np.pad(index, [(0, 0)] * (index.ndim - 2) + [(p, p) for p in padding], constant_values=-1)
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(-2, -1))
        used = windows.reshape(*index.shape, -1)
        targets = np.broadcast_to(index[..., None], used.shape)[used >= 0]
        self.gather(term, view.base, base, used[used >= 0], targets)
        self.add_source(node.name, "or", base, made_of=(term,))
        return View(node.name, view.index)

    def avg_pool(self, node: n.AvgPool, value: Value) -> Value:
        kernel, stride = pair(node.kernel), pair(node.stride)
        if kernel != stride or max(node.padding) or len(node.kernel) != 2:
            self.refuse(node, "use an average pool whose stride is its kernel, without padding")
        if node.ceil_mode:  # a window that covers a whole side ends with it
            sides = self.shape(self.graph[node.inputs[0]])[-2:]
            kernel = (min(kernel[0], sides[0]), min(kernel[1], sides[1]))
            if any(a % b for a, b in zip(sides, kernel, strict=True)):
                return self.cut_windows(node, value, kernel)
        return self.average(node, value, kernel)

    def cut_windows(self, node: n.AvgPool, value: Value, kernel: tuple[int, int]) -> View:
        """An average pool whose last windows hold fewer spikes: relayed as graded spikes.

        A spike in a window of s positions sends L/s, L being a multiple of every s: a message of L is 1.
        """
        if not isinstance(value, View) or not self.is_whole(value):
            self.refuse(
                node, "average spikes as their neuron laid them out, or maps that divide into windows"
            )
        assert isinstance(value, View)
        shape, base = as_chw(self.shape(node)[2:]), self.base_shape(value)
        rows, columns = (np.arange(side) // k for side, k in zip(base[1:], kernel, strict=True))
        sizes = np.broadcast_to(np.bincount(rows)[rows][:, None] * np.bincount(columns)[columns], base)
        channel = np.arange(base[0])[:, None, None]
        targets = (channel * shape[1] + rows[:, None]) * shape[2] + columns
        present = [int(size) for size in np.unique(sizes)]
        one, names = math.lcm(*present), []
        for size in present:
            names.append(f"{node.name}.windows{size}")
            sources = np.flatnonzero(sizes == size)
            self.plan.terms[names[-1]] = Synapse(
                "gather",
                value.base,
                shape,
                np.array([one / size]),
                sources=sources,
                targets=targets[sizes == size],
            )
        largest = one * self.plan.sources[value.base].largest
        self.add_source(node.name, "sum", shape, largest, tuple(names), 1 / one)
        return View(node.name, whole(self.t, shape).reshape(self.shape(node)))

    def adaptive_pool(self, node: n.AdaptiveAvgPool, value: Value) -> Value:
        sides = self.shape(self.graph[node.inputs[0]])[-2:]
        if any(a % b for a, b in zip(sides, node.size, strict=True)):
            self.refuse(node, "the map must divide into the grid")
        return self.average(node, value, (sides[0] // node.size[0], sides[1] // node.size[1]))

    def average(self, node: n.Node, value: Value, kernel: tuple[int, int]) -> Value:
        if kernel == (1, 1) and isinstance(value, View | Averaged | Stream):
            return value
        if isinstance(value, View):
            windows = np.lib.stride_tricks.sliding_window_view(value.index, kernel, axis=(-2, -1))
            cut = windows[..., :: kernel[0], :: kernel[1], :, :]
            index = cut.reshape(*cut.shape[:-2], -1)
            return Averaged(value.base, index, kernel if self.is_whole(value) else None)
        if isinstance(value, Stream) and self.is_whole(value):
            return self.relayed_mean(node, value, kernel)
        self.refuse(node, "average spikes or currents")
        raise AssertionError

    def relayed_mean(self, node: n.Node, stream: Stream, kernel: tuple[int, int]) -> Stream:
        """The mean of a current: relayed as graded spikes, summed by synapses of weight 1."""
        sides = (stream.shape[1] // kernel[0], stream.shape[2] // kernel[1])
        shape = (stream.shape[0], *sides)
        self.plan.terms[node.name] = Pool("sum", stream.terms, stream.shape, shape, kernel, kernel)
        return self.stream(node, node.name, shape, stream.bias)

    def reduce(self, node: n.Reduce, value: Value) -> Value:
        source = self.graph[node.inputs[0]]
        lead = 1 if self.is_static(source) else 0
        axes = tuple(a % len(source.shape) + lead for a in node.axes)
        if node.kind == "mean" and axes == (0,):
            if isinstance(value, Stream):
                return Logits(value)
            if isinstance(value, View | Averaged):
                return TimeMean(value)
        if node.kind == "mean" and isinstance(value, View | Averaged) and 0 not in axes:
            ndim = value.index.ndim - isinstance(value, Averaged)  # the last axis is what is averaged already
            kept = [a for a in range(ndim) if a not in axes]
            moved = value.index.transpose(*kept, *axes, *range(ndim, value.index.ndim))
            return Averaged(value.base, moved.reshape(*moved.shape[: len(kept)], -1))
        if node.kind == "mean" and isinstance(value, Stream) and self.is_space(value, axes):
            return self.relayed_mean(node, value, (value.shape[1], value.shape[2]))
        if node.kind == "sum" and isinstance(value, View) and 0 not in axes:
            return self.summed(node, value, axes)
        self.refuse(node, "means over space or over all steps, and sums of spikes, can be lowered")
        raise AssertionError

    def is_space(self, stream: Stream, axes: tuple[int, ...]) -> bool:
        """Do `axes` cover exactly the positions of each channel?"""
        kept = [a for a in range(stream.index.ndim) if a not in axes]
        groups = stream.index.transpose(*kept, *axes).reshape(
            -1, int(np.prod([stream.index.shape[a] for a in axes]))
        )
        whole_map = whole(self.t, stream.shape).reshape(-1, stream.shape[1] * stream.shape[2])
        return groups.shape == whole_map.shape and bool(np.array_equal(np.sort(groups, axis=1), whole_map))

    def summed(self, node: n.Node, view: View, axes: tuple[int, ...]) -> Stream:
        """Σ of spikes over some axes: synapses of weight 1 into one neuron per remaining position."""
        index = self.step_index(node, view)
        axes = tuple(a - 2 for a in axes)
        kept = [a for a in range(index.ndim) if a not in axes]
        groups = index.transpose(*kept, *axes).reshape(int(np.prod([index.shape[a] for a in kept])), -1)
        shape = (len(groups), 1, 1)
        targets = np.broadcast_to(np.arange(len(groups))[:, None], groups.shape)
        self.gather(node.name, view.base, shape, groups, targets)
        return self.stream(node, node.name, shape)
