"""Synapses, products, recurrent layers and pools of one call, counted in plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import brute
import expected
import torch
from expected import Brute, Operand, Rows, kinds, units_of
from spellings import Activation, Example
from torch import Tensor
from torch.nn import functional as F

# -- synapses -----------------------------------------------------------------------------------------------


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value) * (axes if len(value) == 1 else 1)


def _weighted(name: str, x: Operand, weights: list[tuple[tuple[int, ...], int]], bias: int) -> dict[str, Any]:
    """`weights`: (input index, synapses that leave it)."""
    units = dict(zip(x.items, units_of(x.items.values()) or [0] * x.size, strict=True))
    ac = sum(units[i] * n for i, n in weights) if x.events else 0
    mac = 0 if x.events else sum(n for _, n in weights)
    return {"ac": ac, "mac": mac, "bias_adds": bias, "input_kind": x.kind}


def conv(call: Brute) -> Rows:
    x, weight, axes = call.of("input"), call.operands["weight"], call.operands["weight"].dim() - 2
    transposed = "transpose" in call.example.name
    walk = brute.transposed_synapses if transposed else brute.conv_synapses
    stride, dilation = (_per_axis(call.given(n, 1), axes) for n in ("stride", "dilation"))
    padding = call.given("padding", 0)
    if padding == "same":
        padding = tuple(d * (k - 1) // 2 for k, d in zip(weight.shape[2:], dilation, strict=True))
    padding = _per_axis(0 if padding == "valid" else padding, axes)
    batched = call.out.dim() == axes + 2
    shape = x.shape[1:] if batched else x.shape
    synapses = walk(
        shape, weight.shape, stride, padding, dilation, call.given("groups", 1), call.out.shape[-axes:]
    )
    sources = [source for source, _ in synapses]
    leaving = [((b, *s) if batched else s, 1) for b in range(x.shape[0] if batched else 1) for s in sources]
    bias = 0 if call.given("bias") is None else call.out.numel()
    return {f"conv{'_transpose' if transposed else ''}{axes}d": _weighted("conv", x, leaving, bias)}


def linear(call: Brute) -> Rows:
    x, weight = call.of("input"), call.of("weight")
    bias = 0 if call.given("bias") is None else call.out.numel()
    if weight.live:
        row = contract(
            x, "abcdef"[: len(x.shape) - 1] + "K", weight, "NK", "abcdef"[: len(x.shape) - 1] + "N"
        )
        return {"matmul": {**row, "bias_adds": bias}}
    return {"linear": _weighted("linear", x, [(i, weight.shape[0]) for i in x.items], bias)}


def contract(a: Operand, ai: str, b: Operand, bi: str, oi: str) -> dict[str, Any]:
    """Every multiplication of out[oi] = Σ a[ai]·b[bi], one by one."""
    sizes = dict(zip(bi, b.shape, strict=True))
    for letter, n in zip(ai, a.shape, strict=True):
        sizes[letter] = max(n, sizes.get(letter, 1))
    letters = list(sizes)
    ua = dict(zip(a.items, units_of(a.items.values()) or [1] * a.size, strict=True))
    ub = dict(zip(b.items, units_of(b.items.values()) or [1] * b.size, strict=True))
    ac = mac = 0
    for values in product(*(range(sizes[c]) for c in letters)):
        at = dict(zip(letters, values, strict=True))
        i = tuple(0 if n == 1 else at[c] for c, n in zip(ai, a.shape, strict=True))
        j = tuple(0 if n == 1 else at[c] for c, n in zip(bi, b.shape, strict=True))
        if a.events and b.events:
            ac += ua[i] * ub[j]
        elif a.events:
            ac += ua[i]
        elif b.events:
            ac += ub[j]
        else:
            mac += 1
    return {"ac": ac, "mac": mac, **kinds(a, b)}


def matmul(call: Brute) -> Rows:
    a, b = (call.of(n) for n in [n for n in call.names() if isinstance(call.operands[n], Tensor)][-2:])
    return {"matmul": _matmul(a, b)}


def _matmul(a: Operand, b: Operand, inner: bool = False) -> dict[str, Any]:
    n, m = len(a.shape), len(b.shape)
    batch = "abcdef"[: max(n, m, 2) - 2]
    ai = "K" if n == 1 else batch[len(batch) - n + 2 :] + "MK"
    bi = "K" if m == 1 else batch[len(batch) - m + 2 :] + "KN"
    return contract(a, ai, b, bi, "")


def reversed_matmul(call: Brute) -> Rows:
    b, a = call.both()
    return {"matmul": _matmul(a, b)}


def inner(call: Brute) -> Rows:
    a, b = call.both()
    n, m = len(a.shape), len(b.shape)
    return {"matmul": contract(a, "abcdef"[: n - 1] + "K", b, "uvwxyz"[: m - 1] + "K", "")}


def matmul_add(call: Brute) -> Rows:
    row = matmul(call)["matmul"]
    n = call.out.numel()
    scaled = n if call.given("alpha", 1) != 1 else 0
    return {"matmul": {**row, "bias_adds": n if call.given("beta", 1) else 0, "scale_muls": scaled}}


def einsum(call: Brute) -> Rows:
    equation, (va, vb) = call.operands["equation"], call.operands["operands"]
    a, b = (Operand(v, s) for v, s in zip((va, vb), call.example.arguments["operands"], strict=True))
    ai, bi = equation.replace(" ", "").partition("->")[0].split(",")
    return {"matmul": contract(a, _dots(ai, a), b, _dots(bi, b), "")}


def _dots(letters: str, x: Operand) -> str:
    n = len(x.shape) - len(letters.replace("...", ""))
    return letters.replace("...", "UVW"[3 - n :])


def attention(call: Brute) -> Rows:
    q, k, v = (call.of(n) for n in ("query", "key", "value"))
    return {"matmul": _attention(q, k, v, call.given("is_causal"), call.given("attn_mask"))}


def _attention(q: Operand, k: Operand, v: Operand, causal: Any, mask: Any) -> dict[str, Any]:
    first = contract(q, "bhMK", k, "bhNK", "")
    b, h, m, _ = q.shape
    n = v.shape[-2]
    allowed = torch.ones(m, n)
    if causal:
        allowed = allowed.tril()
    elif mask is not None:
        allowed = allowed * (mask if mask.dtype == torch.bool else mask > -math.inf)
    weights = Operand(allowed.expand(b, h, m, n), Activation((b, h, m, n), "current"))  # a softmax is real
    second = contract(weights, "bhMK", v, "bhKN", "")
    pairs = b * h * m * n
    return {
        "ac": first["ac"] + second["ac"], "mac": first["mac"] + second["mac"],
        "scale_muls": pairs, "special_evals": pairs,
    }  # fmt: skip


def heads(call: Brute) -> Rows:
    """Multi-head attention: three projections, attention of currents, the output projection; (L, N, E)."""
    values = [call.operands[n] for n in ("query", "key", "value")]
    number, weight, bias = call.given("num_heads"), call.given("in_proj_weight"), call.given("in_proj_bias")
    weights, biases = weight.chunk(3), bias.chunk(3)
    total = {"ac": 0, "mac": 0, "bias_adds": 0}
    parts = []
    for name, x, w, b in zip(("query", "key", "value"), values, weights, biases, strict=True):
        operand = call.of(name)
        row = _weighted(
            "linear", operand, [(i, w.shape[0]) for i in operand.items], F.linear(x, w, b).numel()
        )
        for column in total:
            total[column] += row[column]
        y = F.linear(x, w, b).unflatten(-1, (number, -1)).permute(1, 2, 0, 3)
        parts.append(Operand(y, Activation(tuple(y.shape), "current")))
    attended = _attention(*parts, None, None)
    elements = values[0].numel()
    total["mac"] += elements * weight.shape[1]
    total["bias_adds"] += elements
    return {"linear": total, "matmul": attended}


GATES = {"lstm": (4, 5, 3, 5), "gru": (3, 3, 3, 5), "rnn_tanh": (1, 1, 0, 1), "rnn_relu": (1, 1, 0, 1)}


def recurrent(call: Brute) -> Rows:
    """One layer, one direction, (B, L, F): each step by the cell of the same name."""
    x, state, weights = call.of("input"), call.given("hx"), call.given("params")
    name = call.example.name
    cell = getattr(torch, f"{name}_cell")
    values, total = call.operands["input"], {}
    h = [s[0] for s in state] if name == "lstm" else state[0]
    for t in range(values.shape[1]):
        before = h[0] if name == "lstm" else h
        step = {i: v for i, v in x.items.items() if i[1] == t}
        units = dict(zip(x.items, units_of(x.items.values()) or [0] * x.size, strict=True))
        fan = weights[0].shape[0]
        _join(
            total,
            _gates(name, x, sum(units[i] for i in step) * fan, len(step) * fan, before, weights, t == 0),
        )
        h = cell(values[:, t], h, *weights)
    _second_kind(total, name, [*_states(cell, values, state, weights, name)], weights)
    return total


def _states(
    cell: Callable[..., Any], values: Tensor, state: Any, weights: Any, name: str
) -> Iterator[Tensor]:
    h = [s[0] for s in state] if name == "lstm" else state[0]
    for t in range(values.shape[1]):
        yield h[0] if name == "lstm" else h
        h = cell(values[:, t], h, *weights)


def _gates(name: str, x: Operand, ac: int, mac: int, before: Tensor, weights: Any, first: bool) -> Rows:
    _, specials, muls, adds = GATES[name]
    n, bias = before.numel(), before.shape[0] * weights[0].shape[0] if len(weights) > 2 else 0
    rows: Rows = {
        "linear": {"ac": ac if x.events else 0, "mac": 0 if x.events else mac, "bias_adds": 2 * bias}
    }
    rows["special"] = {"special_evals": specials * n}
    if muls:
        rows["mul"] = {"mac": muls * n}
    rows["add"] = {"ac": adds * n}
    return rows


def _second_kind(total: Rows, name: str, states: list[Tensor], weights: Any) -> None:
    """The products with the states: real once one has left zero."""
    values = [v for s in states for v in s.flatten().tolist()]
    units = units_of(values)
    fan = weights[1].shape[0]
    _join(
        total,
        {"linear": {"ac": sum(units or [0]) * fan, "mac": 0 if units is not None else len(values) * fan}},
    )


def _join(total: Rows, rows: Rows) -> None:
    for op, columns in rows.items():
        mine = total.setdefault(op, {})
        for column, n in columns.items():
            mine[column] = mine.get(column, 0) + n


def recurrent_cell(call: Brute) -> Rows:
    x, state, name = call.of("input"), call.given("hx"), call.example.name.removesuffix("_cell")
    weights = [call.operands[n] for n in ("w_ih", "w_hh", "b_ih", "b_hh")]
    before = state[0] if name == "lstm" else state
    units = units_of(x.items.values()) or [0]
    total = _gates(
        name, x, sum(units) * weights[0].shape[0], x.size * weights[0].shape[0], before, weights, True
    )
    _second_kind(total, name, [before], weights)
    return total


def bilinear(call: Brute) -> Rows:
    a, b, weight = call.of("input1"), call.of("input2"), call.of("weight")
    first = contract(a, "ai", weight, "kij", "")
    between = torch.einsum("ai,kij->akj", call.operands["input1"], call.operands["weight"])
    second = contract(Operand(between, Activation(tuple(between.shape), "current")), "akj", b, "aj", "")
    bias = 0 if call.given("bias") is None else call.out.numel()
    return {
        "matmul": {"ac": first["ac"] + second["ac"], "mac": first["mac"] + second["mac"], "bias_adds": bias}
    }


# -- pooling ------------------------------------------------------------------------------------------------


def _windows(call: Brute) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
    """For each output position: the existing input positions in its window."""
    name, x = call.example.name, call.of("input")
    axes = int(name.removesuffix("_with_indices").rstrip("d")[-1])
    sizes, outputs = x.shape[-axes:], call.out.shape[-axes:]
    for out in product(*map(range, outputs)):
        if name.startswith("adaptive"):
            spans = [
                range(o * n // m, -(-(o + 1) * n // m)) for o, n, m in zip(out, sizes, outputs, strict=True)
            ]
        else:
            kernel = _per_axis(call.given("kernel_size"), axes)
            stride = _per_axis(call.given("stride") or kernel, axes)
            padding, apart = (_per_axis(call.given(n, d), axes) for n, d in (("padding", 0), ("dilation", 1)))
            spans = [
                [i for i in (o * s - p + t * d for t in range(k)) if 0 <= i < n]
                for o, n, k, s, p, d in zip(out, sizes, kernel, stride, padding, apart, strict=True)
            ]
        yield axes, list(product(*spans))


def avg_pool(call: Brute) -> Rows:
    x, total = call.of("input"), 0
    for axes, positions in _windows(call):
        for lead in product(*map(range, x.shape[:-axes])):
            total += sum(x.active((*lead, *p)) for p in positions)
    return {"avg_pool": {"ac": total, "scale_muls": call.out.numel(), **kinds(x)}}


def max_pool(call: Brute) -> Rows:
    x, total = call.of("input"), 0
    for axes, positions in _windows(call):
        total += math.prod(x.shape[:-axes]) * (len(positions) - 1)
    return {"max_pool": {"pool_cmp": total}}


def adaptive(call: Brute) -> Rows:
    return avg_pool(call) if "avg" in call.example.name else max_pool(call)


def counted(example: Example, operands: dict[str, Any], result: Any) -> Rows:
    """The rows of a call, by the loop that its example names."""
    loop = globals().get(example.rule) or getattr(expected, example.rule)
    return loop(Brute(example, operands, result))  # type: ignore[no-any-return]
