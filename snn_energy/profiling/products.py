"""Counting rules of matrix products, in the index notation of einsum."""

from __future__ import annotations

import math
import string
from typing import Any

import torch

from snn_energy.profiling.kinds import REAL, ValueSet
from snn_energy.profiling.measure import EXACT, ones_where_nonzero
from snn_energy.profiling.provenance import Tag
from snn_energy.profiling.recorder import Recorder
from snn_energy.profiling.tally import Tally


def contract(
    rec: Recorder,
    a: torch.Tensor,
    b: torch.Tensor,
    out: torch.Tensor | None,
    letters: tuple[str, str, str],
    variant: str = "",
    left: ValueSet | None = None,
) -> Tally:
    """Count out[o] = Σ a[i]·b[j], one multiply per combination of the indices `letters` = (i, j, o).

    Coincidences are Σ_k (nonzeros of a at k, over a's own indices) × (the same of b), where k runs over the
    indices that both share: nothing of the size of the product is built.  `left` overrules the values of a.
    """
    (ai, bi, oi), tags = letters, (rec.tag(a), rec.tag(b))
    a, ai = _squeeze(a, ai, b, bi)
    b, bi = _squeeze(b, bi, a, ai)
    tally = rec.tally("matmul", variant)
    left = left or rec.values(a, tags[0], tally.left)
    right = rec.values(b, tags[1], tally.right)
    tally.see_left(left)
    tally.see_right(right)
    for tag in tags:
        tally.merge_sources(tag.sources if tag is not None else ())
    size = dict(zip(ai + bi, (*a.shape, *b.shape), strict=True))
    lead = _leading(oi, (ai, a, tags[0]), (bi, b, tags[1]))
    _count(tally, (a, ai, left, tags[0]), (b, bi, right, tags[1]), lead, size)
    tally.add(output_elements=math.prod(size[c] for c in oi if c in size))
    if not tally.fixed:
        right_shape = tuple(size[c] for c in bi if c not in lead)
        tally.fixed = {
            "input_shape": tuple(size[c] for c in ai if c not in lead),
            "output_shape": tuple(size[c] for c in oi if c in size and c not in lead),
            "fan_out": math.prod(size.values()) / a.numel(),
            "weight_elements": sum(x.numel() for x, tag in ((a, tags[0]), (b, tags[1])) if tag is None),
            "details": {"equation": f"{ai},{bi}->{oi}", "right_shape": right_shape},
        }
    if out is not None:
        static = all(tag is None or tag.static for tag in tags)
        rec.mark(out, Tag(rec.epoch, drivers=(tally,), synapse=tally, static=static))
    return tally


def _count(
    tally: Tally,
    left: tuple[torch.Tensor, str, ValueSet, Tag | None],
    right: tuple[torch.Tensor, str, ValueSet, Tag | None],
    lead: str,
    size: dict[str, int],
) -> None:
    """The four candidate counts of a product, per index in `lead`."""
    (a, ai, *_), (b, bi, *_) = left, right
    keep = lead + "".join(c for c in ai if c in bi and c not in lead)
    ca, cb = _nonzeros_at(*left, keep), _nonzeros_at(*right, keep)
    shape, n, pairs = tuple(size[c] for c in lead), len(lead), math.prod(size.values())
    tally.read("coincident", shape, _spread(_rows(ca * cb, n), shape))
    for side, given, counts, letters in (("left", "input", ca, ai), ("right", "right_input", cb, bi)):
        rows = _rows(counts, n)
        everywhere = _spread(rows, shape)
        others = math.prod(s for c, s in size.items() if c not in letters and c not in lead)
        tally.read(side, shape, everywhere, others)
        if rows.shape == shape:
            tally.read(given, shape, everywhere)
        else:  # broadcast: each element counted once
            tally.read(given, (), rows.sum().reshape(1))
    tally.read("valid", shape, None, pairs // math.prod(shape))
    tally.add(dense_macs=pairs, input_elements=a.numel(), right_elements=b.numel())


def _squeeze(x: torch.Tensor, xi: str, other: torch.Tensor, oi: str) -> tuple[torch.Tensor, str]:
    """Drop dimensions of size 1 that the other operand broadcasts over."""
    for i in reversed(range(x.dim())):
        if x.shape[i] == 1 and xi[i] in oi and other.shape[oi.index(xi[i])] > 1:
            x, xi = x.squeeze(i), xi[:i] + xi[i + 1 :]
    return x, xi


def _leading(oi: str, *operands: tuple[str, torch.Tensor, Tag | None]) -> str:
    """The first one or two output indices, if they can be time and batch: not a row of a plain matrix."""
    lead, with_weight = "", any(tag is None for _, _, tag in operands)
    for letter in oi[:2]:
        owners = [(xi.index(letter) - len(xi), tag) for xi, _, tag in operands if letter in xi]
        if len(owners) == 1:
            ((place, tag),) = owners
            if tag is None or place > (-2 if with_weight else -3):  # a row of the matrix, or a weight's
                break
        lead += letter
    return lead


def _nonzeros_at(x: torch.Tensor, letters: str, values: ValueSet, tag: Tag | None, keep: str) -> torch.Tensor:
    """Nonzeros of `x` per index in `keep`, summed over the others: float64, size 1 where it has none."""
    gone = [i for i, c in enumerate(letters) if c not in keep]
    known = tag.measured.positions(x) if gone == [1] and tag is not None and tag.measured else None
    if known is not None:
        ones = known.reshape(x.shape[:1] + x.shape[2:])
    else:
        ones = ones_where_nonzero(x, values)
        if gone and math.prod(x.shape[i] for i in gone) > EXACT:
            ones = ones.double()
        if gone:
            ones = ones.sum(gone)
    left = "".join(c for c in letters if c in keep)
    if left == keep:
        return ones.double()
    ones = ones.permute([left.index(c) for c in keep if c in left]).double()
    return ones[tuple(slice(None) if c in left else None for c in keep)]


def _rows(x: torch.Tensor, lead: int) -> torch.Tensor:
    """Σ over all but the first `lead` dimensions."""
    return x.sum(tuple(range(lead, x.dim()))) if x.dim() > lead else x


def _spread(rows: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Counts per index, the same along a dimension of size 1, flat."""
    return (rows if rows.shape == shape else rows.expand(shape)).reshape(-1)


def matmul_letters(left: int, right: int, transposed: bool = False) -> tuple[str, str, str]:
    """The indices of a matmul of `left` and `right` dimensions; `transposed`: the right is (…, n, k)."""
    batch = string.ascii_lowercase[: max(left, right, 2) - 2]
    a = "K" if left == 1 else batch[len(batch) - (left - 2) :] + "MK"
    matrix = "NK" if transposed else "KN"
    b = "K" if right == 1 else batch[len(batch) - (right - 2) :] + matrix
    return a, b, batch + ("M" if left > 1 else "") + ("N" if right > 1 else "")


def matmul(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """matmul, @, mm, bmm, mv, dot."""
    out = func(*args, **kwargs)
    a, b = (*args, *(kwargs[k] for k in ("input", "other", "mat2", "tensor", "vec", "vec2") if k in kwargs))[
        :2
    ]
    if func.__name__ == "__rmatmul__":
        a, b = b, a
    contract(rec, a, b, out, matmul_letters(a.dim(), b.dim()))
    return out


def matmul_add(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """addmm, baddbmm, addmv: β·input + α·(a @ b); the addition counts as a bias."""
    out = func(*args, **kwargs)
    named = [kwargs[k] for k in ("input", "batch1", "mat1", "mat", "batch2", "mat2", "vec") if k in kwargs]
    _, a, b = (*args, *named)[:3]
    tally = contract(rec, a, b, out, matmul_letters(a.dim(), b.dim()))
    tally.add(bias_adds=out.numel() if kwargs.get("beta", 1) else 0)
    tally.add(scale_muls=out.numel() if kwargs.get("alpha", 1) != 1 else 0)
    return out


def einsum(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """einsum of two operands, with or without an ellipsis; more operands are not covered."""
    out = func(*args, **kwargs)
    operands = args[1] if len(args) == 2 and isinstance(args[1], (list, tuple)) else args[1:]
    if not isinstance(args[0], str) or len(operands) != 2:
        rec.uncounted(f"einsum of {len(operands)} operands", out)
        return out
    a, b = operands
    contract(rec, a, b, out, einsum_letters(args[0], a.dim(), b.dim()))
    return out


def einsum_letters(equation: str, left: int, right: int) -> tuple[str, str, str]:
    """The indices of both operands and of the output, the ellipsis spelt out in capitals."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    a, b = inputs.split(",")
    dots = [d - len(s.replace("...", "")) if "..." in s else 0 for s, d in ((a, left), (b, right))]
    free = [c for c in string.ascii_uppercase if c not in equation][: max(dots)]
    a, b = (s.replace("...", "".join(free[len(free) - d :])) for s, d in zip((a, b), dots, strict=True))
    if not arrow:
        output = "..." + "".join(sorted(c for c in {*a, *b} - set(free) if (a + b).count(c) == 1))
    return a, b, output.replace("...", "".join(free))


def attention(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """scaled_dot_product_attention: Q·Kᵀ (masked pairs not spared), scale, softmax, and its weights times V.

    The weights are real; they are nonzero wherever the mask allows.
    """
    out = func(*args, **kwargs)
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    q, k, v = given["query"], given["key"], given["value"]
    if q.shape[-3:-2] != k.shape[-3:-2]:  # grouped-query attention shares keys among heads
        k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
        for x in (k, v):
            rec.mark(x, rec.plain)
    scores = contract(rec, q, k, None, matmul_letters(q.dim(), k.dim(), transposed=True))
    elements = q.numel() // q.shape[-1] * k.shape[-2]
    scores.add(scale_muls=elements, special_evals=elements)
    scores.fixed["note"] = "special_evals: softmax"
    allowed = torch.ones(q.shape[-2], k.shape[-2], device=q.device)
    mask = given.get("attn_mask")
    if given.get("is_causal"):
        allowed = allowed.tril()
    elif mask is not None:
        allowed = allowed * (mask if mask.dtype == torch.bool else mask > -math.inf)
    allowed = allowed.expand(*v.shape[:-2], *allowed.shape[-2:])  # every head of every sample has its own
    rec.mark(allowed, rec.plain)
    contract(rec, allowed, v, out, matmul_letters(allowed.dim(), v.dim()), "weights", left=REAL)
    return out
