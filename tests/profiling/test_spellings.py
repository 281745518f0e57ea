"""Every counted function in every legal spelling: the same bits, the counts of a plain loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from examples import EXAMPLES
from examples_moving import MOVING
from expected import COUNTED, behind
from expected_products import counted
from places import Legal, Network, legal, network_input, results_of
from spellings import Example, flat

from snn_energy.profiling import profile
from snn_energy.profiling.operations import OPERATIONS

VARIANTS: dict[int, list[tuple[str, ...]]] = {
    1: [("real",), ("current",), ("graded",), ("halves",)],
    2: [("real", "spikes"), ("spikes", "current"), ("real", "real"), ("graded", "ternary")],
    3: [("real", "spikes", "spikes"), ("spikes", "real", "current"), ("graded", "ternary", "graded")],
}


def same(a: Any, b: Any, in_place: bool) -> bool:
    """The same bits, NaN for NaN; what is written in place keeps the type of what stood there."""
    ours, theirs = results_of(a), results_of(b)
    if in_place:
        theirs = [y.to(x.dtype) for x, y in zip(ours, theirs, strict=False)]
    return len(ours) == len(theirs) and all(
        x.dtype == y.dtype and x.shape == y.shape and torch.equal(torch.nan_to_num(x), torch.nan_to_num(y))
        for x, y in zip(ours, theirs, strict=True)
    )


def totals(rows: Any, path: str) -> dict[str, dict[str, Any]]:
    """Counts and kinds of the rows of one module, by operation; rows of one operation added up."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.name == path:
            mine = found.setdefault(row.op, {})
            for column in COUNTED:
                mine[column] = mine.get(column, 0) + getattr(row, column)
            mine["input_kind"], mine["right_kind"] = row.input_kind, row.right_kind
    return found


def differences(wanted: dict[str, dict[str, Any]], found: dict[str, dict[str, Any]]) -> list[str]:
    """What of `wanted` is otherwise in `found`."""
    wrong = [f"row {op}: not expected: {found[op]}" for op in found.keys() - wanted.keys()]
    for op, columns in wanted.items():
        if op not in found:
            wrong += [f"row {op} is missing"] if any(columns.get(c) for c in COUNTED) else []
            continue
        for column in (*COUNTED, "input_kind", "right_kind"):
            value = columns.get(column, 0 if column in COUNTED else None)
            if value is not None and value != found[op][column]:
                wrong.append(f"{op}.{column} = {found[op][column]}, by a plain loop {value}")
    return wrong


def check(example: Example, ways: Legal) -> list[str]:
    """Profile `example` in all its spellings; what is wrong, a line each."""
    x = network_input(example)
    model = Network(example, ways.spellings, ways.result)
    measured = profile(model, [x], check=False)  # some put out memory as they found it
    wanted = counted(example, ways.operands, ways.result)
    wrong = []
    by_path: dict[str, list[Any]] = {}
    for row in measured.rows:
        by_path.setdefault(row.name, []).append(row)
    for i, (spelling, place) in enumerate(zip(ways.spellings, model.places, strict=True)):
        path, found = f"places.{i}", []
        if not example.valueless and not same(place.kept.result, ways.result, spelling.in_place):
            found.append("another result than the plain call")
        kept = list(flat(list(ways.operands.values())))
        start = 1 if spelling.in_place else 0
        for before, after in list(zip(kept, place.kept.given, strict=True))[start:]:
            if isinstance(before, torch.Tensor) and not torch.equal(before, after):
                found.append("an argument was changed")
        found += differences(wanted, totals(by_path.get(f"{path}.call", []), f"{path}.call"))
        for n, out in enumerate(results_of(ways.result)):
            row = behind(example, out, n)
            name = f"{path}.behind.{n}"
            ours = {} if row is None or example.valueless else {"linear": row}
            found += [f"behind: {w}" for w in differences(ours, totals(by_path.get(name, []), name))]
        wrong += [f"{spelling.label}: {problem}" for problem in found]
    if example.rule != "uncounted":
        wrong += [f"uncounted: {row.name}: {row.note}" for row in measured.uncounted]
    return wrong


def test_every_name_of_the_table_has_an_example_and_every_example_is_in_the_table() -> None:
    assert EXAMPLES.keys() == OPERATIONS.keys()


@pytest.mark.filterwarnings("ignore")  # torch's own, of spellings that it takes but does not like
@pytest.mark.parametrize("name", EXAMPLES)
def test_all_spellings_give_the_same_bits_and_the_counts_of_a_plain_loop(name: str) -> None:
    problems = []
    for number, example in enumerate(EXAMPLES[name]):
        if name == "cuda" and not torch.cuda.is_available():
            pytest.skip("no GPU")
        ways = legal(example)
        assert ways.spellings, f"example {number}: torch takes it in no spelling"
        problems += [f"example {number}: {problem}" for problem in check(example, ways)]
        for values in VARIANTS.get(min(len(example.activations), 3), ()) if example.varied else ():
            variant = example.with_values(*values)
            problems += [f"example {number} {values}: {p}" for p in check(variant, ways.again(variant))]
    assert not problems, "\n".join(problems[:40])


DTYPES = [torch.bool, torch.int32, torch.float64, torch.bfloat16]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_spikes_of_any_type_count_alike(dtype: torch.dtype) -> None:
    problems, done = [], set()
    for name, examples in EXAMPLES.items():
        example = examples[0].with_dtype(dtype)
        if name == "cuda" or not example.activations:
            continue
        ways = legal(example, at_most=2)
        if ways.spellings and all(r.isfinite().all() for r in results_of(ways.result)):
            done.add(name)
            problems += [f"{name}: {problem}" for problem in check(example, ways)]
    assert not problems, "\n".join(problems[:40])
    assert len(done) >= {torch.bool: 120, torch.int32: 180}.get(
        dtype, 280
    )  # the others are not for this type


assert EXAMPLES.keys() >= MOVING
NEVER = {  # torch calls these by other names of the table
    "iadd": "add", "isub": "sub", "imul": "mul", "truediv": "div", "itruediv": "div",
    "ifloordiv": "floor_divide",
    "radd": "add", "rmul": "mul", "rtruediv": "rdiv", "ipow": "pow", "rand": "bitwise_and",
    "ror": "bitwise_or",
    "rxor": "bitwise_xor", "iter": "unbind", "upsample": "interpolate",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_every_name_of_the_table_arrives_and_those_that_never_do_are_known() -> None:
    for name, examples in EXAMPLES.items():
        if name != "cuda":
            arrived = {
                n
                for example in examples
                for n in legal(example, at_most=1 if name not in NEVER else 9).arrived
            }
            if name in NEVER:
                assert name not in arrived and NEVER[name] in arrived
            else:
                assert name in arrived, arrived
