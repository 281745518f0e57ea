"""Counting rules of matrix products, in the index notation of einsum."""

from __future__ import annotations

import math
import string
from typing import Any

import torch

from snn_energy.profiling.call import Call
from snn_energy.profiling.kinds import REAL, ValueSet
from snn_energy.profiling.measure import EXACT, ones_where_nonzero, units
from snn_energy.profiling.provenance import Tag
from snn_energy.profiling.recorder import Recorder
from snn_energy.profiling.tally import Reading, Tally


def contract(
    call: Call,
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
    (ai, bi, oi), tags = letters, (call.tag(a), call.tag(b))
    a, ai = squeeze(a, ai, b, bi)
    b, bi = squeeze(b, bi, a, ai)
    row, call.rec.looked = call.row("matmul", variant), True
    left = left or call.rec.values(a, tags[0], row.left)
    right = call.rec.values(b, tags[1], row.right)
    row.see_left(left)
    row.see_right(right)
    for tag in tags:
        row.merge_sources(tag.sources if tag is not None else ())
    size = dict(zip(ai + bi, (*a.shape, *b.shape), strict=True))
    lead = _leading(oi, (ai, a, tags[0]), (bi, b, tags[1]))
    _count(call.rec, row, (a, ai, left, tags[0]), (b, bi, right, tags[1]), lead, size, call.order)
    row.add(output_elements=math.prod(size[c] for c in oi if c in size))
    if "input_shape" not in row.fixed:
        right_shape = tuple(size[c] for c in bi if c not in lead)
        constant = [x for x, tag in ((a, tags[0]), (b, tags[1])) if tag is None]
        row.fixed |= {
            "input_shape": tuple(size[c] for c in ai if c not in lead),
            "output_shape": tuple(size[c] for c in oi if c in size and c not in lead),
            "fan_out": math.prod(size.values()) / max(1, a.numel()),
            "weight_elements": sum(x.numel() for x in constant),
            "weight_side": "" if not constant else "left" if tags[0] is None else "right",
            "details": {"equation": f"{ai},{bi}->{oi}", "right_shape": right_shape},
        }
    return row


Operand = tuple[torch.Tensor, str, ValueSet, Tag | None]


def _count(
    rec: Recorder, row: Tally, left: Operand, right: Operand, lead: str, size: dict[str, int], order: int
) -> None:
    """The four candidate counts of a product, per index in `lead`; unit events beside events."""
    (a, ai, va, _), (b, bi, vb, _) = left, right
    key = a.shape, b.shape, lead, order
    if row.plan is not None and row.plan.key == key:
        row.again()
    else:
        row.remember(key, *_by_shape(ai, bi, lead, size, order))
    if not va.countable and not vb.countable and row.all_nonzero(rec.without_zeros, a, b):
        return
    keep = lead + "".join(c for c in ai if c in bi and c not in lead)
    ca, cb = _nonzeros_at(rec, *left, keep), _nonzeros_at(rec, *right, keep)
    ua = _nonzeros_at(rec, *left, keep, graded=True) if va.graded else ca
    ub = _nonzeros_at(rec, *right, keep, graded=True) if vb.graded else cb
    graded = va.graded or vb.graded
    shape, n = tuple(size[c] for c in lead), len(lead)
    both = _spread(_rows(ca * cb, n), shape)
    both_units = _spread(_rows(ua * ub, n), shape) if graded else None
    unit = (va.unit or 1.0) * (vb.unit or 1.0)
    row.read("coincident", Reading(shape, both, 1, unit, both_units, order))
    for side, given, counts, graded_counts, values, letters in (
        ("left", "input", ca, ua, va, ai),
        ("right", "right_input", cb, ub, vb, bi),
    ):
        rows, unit = _rows(counts, n), values.unit or 1.0
        everywhere = _spread(rows, shape)
        unit_rows = _rows(graded_counts, n) if values.graded else None
        unit_everywhere = None if unit_rows is None else _spread(unit_rows, shape)
        others = math.prod(s for c, s in size.items() if c not in letters and c not in lead)
        row.read(side, Reading(shape, everywhere, others, unit, unit_everywhere, order))
        if rows.shape == shape:
            row.read(given, Reading(shape, everywhere, 1, unit, unit_everywhere, order))
        else:  # broadcast: each element counted once
            whole = None if unit_rows is None else unit_rows.sum().reshape(1)
            row.read(given, Reading((), rows.sum().reshape(1), 1, unit, whole, order))


def _by_shape(
    ai: str, bi: str, lead: str, size: dict[str, int], order: int
) -> tuple[dict[str, Reading], dict[str, int], dict[str, Reading]]:
    """What shapes alone decide, and what they decide where no operand has a zero."""
    shape, pairs = tuple(size[c] for c in lead), math.prod(size.values())
    elements = [math.prod(size[c] for c in letters) for letters in (ai, bi)]
    valid = Reading(shape, None, pairs // max(1, math.prod(shape)), order=order)
    dense = dict.fromkeys(("coincident", "left", "right"), valid)
    for name, letters, count in zip(("input", "right_input"), (ai, bi), elements, strict=True):
        own = shape if set(lead) <= set(letters) else ()
        dense[name] = Reading(own, None, count // max(1, math.prod(own)), order=order)
    sums = {"dense_macs": pairs, "input_elements": elements[0], "right_elements": elements[1]}
    return {"valid": valid}, sums, dense


def squeeze(x: torch.Tensor, xi: str, other: torch.Tensor, oi: str) -> tuple[torch.Tensor, str]:
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


def _nonzeros_at(
    rec: Recorder,
    x: torch.Tensor,
    letters: str,
    values: ValueSet,
    tag: Tag | None,
    keep: str,
    graded: bool = False,
) -> torch.Tensor:
    """Nonzeros (`graded`: unit events) of `x` per index in `keep`, summed over the others.

    float64, of size 1 where `x` has no such index.
    """
    gone = [i for i, c in enumerate(letters) if c not in keep]
    measured = rec.measured(x) if gone == [1] and not graded else None
    known = measured.positions(x) if measured is not None else None
    if known is not None:
        ones = known.reshape(x.shape[:1] + x.shape[2:])
    else:
        ones = units(x, values) if graded else ones_where_nonzero(x, values)
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


def matmul(call: Call) -> Tag:
    """matmul, @, mm, bmm, mv, dot."""
    out = call.run()
    a, b = (call[name] for name in call.operation.parameters)
    return _current(call, contract(call, a, b, out, matmul_letters(a.dim(), b.dim())))


def inner(call: Call) -> Tag:
    """inner: Σ over the last dimension of both; one without dimensions is a factor, and not covered."""
    out, a, b = call.run(), call["input"], call["other"]
    n, m = a.dim() - 1, b.dim() - 1
    if min(n, m) < 0:
        call.rec.uncounted("inner with a tensor without dimensions", out)
        return call.known()
    mine, others = string.ascii_lowercase[:n], string.ascii_lowercase[n : n + m]
    return _current(call, contract(call, a, b, out, (mine + "K", others + "K", mine + others)))


def _current(call: Call, row: Tally) -> Tag:
    """What is known of a product: a current, which no norm can be folded into."""
    return call.known(row=row, synapse=row).but(synapse=None)


def matmul_add(call: Call) -> Tag:
    """addmm, baddbmm, addmv: β·input + α·(a @ b); the addition counts as a bias."""
    out = call.run()
    a, b = (call[name] for name in call.operation.parameters[1:3])
    row = contract(call, a, b, out, matmul_letters(a.dim(), b.dim()))
    row.add(bias_adds=out.numel() if call.get("beta", 1) else 0)
    row.add(scale_muls=out.numel() if call.get("alpha", 1) != 1 else 0)
    return _current(call, row)


def einsum(call: Call) -> Tag:
    """einsum of two operands, with or without an ellipsis; more operands are not covered."""
    out, args = call.run(), call.args
    operands = args[1] if len(args) == 2 and isinstance(args[1], (list, tuple)) else args[1:]
    if not isinstance(args[0], str) or len(operands) != 2:
        call.rec.uncounted(f"einsum of {len(operands)} operands", out)
        return call.known()
    a, b = operands
    return _current(call, contract(call, a, b, out, einsum_letters(args[0], a.dim(), b.dim())))


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


def attention(call: Call) -> Tag:
    """scaled_dot_product_attention: Q·Kᵀ (masked pairs not spared), scale, softmax, and its weights times V.

    The weights are real; they are nonzero wherever the mask allows.
    """
    out = call.run()
    q, k, v = call["query"], call["key"], call["value"]
    row = attend(call, q, k, v, out, call.get("attn_mask"), bool(call.get("is_causal")))
    return _current(call, row)


def attend(
    call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, mask: Any, causal: bool
) -> Tally:
    """Count an attention; returns the row of its last product."""
    rec = call.rec
    if q.shape[-3:-2] != k.shape[-3:-2]:  # grouped-query attention shares keys among heads
        k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
        for x in (k, v):
            rec.mark(x, rec.plain)
    scores = contract(call, q, k, None, matmul_letters(q.dim(), k.dim(), transposed=True))
    elements = q.numel() // q.shape[-1] * k.shape[-2]
    scores.add(scale_muls=elements, special_evals=elements)
    scores.fixed["note"] = "special_evals: softmax"
    allowed = torch.ones(q.shape[-2], k.shape[-2], device=q.device)
    if causal:
        allowed = allowed.tril()
    elif mask is not None:
        allowed = allowed * (mask if mask.dtype == torch.bool else mask > -math.inf)
    allowed = allowed.expand(*v.shape[:-2], *allowed.shape[-2:])  # every head of every sample has its own
    rec.mark(allowed, rec.plain)
    return contract(call, allowed, v, out, matmul_letters(allowed.dim(), v.dim()), "weights", left=REAL)
