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

from snn_energy.profiling.kinds import REAL
from snn_energy.profiling.products import attention, contract
from snn_energy.profiling.provenance import Tag
from snn_energy.profiling.recorder import Recorder
from snn_energy.profiling.synapses import bind, weighted_linear

_HEADS = (
    "query", "key", "value", "embed_dim_to_check", "num_heads", "in_proj_weight", "in_proj_bias", "bias_k",
    "bias_v", "add_zero_attn", "dropout_p", "out_proj_weight", "out_proj_bias", "training",
    "key_padding_mask", "need_weights", "attn_mask", "use_separate_proj_weight", "q_proj_weight",
    "k_proj_weight", "v_proj_weight",
)  # fmt: skip
# by function: gates; per hidden element and step: special functions, multiplications, additions
GATES = {
    "lstm": (4, 5, 3, 5),  # i f o g and tanh(c); f⊙c, i⊙g, o⊙tanh(c); four gate sums and f⊙c + i⊙g
    "gru": (3, 3, 3, 5),  # r z n; r⊙(Uh), (1-z)⊙n, z⊙h; three gate sums, 1 - z and the last sum
    "rnn_tanh": (1, 1, 0, 1),
    "rnn_relu": (1, 1, 0, 1),
}


def multi_head_attention(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Projections of query, key and value as linear layers, the attention, the output projection."""
    out = func(*args, **kwargs)
    given = bind(_HEADS, args, kwargs)
    if any(given.get(name) is not None for name in ("bias_k", "bias_v")) or given.get("add_zero_attn"):
        rec.uncounted("multi_head_attention_forward with bias_k, bias_v or add_zero_attn", out)
        return out
    heads = given["num_heads"]
    parts = []
    for name, weight, bias in _projections(given):
        x = _turned(rec, given[name])
        y = _linear(rec, x, weight, bias, name)
        parts.append(_known(rec, y.unflatten(-1, (heads, -1)).transpose(1, 2)))
    mixed = attention(rec, F.scaled_dot_product_attention, (*parts, _allowed(given, heads)), {})
    _linear(rec, _known(rec, mixed.transpose(1, 2).flatten(2)), given["out_proj_weight"],
            given.get("out_proj_bias"), "out")  # fmt: skip
    rec.called.add(f"{rec.paths[-1]}.out_proj".lstrip("."))  # whose weights are used without calling it
    rec.mark(out, rec.plain)
    return out


def _projections(given: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor, torch.Tensor | None]]:
    """(operand, weight, bias) of the three input projections."""
    bias = given.get("in_proj_bias")
    biases = (None, None, None) if bias is None else bias.chunk(3)
    if given.get("use_separate_proj_weight"):
        weights = tuple(given[f"{letter}_proj_weight"] for letter in "qkv")
    else:
        weights = given["in_proj_weight"].chunk(3)
    yield from zip(("query", "key", "value"), weights, biases, strict=True)


def _allowed(given: dict[str, Any], heads: int) -> torch.Tensor | None:
    """Both masks as one: true, or not minus infinity, where a pair may attend; (B or 1, heads or 1, L, S)."""
    mask, padding = given.get("attn_mask"), given.get("key_padding_mask")
    allowed = None
    if mask is not None:
        allowed = ~mask if mask.dtype == torch.bool else mask > -math.inf
        allowed = allowed.unflatten(0, (-1, heads)) if allowed.dim() == 3 else allowed[None, None]
    if padding is not None:
        open_ = (~padding if padding.dtype == torch.bool else padding > -math.inf)[..., None, None, :]
        open_ = open_ if open_.dim() == 4 else open_[None]
        allowed = open_ if allowed is None else allowed & open_
    return allowed


def recurrent(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """lstm, gru, rnn_tanh, rnn_relu: per layer, direction and step the input's and the state's products.

    Layers run once more, one at a time, for the states between them.
    """
    out, name = func(*args, **kwargs), func.__name__
    if len(args) < 9 or not isinstance(args[3], bool):
        rec.uncounted(f"{name} of a packed sequence", out)
        return out
    x, state, weights, biased, layers, _, _, both, batch_first = args[:9]
    directions = 2 if both else 1
    each = len(weights) // (layers * directions)
    if each % 2:
        rec.uncounted(f"{name} with proj_size", out)
        return out
    states = state if name == "lstm" else (state,)
    for layer in range(layers):
        rows = slice(layer * directions, (layer + 1) * directions)
        mine = weights[rows.start * each : rows.stop * each]
        start = tuple(s[rows] for s in states)
        given = start if name == "lstm" else start[0]
        y = func(x, given, mine, biased, 1, 0.0, False, both, batch_first)[0]
        for way, hidden in enumerate(y.chunk(directions, -1)):
            before = _previous(hidden, start[0][way], 1 if batch_first else 0, way == 1)
            turn = (lambda t: t) if batch_first else (lambda t: _turned(rec, t))
            _cell(rec, name, turn(x), turn(_known(rec, before)), mine[way * each : (way + 1) * each],
                  f"{layer}.{way}")  # fmt: skip
        x = _known(rec, y)
    rec.mark(out, rec.plain)
    return out


def recurrent_cell(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """lstm_cell, gru_cell, rnn_tanh_cell, rnn_relu_cell: one step of one layer."""
    out = func(*args, **kwargs)
    x, state, *weights = args
    state = state[0] if isinstance(state, (tuple, list)) else state
    _cell(rec, func.__name__.removesuffix("_cell"), x, state, [w for w in weights if w is not None], "")
    rec.mark(out, rec.plain)
    return out


def _cell(
    rec: Recorder, name: str, x: torch.Tensor, before: torch.Tensor, weights: Any, variant: str
) -> None:
    """Both products of one direction, and the arithmetic of its gates; x (B, …, F), states (B, …, H)."""
    _, special, multiplies, adds = GATES[name]
    biases = weights[2:] if len(weights) > 2 else (None, None)
    for what, operand, weight, bias in zip(("input", "state"), (x, before), weights, biases, strict=False):
        _linear(rec, operand, weight, bias, f"{variant}.{what}", compute=False)
    elements = before.numel()
    tally = rec.tally("special", variant)
    tally.add(special_evals=special * elements, input_elements=elements)
    tally.fixed.setdefault("details", {"function": name})
    for op, times in (("mul", multiplies), ("add", adds)):
        if times:
            tally = rec.tally(op, variant)
            tally.see_left(REAL)
            tally.see_right(REAL)
            tally.read("valid", tuple(before.shape[:1]), None, times * elements // before.shape[0])
            size = times * elements
            tally.add(input_elements=size, right_elements=size, output_elements=size)
            tally.fixed.setdefault("details", {"function": name})


def _previous(hidden: torch.Tensor, start: torch.Tensor, dim: int, backwards: bool) -> torch.Tensor:
    """The state before each step, from the states after it and the first one (B, H)."""
    steps, first = hidden.shape[dim], start.unsqueeze(dim)
    if backwards:
        return torch.cat([hidden.narrow(dim, 1, steps - 1), first], dim)
    return torch.cat([first, hidden.narrow(dim, 0, steps - 1)], dim)


def bilinear(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """bilinear: x₁ with the weight (one synapse per output and input of x₂), then the result with x₂."""
    out = func(*args, **kwargs)
    given = bind(("input1", "input2", "weight", "bias"), args, kwargs)
    a, b, weight = given["input1"], given["input2"], given["weight"]
    lead = "abcdefgh"[: a.dim() - 1]
    between = _known(rec, torch.einsum(f"{lead}i,kij->{lead}kj", a, weight))
    contract(rec, a, weight, None, (lead + "i", "kij", lead + "kj"), "weight")
    tally = contract(rec, between, b, out, (lead + "kj", lead + "j", lead + "k"), "input")
    tally.add(bias_adds=0 if given.get("bias") is None else out.numel())
    return out


def _linear(
    rec: Recorder, x: torch.Tensor, weight: torch.Tensor, bias: Any, variant: str, compute: bool = True
) -> torch.Tensor:
    """Count a linear layer, and run it unless only its shape is wanted."""
    if compute:
        y = F.linear(x, weight, bias)
    else:
        y = x.new_empty(()).expand(*x.shape[:-1], weight.shape[0])
    weighted_linear(rec, x, y, weight, bias, variant)
    return y


def _known(rec: Recorder, x: torch.Tensor) -> torch.Tensor:
    """`x`, which was made here, marked as seen."""
    rec.mark(x, rec.plain)
    return x


def _turned(rec: Recorder, x: torch.Tensor) -> torch.Tensor:
    """(L, B, F) as (B, L, F), or (L, F) as (1, L, F), with what is known of it."""
    turned = x.transpose(0, 1) if x.dim() == 3 else x.unsqueeze(0)
    rec.mark(turned, rec.tag(x) or Tag(rec.epoch, constant=True))
    return turned
