"""What docs/counting.md says a call costs, in plain loops over elements; nothing of the package is used."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from spellings import Activation, Example, flat
from torch import Tensor

Rows = dict[str, dict[str, Any]]  # row -> column -> count or kind
COUNTED = ("ac", "mac", "scale_muls", "pool_cmp", "special_evals", "norm_macs", "bias_adds")
LARGEST = 15


class Operand:
    """A value and what kind of thing it is: an activation (`live`), a current, or neither."""

    def __init__(self, value: Any, spec: Any) -> None:
        self.live = isinstance(spec, Activation)
        self.current = self.live and spec.is_current
        self.shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        self.value = value
        self.items = dict(_items(value)) if isinstance(value, Tensor) else {(): value}

    def at(self, index: tuple[int, ...]) -> Any:
        """The entry that meets `index` of the broadcast result."""
        mine = index[len(index) - len(self.shape) :]
        return self.items[tuple(0 if n == 1 else i for i, n in zip(mine, self.shape, strict=True))]

    @property
    def size(self) -> int:
        return len(self.items)

    @property
    def kind(self) -> str:
        return "real" if self.current or not self.live else kind_of(self.items.values())

    @property
    def events(self) -> bool:
        """Do only nonzero elements cause work?"""
        return self.kind != "real"

    def active(self, index: tuple[int, ...]) -> bool:
        """A real operand counts as nonzero everywhere."""
        return not self.events or self.at(index) != 0


def _items(x: Tensor) -> Iterator[tuple[tuple[int, ...], float]]:
    values = x.double().reshape(-1).tolist() if x.dtype != torch.bool else x.reshape(-1).int().tolist()
    return zip(product(*map(range, x.shape)), values, strict=True)


def units_of(values: Any) -> list[int] | None:
    """Unit events of each value, None where they are real: multiples, up to 15, of the smallest magnitude."""
    nonzero = [abs(float(v)) for v in values if v != 0]
    if not nonzero:
        return [0 for _ in values]
    if all(map(math.isfinite, nonzero)):
        smallest = min(nonzero)
        whole = all(v.is_integer() for v in nonzero)
        unit = float(math.gcd(*(int(v) for v in nonzero))) if whole else smallest
        parts = [abs(float(v)) / unit for v in values]
        if max(parts) <= LARGEST + 0.5 and all(abs(p - round(p)) <= 1e-5 * max(p, 1) for p in parts):
            return [round(p) for p in parts]
    return None


def kind_of(values: Any) -> str:
    """As docs/counting.md words it."""
    values = [float(v) for v in values]
    distinct = {v for v in values if v}
    if distinct <= {1.0}:
        return "binary"
    if len(distinct) == 1:
        return "scaled" if math.isfinite(next(iter(distinct))) else "real"
    if distinct <= {-1.0, 1.0}:
        return "ternary"
    return "real" if units_of(values) is None else "integer"


class Brute:
    """One call with its operands' values, counted by the plain loop that `Example.rule` names."""

    def __init__(self, example: Example, operands: dict[str, Any], result: Any) -> None:
        self.example, self.operands, self.result = example, operands, result
        self.out = (
            result
            if isinstance(result, Tensor)
            else next(r for r in flat(list(result)) if isinstance(r, Tensor))
        )

    def of(self, name: str) -> Operand:
        """The operand of that name."""
        return Operand(self.operands[name], self.example.arguments[name])

    def given(self, name: str, default: Any = None) -> Any:
        """An argument's value."""
        return self.operands.get(name, default)

    def names(self) -> list[str]:
        """The names of the arguments, in order."""
        return list(self.example.arguments)

    def both(self) -> tuple[Operand, Operand]:
        """The first two arguments."""
        first, second = self.names()[:2]
        return self.of(first), self.of(second)

    @property
    def outputs(self) -> Iterator[tuple[int, ...]]:
        return product(*map(range, self.out.shape))


def kinds(a: Operand, b: Operand | None = None) -> dict[str, str]:
    return {"input_kind": a.kind} if b is None else {"input_kind": a.kind, "right_kind": b.kind}


def add(call: Brute) -> Rows:
    a, b = call.both()
    meets = sum(a.active(i) and b.active(i) for i in call.outputs)
    scaled = call.out.numel() if call.given("alpha", 1) != 1 else 0
    return {"add": {"ac": meets, "scale_muls": scaled, **kinds(a, b)}}


def radd(call: Brute) -> Rows:
    row = add(call)["add"]
    if "sub" in call.example.name:  # other - input
        row["input_kind"], row["right_kind"] = row["right_kind"], row["input_kind"]
    return {"add": row}


def mul(call: Brute, a: Operand | None = None, b: Operand | None = None) -> Rows:
    if a is None or b is None:
        a, b = call.both()
    if not (a.live and b.live):
        return {"scale": {"scale_muls": call.out.numel()}}
    return {"mul": {"mac": sum(not a.events and not b.events for _ in call.outputs), **kinds(a, b)}}


def div(call: Brute) -> Rows:
    a, b = call.both()
    rows = {"special": {"special_evals": call.out.numel()}} if b.live and not a.live else mul(call)
    if call.given("rounding_mode") or "floor" in call.example.name:
        rows = {**rows, "compare": {"pool_cmp": call.out.numel()}}
    return rows


def power(call: Brute) -> Rows:
    base, exponent = call.of(call.names()[0]), call.given("exponent", call.given("other", 2))
    if base.live and not isinstance(exponent, Tensor) and exponent == 2:
        return mul(call, base, base)
    if (
        base.live
        and isinstance(exponent, Tensor)
        and exponent.dim() == 0
        and not call.of(call.names()[1]).live
    ):
        return mul(call, base, base) if exponent == 2 else {"special": {"special_evals": call.out.numel()}}
    return {"special": {"special_evals": call.out.numel()}}


def rpower(call: Brute) -> Rows:
    return special(call)


def rdiv(call: Brute) -> Rows:
    rounded = {"compare": {"pool_cmp": call.out.numel()}} if "floor" in call.example.name else {}
    return {**special(call), **rounded}


def logic(call: Brute) -> Rows:
    a, b = call.both()
    return mul(call) if a.live and b.live else {}


def free(call: Brute) -> Rows:
    return {}


def scale(call: Brute) -> Rows:
    return {"scale": {"scale_muls": call.out.numel()}}


def reduce(call: Brute) -> Rows:
    x = call.of("input")
    added = sum(x.active(i) for i in x.items)
    mean = call.example.name.endswith("mean")
    return {
        "mean" if mean else "sum": {"ac": added, "scale_muls": call.out.numel() if mean else 0, **kinds(x)}
    }


def compare(call: Brute) -> Rows:
    """One comparison per element: of the result of an elementwise function, of what a reduction reads."""
    reads = [call.of(n) for n in call.names()[:1] if isinstance(call.operands[n], Tensor)]
    return {"compare": {"pool_cmp": max([call.out.numel(), *(x.size for x in reads)])}}


def special(call: Brute) -> Rows:
    return {"special": {"special_evals": call.out.numel()}}


def norm(call: Brute) -> Rows:
    x = call.of("input")
    fixed = call.example.name == "batch_norm" and not call.given("training")
    return {"norm": {"norm_macs": 0 if x.current and fixed else x.size}}


def uncounted(call: Brute) -> Rows:
    return {"uncounted": {}}


def behind(example: Example, out: Tensor, number: int) -> dict[str, Any] | None:
    """The linear layer of 3 outputs that reads each element of `out`; None where it reads a constant."""
    if example.makes == "constant" or (example.makes == "each" and not example.lives(number)):
        return None
    values = [v for _, v in _items(out)]
    current = example.makes == "current"
    if example.makes == "keeps" and out.is_floating_point():
        current = any(a.is_current for a in example.activations)
    if example.makes.startswith("source:") or example.makes == "each":
        name = (
            list(example.arguments)[number]
            if example.makes == "each"
            else example.makes.removeprefix("source:")
        )
        source = example.arguments[name]
        current = any(isinstance(a, Activation) and a.is_current for a in flat(source))
    units = None if current else units_of(values)
    kind = "real" if current else kind_of(values)
    if units is None:
        return {"ac": 0, "mac": 3 * len(values), "input_kind": kind}
    return {"ac": 3 * sum(units), "mac": 0, "input_kind": kind}
