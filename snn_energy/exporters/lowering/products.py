"""Products of spikes: attentions, with a norm behind them or without, and gates.

A norm behind Q(KᵀV) is a factor and an offset for each channel of whole numbers.  A chip has no thresholds of
their own for the channels of a population, but synapses: the attention's numbers are relayed as graded spikes
through a 1×1 convolution of each channel by itself, its weights the factors, its bias the offsets.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from snn_energy.exporters.lowering.plan import Attention, Inverse, Product, Stream, Value, View
from snn_energy.exporters.lowering.pools import PoolReader
from snn_energy.graph import nodes as n
from snn_energy.graph.graph import Graph
from snn_energy.graph.simplify import norm_affine, rebuild


def norms_behind_products(graph: Graph) -> Graph:
    """Every norm of maps that reads a product, through rearrangements only, as a convolution of each channel
    by itself."""
    nodes: list[n.Node] = []
    for node in graph:
        source = graph[node.inputs[0]] if node.inputs else None
        while isinstance(source, n.Reshape | n.Permute | n.Scale):
            source = graph[source.inputs[0]]
        if isinstance(node, n.Norm) and isinstance(source, n.MatMul) and node.axis == len(node.shape) - 3:
            scale, shift = norm_affine(node)
            where = {key: getattr(node, key) for key in ("name", "inputs", "shape", "module")}
            node = n.Conv(
                **where,
                weight=scale.reshape(-1, 1, 1, 1).astype(np.float32),
                bias=shift.astype(np.float32),
                stride=(1, 1),
                padding=(0, 0),
                dilation=(1, 1),
                groups=len(scale),
            )
        nodes.append(node)
    return rebuild(graph, nodes)


class ProductReader(PoolReader):
    """Handlers of products."""

    def matmul(self, node: n.MatMul, left: Value, right: Value) -> Value:
        if isinstance(left, View) and isinstance(right, View):
            return Product(left, right)
        if isinstance(left, View) and isinstance(right, Product):  # Q (KᵀV)
            return self.attention(node, left, right.left, right.right, right.scale)
        if isinstance(left, Product) and isinstance(right, View):  # (Q Kᵀ) V: the same sums
            return self.attention(node, left.left, left.right, right, left.scale)
        self.refuse(node, "attention on a chip is Q(KᵀV) of spikes, without softmax")
        raise AssertionError

    def turned(self, node: n.Node, value: Product) -> Product:
        """(A B)ᵀ = Bᵀ Aᵀ, of the last two axes."""
        last = len(node.shape) - 1
        if not isinstance(node, n.Permute) or node.order != (*range(last - 1), last, last - 1):
            self.refuse(node, "a product of spikes may be transposed, not rearranged")
        return Product(_transposed(value.right), _transposed(value.left), value.scale)

    def attention(self, node: n.Node, q: View, k_transposed: View, v: View, scale: float) -> Value:
        """Q(KᵀV), or its transpose ((VᵀK)Qᵀ), over chunks of steps."""
        flipped = (_transposed(v), _transposed(k_transposed), _transposed(q))
        for views, back in (((q, k_transposed, v), False), (flipped, True)):
            order = self.tokens(*views)
            if order is not None:
                heads, chunk = order.shape[2], self.t // order.shape[0]
                first, second, third = (view.base for view in views)
                shape = self.base_shape(views[0])
                self.plan.terms[node.name] = Attention(first, second, third, shape, heads, chunk, scale)
                self.plan.biases[node.name] = np.zeros(shape[0])
                index = order.swapaxes(-1, -2) if back else order
                return Stream((node.name,), np.zeros(shape[0]), shape, index)
        self.refuse(
            node,
            "q, k and v must be binary spikes, heads split along the channels, tokens (T/chunk, B, heads, "
            "chunk·H·W, head dim), without a mask over steps",
        )
        raise AssertionError

    def tokens(self, q: View, k_transposed: View, v: View) -> np.ndarray | None:
        """The index of tokens (T/chunk, 1, heads, chunk·H·W, d), if all three lie so."""
        channels, height, width = self.base_shape(q)
        tokens = height * width
        views = (q, k_transposed, v)
        if q.index.ndim != 5 or q.index.shape[-2] % tokens or channels % q.index.shape[2]:
            return None
        heads, chunk = q.index.shape[2], q.index.shape[-2] // tokens
        if chunk > self.t or self.t % chunk:
            return None
        order = np.arange(self.t * channels * tokens)
        order = order.reshape(self.t // chunk, chunk, 1, heads, channels // heads, tokens)
        order = order.transpose(0, 2, 3, 1, 5, 4).reshape(self.t // chunk, 1, heads, chunk * tokens, -1)
        wanted = (order, order.swapaxes(-1, -2), order)
        lie_so = all(np.array_equal(view.index, want) for view, want in zip(views, wanted, strict=True))
        binary = all(self.plan.sources[view.base].largest == 1 for view in views)
        return order if lie_so and binary else None

    def scale(self, node: n.Scale, value: Value) -> Value:
        if isinstance(value, View) and (node.factor, node.offset) == (-1.0, 1.0):
            return Inverse(value)
        if isinstance(value, Product) and node.offset == 0:
            return Product(value.left, value.right, value.scale * node.factor)
        if isinstance(value, Stream) and node.offset == 0 and len(value.terms) == 1:
            term = self.plan.terms[value.terms[0]]
            if isinstance(term, Attention):
                scaled = dataclasses.replace(term, scale=term.scale * node.factor)
                self.plan.terms[value.terms[0]] = scaled
                return value
        self.refuse(node, "fold the factor into the weights or the threshold")
        raise AssertionError

    def is_product(self, value: Stream) -> bool:
        """Is it an attention alone, laid out as a map?"""
        terms = [self.plan.terms[name] for name in value.terms]
        return len(terms) == 1 and isinstance(terms[0], Attention) and self.is_whole(value)

    def relayed_product(self, node: n.Node, value: Stream) -> str:
        """A source that passes an attention's whole numbers on as graded spikes."""
        (name,) = value.terms
        term = self.plan.terms[name]
        assert isinstance(term, Attention)
        channels, height, width = term.shape
        largest = term.chunk * height * width * channels // term.heads
        relay = f"{node.name}.relay"
        self.add_source(relay, "product", term.shape, largest, (name,), term.scale)
        return relay

    def mul(self, node: n.Mul, left: Value, right: Value) -> Value:
        """An AND of spikes, or of spikes and their absence, laid out as the operand with all positions."""
        if isinstance(left, Inverse) or isinstance(right, Inverse):
            return self.and_not(node, left, right)
        if not isinstance(left, View) or not isinstance(right, View):
            self.refuse(node, "only spikes can be multiplied (an AND)")
        assert isinstance(left, View) and isinstance(right, View)
        if any(self.plan.sources[v.base].largest != 1 for v in (left, right)):
            self.refuse(node, "only binary spikes can be multiplied (an AND)")
        if left.index.size < right.index.size:
            left, right = right, left
        a, b = self.step_index(node, left), self.step_index(node, right)
        shape = self.base_shape(left)
        if a.size != np.prod(shape) or np.unique(a).size != a.size:
            self.refuse(node, "one operand must hold every spike of its neurons once")
        first = self.gather(f"{node.name}.left", left.base, shape, a, a)
        second = self.gather(f"{node.name}.right", right.base, shape, np.broadcast_to(b, a.shape), a)
        self.add_source(node.name, "and", shape, made_of=(first, second))
        return View(node.name, left.index)

    def and_not(self, node: n.Mul, left: Value, right: Value) -> Value:
        """s·(1 - r): a spike of s that no spike of r takes away."""
        kept, taken = (right, left) if isinstance(left, Inverse) else (left, right)
        if not isinstance(kept, View) or not isinstance(taken, Inverse):
            self.refuse(node, "one operand must be spikes")
        assert isinstance(kept, View) and isinstance(taken, Inverse)
        views = (kept, taken.view)
        shapes = {self.base_shape(view) for view in views}
        if any(self.plan.sources[view.base].largest != 1 for view in views) or len(shapes) > 1:
            self.refuse(node, "only binary spikes of one shape can take one another away")
        a, b = (self.step_index(node, view) for view in views)
        if a.shape != b.shape or a.size != np.prod(self.base_shape(kept)) or np.unique(a).size != a.size:
            self.refuse(node, "spikes and what takes them away must lie alike, each once")
        first = self.gather(f"{node.name}.left", kept.base, self.base_shape(kept), a, a)
        second = self.gather(f"{node.name}.right", taken.view.base, self.base_shape(kept), b, a, weight=-1.0)
        self.add_source(node.name, "and not", self.base_shape(kept), made_of=(first, second))
        return View(node.name, kept.index)


def _transposed(view: View) -> View:
    return View(view.base, view.index.swapaxes(-1, -2))
