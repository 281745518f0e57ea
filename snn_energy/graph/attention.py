"""Attention over chunks of steps without moving tokens: the same products on the layout that is there.

A model writes Q (KᵀV · s) over the c·N tokens of a chunk with tokens in front of channels, so each of q, k, v
is permuted from (chunk, c, B, heads, d, N) to (chunk, B, heads, c·N, d), and the result back.  Each (d, N)
block is Kᵀ already.  So KᵀV is a product per step, summed over the c steps of the chunk (sums of products of
spikes are whole numbers, exact in any order), and Q (KᵀV · s), transposed, is (KᵀV · s)ᵀ Qᵀ, which comes out
in the layout that the next neuron reads.  Nothing is permuted but pairs of last axes inside products.
"""

from __future__ import annotations

import dataclasses

from snn_energy.graph import nodes as n
from snn_energy.graph.dims import Shape
from snn_energy.graph.graph import Graph
from snn_energy.graph.nodes import NEURONS, Node
from snn_energy.graph.simplify import rebuild

TO_TOKENS = (0, 2, 3, 1, 5, 4)  # (chunk, c, B, heads, d, N) -> (chunk, B, heads, c, N, d)
FROM_TOKENS = (0, 3, 1, 2, 5, 4)  # and back


def direct_attention(graph: Graph) -> Graph:
    """Every attention of the form above, on spikes, rewritten; all else as it is."""
    replaced: dict[str, list[Node]] = {}
    for node in graph.of_type(n.MatMul):
        found = _match(graph, node)
        if found is not None:
            replaced[found[-1].name] = found
    gone = {new.name for group in replaced.values() for new in group[:-1]}
    kept = [node for node in graph if node.name not in gone]
    nodes = [new for node in kept for new in replaced.get(node.name, [node])]
    return rebuild(graph, nodes) if replaced else graph


def _match(graph: Graph, product: n.MatMul) -> list[Node] | None:
    """The new nodes for Q @ (KᵀV · s) = `product`, the last under the name that its readers know."""
    end = _only_chain(graph, product, (n.Reshape, n.Permute, n.Reshape))
    query, inner = graph.producers(product)
    scale = inner if isinstance(inner, n.Scale) else None
    pair = graph[scale.inputs[0]] if scale else inner
    if end is None or not isinstance(pair, n.MatMul) or _order(end[1]) != FROM_TOKENS:
        return None
    if any(len(graph.consumers(node.name)) > 1 for node in (pair, inner)):
        return None
    key, value = graph.producers(pair)
    if not isinstance(key, n.Permute) or key.order != (0, 1, 2, 4, 3):
        return None
    sources = [_blocks(graph, node) for node in (query, graph[key.inputs[0]], value)]
    if any(source is None for source in sources):
        return None
    q, k, v = (source for source in sources if source is not None)
    if not q.shape == k.shape == v.shape:
        return None
    return _rewritten(q, k, v, pair, scale, product, end[2])


def _rewritten(
    q: Node, k: Node, v: Node, pair: Node, scale: n.Scale | None, product: Node, end: Node
) -> list[Node]:
    chunks, c, batch, heads, d, _ = q.shape
    square: Shape = (chunks, c, batch, heads, d, d)
    module = product.module

    def swapped(source: str, shape: Shape) -> n.Permute:
        shape = (*shape[:-2], shape[-1], shape[-2])
        return n.Permute(
            name=f"{source}.T", inputs=(source,), shape=shape, order=(0, 1, 2, 3, 5, 4), module=module
        )

    v_t = swapped(v.name, v.shape)
    per_step = n.MatMul(name=f"{pair.name}.per_step", inputs=(k.name, v_t.name), shape=square, module=module)
    summed: Shape = (chunks, 1, batch, heads, d, d)
    total = n.Reduce(
        name=pair.name,
        inputs=(per_step.name,),
        shape=summed,
        kind="sum",
        axes=(1,),
        keepdims=True,
        module=module,
    )
    nodes: list[Node] = [v_t, per_step, total]
    if scale is not None:
        nodes.append(dataclasses.replace(scale, inputs=(total.name,), shape=summed))
    kv_t = swapped(nodes[-1].name, summed)
    out = n.MatMul(name=product.name, inputs=(kv_t.name, q.name), shape=q.shape, module=module)
    return [*nodes, kv_t, out, dataclasses.replace(end, inputs=(out.name,))]


def _blocks(graph: Graph, tokens: Node) -> Node | None:
    """The (chunk, c, B, heads, d, N) view of spikes from which token-first q, k or v was made."""
    permuted = graph[tokens.inputs[0]] if isinstance(tokens, n.Reshape) else None
    if not isinstance(permuted, n.Permute) or permuted.order != TO_TOKENS:
        return None
    view = graph[permuted.inputs[0]]
    chunks, _, batch, heads, d, _ = view.shape
    same = (tokens.shape[:3], tokens.shape[-1]) == ((chunks, batch, heads), d)
    return view if isinstance(view, n.Reshape) and same and _spiking(graph, view) else None


def _spiking(graph: Graph, node: Node) -> bool:
    """Are the values 0 and 1: a neuron's output through views and max pools?"""
    while isinstance(node, n.Reshape | n.Permute | n.MaxPool):
        node = graph[node.inputs[0]]
    return isinstance(node, NEURONS)


def _only_chain(graph: Graph, node: Node, kinds: tuple[type[Node], ...]) -> list[Node] | None:
    """The nodes of the given kinds that follow one another, each the only reader of the one before."""
    chain: list[Node] = []
    for kind in kinds:
        readers = graph.consumers(node.name)
        if len(readers) != 1 or not isinstance(readers[0], kind) or node.name in graph.outputs:
            return None
        node = readers[0]
        chain.append(node)
    return chain


def _order(node: Node) -> tuple[int, ...]:
    return node.order if isinstance(node, n.Permute) else ()
