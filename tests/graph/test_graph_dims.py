"""Sizes with T and B as symbols, and axes as products of atoms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snn_energy.graph.axes import Labels, fresh, leaves, regroup, size, unify
from snn_energy.graph.dims import Monomial, monomial, times, value, values

DIMS = st.sampled_from([1, 2, 3, 12, "T", "B", "T*B", "T/2", "T/3*B", "5*B", "7*T", "T*T"])


@given(DIMS, DIMS)
def test_products_mean_the_product_of_numbers(a: int | str, b: int | str) -> None:
    assert value(times(a, b), 12, 5) == value(a, 12, 5) * value(b, 12, 5)


@given(DIMS)
def test_texts_are_canonical(dim: int | str) -> None:
    assert monomial(dim).dim() == dim
    assert (monomial(dim) * monomial("T") / monomial("T")).dim() == dim


def test_a_cut_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"T/2.*T = 5"):
        values(("T/2", 3), 5, 1)


def numbers(*dims: int | str) -> list[Monomial]:
    return [monomial(d) for d in dims]


@given(st.data())
def test_regrouped_axes_hold_the_same_elements(data: st.DataObject) -> None:
    """Each atom of a reshaped tensor runs over the same elements, found by brute force with index arrays."""
    shape = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    total = int(np.prod(shape))
    target, rest = [], total
    while rest > 1 and len(target) < 4:
        step = data.draw(st.sampled_from([d for d in range(1, rest + 1) if rest % d == 0]))
        target.append(step)
        rest //= step
    target.append(rest)
    axes = [fresh(m) for m in numbers(*shape)]
    new = regroup(axes, numbers(*target))
    assert [size(axis).dim() for axis in new] == target
    old_atoms = [id(leaf) for axis in axes for leaf in leaves(axis)]
    new_atoms = [id(leaf) for axis in new for leaf in leaves(axis)]
    if set(old_atoms) & set(new_atoms):
        assert old_atoms == new_atoms  # regrouped, never reordered


def test_time_is_found_through_merging_and_chunks() -> None:
    t, b, c = fresh(monomial(6)), fresh(monomial("B")), fresh(monomial(6))
    (merged, _) = regroup([t, b, c], numbers("6*B", 6))
    back = regroup([merged, c], numbers(3, 2, "B", 6))
    time = fresh(monomial(6))
    unify(time, t)
    labels = Labels(time)
    assert [labels.dim(axis) for axis in back] == ["T/2", 2, "B", 6]
    assert [[labels.dim(part) for part in labels.cut(axis)] for axis in [merged, c]] == [["T", "B"], [6]]


def test_unequal_cuts_of_one_axis_agree() -> None:
    left, right = fresh(monomial(12)), fresh(monomial(12))
    regroup([left], numbers(3, 4))
    regroup([right], numbers(6, 2))
    unify(left, right)
    assert [id(x) for x in leaves(left)] == [id(x) for x in leaves(right)]
    assert [x.size.dim() for x in leaves(left)] == [3, 2, 2]
