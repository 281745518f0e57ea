"""Counting rules of functions that hold several products: multi-head attention, recurrent layers, bilinear.

The function itself runs as it was called.  Its parts are then counted from what went in; where a part needs
a value that never came out, that value is computed once more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

from snn_energy.profiling.call import Call
from snn_energy.profiling.kinds import REAL, ValueSet
from snn_energy.profiling.products import attend, contract
from snn_energy.profiling.provenance import CURRENT, Tag
from snn_energy.profiling.synapses import linear_layer, weighted
from snn_energy.profiling.tally import Reading

# by function: gates; per hidden element and step: special functions, multiplications, additions
GATES = {
    "lstm": (4, 5, 3, 5),  # i f o g and tanh(c); f⊙c, i⊙g, o⊙tanh(c); four gate sums and f⊙c + i⊙g
    "gru": (3, 3, 3, 5),  # r z n; r⊙(Uh), (1-z)⊙n, z⊙h; three gate sums, 1 - z and the last sum
    "rnn_tanh": (1, 1, 0, 1),
    "rnn_relu": (1, 1, 0, 1),
}


def multi_head_attention(call: Call) -> Tag:
    """Projections of query, key and value as linear layers, the attention, the output projection."""
    out, rec = call.run(), call.rec
    if any(call.get(name) is not None for name in ("bias_k", "bias_v")) or call.get("add_zero_attn"):
        rec.uncounted("multi_head_attention_forward with bias_k, bias_v or add_zero_attn", out)
        return call.known()
    heads = call["num_heads"]
    parts = []
    for name, weight, bias in _projections(call):
        y = _linear(call, _turned(call, call[name]), weight, bias, name)
        parts.append(_known(call, y.unflatten(-1, (heads, -1)).transpose(1, 2), CURRENT))
    mask = _allowed(call, heads)
    query, key, value = parts
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    attend(call, query, key, value, mixed, mask, causal=False)
    joined = _known(call, mixed.transpose(1, 2).flatten(2), CURRENT)
    _linear(call, joined, call["out_proj_weight"], call.get("out_proj_bias"), "out")
    rec.called.add(f"{rec.paths[-1]}.out_proj".lstrip("."))  # whose weights are used without calling it
    return call.known(CURRENT, sources=())


def _projections(call: Call) -> Iterator[tuple[str, torch.Tensor, torch.Tensor | None]]:
    """(operand, weight, bias) of the three input projections."""
    bias = call.get("in_proj_bias")
    biases = (None, None, None) if bias is None else bias.chunk(3)
    if call.get("use_separate_proj_weight"):
        weights = tuple(call[f"{letter}_proj_weight"] for letter in "qkv")
    else:
        weights = call["in_proj_weight"].chunk(3)
    yield from zip(("query", "key", "value"), weights, biases, strict=True)


def _allowed(call: Call, heads: int) -> torch.Tensor | None:
    """Both masks as one: true, or not minus infinity, where a pair may attend; (B or 1, heads or 1, L, S)."""
    mask, padding = call.get("attn_mask"), call.get("key_padding_mask")
    allowed = None
    if mask is not None:
        allowed = ~mask if mask.dtype == torch.bool else mask > -math.inf
        allowed = allowed.unflatten(0, (-1, heads)) if allowed.dim() == 3 else allowed[None, None]
    if padding is not None:
        open_ = (~padding if padding.dtype == torch.bool else padding > -math.inf)[..., None, None, :]
        open_ = open_ if open_.dim() == 4 else open_[None]
        allowed = open_ if allowed is None else allowed & open_
    return allowed


def recurrent(call: Call) -> Tag:
    """lstm, gru, rnn_tanh, rnn_relu: per layer, direction and step the input's and the state's products.

    Layers run once more, one at a time, for the states between them.
    """
    out, name, func = call.run(), call.name, call.func
    if call.get("batch_sizes") is not None or not isinstance(call.get("has_biases"), bool):
        call.rec.uncounted(f"{name} of a packed sequence", out)
        return call.known()
    x, state, weights, biased, layers, both, batch_first = (
        call[key]
        for key in ("input", "hx", "params", "has_biases", "num_layers", "bidirectional", "batch_first")
    )
    directions = 2 if both else 1
    each = len(weights) // (layers * directions)
    if each % 2:
        call.rec.uncounted(f"{name} with proj_size", out)
        return call.known()
    states = state if name == "lstm" else (state,)
    for layer in range(layers):
        rows = slice(layer * directions, (layer + 1) * directions)
        mine = weights[rows.start * each : rows.stop * each]
        start = tuple(s[rows] for s in states)
        given = start if name == "lstm" else start[0]
        y = func(x, given, mine, biased, 1, 0.0, False, both, batch_first)[0]
        for way, hidden in enumerate(y.chunk(directions, -1)):
            before = _known(call, _previous(hidden, start[0][way], 1 if batch_first else 0, way == 1))
            given_x, given_h = (x, before) if batch_first else (_turned(call, x), _turned(call, before))
            _cell(call, name, given_x, given_h, mine[way * each : (way + 1) * each], f"{layer}.{way}")
        x = _known(call, y)
    return call.known(sources=()).but(values=None, still=False, sites=0)


def recurrent_cell(call: Call) -> Tag:
    """lstm_cell, gru_cell, rnn_tanh_cell, rnn_relu_cell: one step of one layer."""
    call.run()
    x, state, *weights = (call.get(key) for key in call.operation.parameters)
    state = state[0] if isinstance(state, (tuple, list)) else state
    name = call.name.removesuffix("_cell")
    _cell(call, name, x, state, [w for w in weights if w is not None], "")
    return call.known(sources=()).but(values=None, still=False, sites=0)


def _cell(call: Call, name: str, x: torch.Tensor, before: torch.Tensor, weights: Any, variant: str) -> None:
    """Both products of one direction, and the arithmetic of its gates; x (B, …, F), states (B, …, H)."""
    _, special, multiplies, adds = GATES[name]
    biases = weights[2:] if len(weights) > 2 else (None, None)
    for what, operand, weight, bias in zip(("input", "state"), (x, before), weights, biases, strict=False):
        _linear(call, operand, weight, bias, f"{variant}.{what}", compute=False)
    elements, shape = before.numel(), tuple(before.shape[:1])
    row = call.row("special", variant)
    row.add(special_evals=special * elements, input_elements=elements)
    row.fixed.setdefault("details", {"function": name})
    for op, times in (("mul", multiplies), ("add", adds)):
        if times:
            row = call.row(op, variant)
            row.see_left(REAL)
            row.see_right(REAL)
            row.read("valid", Reading(shape, None, times * elements // before.shape[0], order=call.order))
            size = times * elements
            row.add(input_elements=size, right_elements=size, output_elements=size)
            row.fixed.setdefault("details", {"function": name})


def _previous(hidden: torch.Tensor, start: torch.Tensor, dim: int, backwards: bool) -> torch.Tensor:
    """The state before each step, from the states after it and the first one (B, H)."""
    steps, first = hidden.shape[dim], start.unsqueeze(dim)
    if backwards:
        return torch.cat([hidden.narrow(dim, 1, steps - 1), first], dim)
    return torch.cat([first, hidden.narrow(dim, 0, steps - 1)], dim)


def bilinear(call: Call) -> Tag:
    """bilinear: x₁ with the weight (one synapse per output and input of x₂), then the result with x₂."""
    out, a, b, weight = call.run(), call["input1"], call["input2"], call["weight"]
    lead = "abcdefgh"[: a.dim() - 1]
    between = _known(call, torch.einsum(f"{lead}i,kij->{lead}kj", a, weight), CURRENT)
    contract(call, a, weight, None, (lead + "i", "kij", lead + "kj"), "weight")
    row = contract(call, between, b, out, (lead + "kj", lead + "j", lead + "k"), "input")
    row.add(bias_adds=0 if call.get("bias") is None else out.numel())
    return call.known(row=row, synapse=row).but(synapse=None)


def _linear(
    call: Call, x: torch.Tensor, weight: torch.Tensor, bias: Any, variant: str, compute: bool = True
) -> torch.Tensor:
    """Count a linear layer, and run it unless only its shape is wanted."""
    if compute:
        y = F.linear(x, weight, bias)
    else:
        y = x.new_empty(()).expand(*x.shape[:-1], weight.shape[0])
    weighted(call, linear_layer(*weight.shape), weight, bias, x, y, variant)
    return y


def _known(call: Call, x: torch.Tensor, values: ValueSet | None = None) -> torch.Tensor:
    """`x`, which was made here, marked as seen."""
    call.rec.mark(x, call.rec.plain.but(values=values))
    return x


def _turned(call: Call, x: torch.Tensor) -> torch.Tensor:
    """(L, B, F) as (B, L, F), or (L, F) as (1, L, F), with what is known of it."""
    turned = x.transpose(0, 1) if x.dim() == 3 else x.unsqueeze(0)
    tag = call.tag(x)
    call.rec.mark(turned, call.rec.fixed if tag is None else tag)
    return turned
