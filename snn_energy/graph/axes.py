"""Where time and batch live in a tensor: axes as products of atoms.

A model flattens (T, B, C, H, W) to (T·B, C, H, W) and back, or cuts T into chunks.  Sizes alone do not tell
which 4 is T.  So every axis is a list of `Atom`s, outermost first; a reshape only regroups or splits atoms,
an elementwise operation makes those of both operands the same, and a neuron declares its first axis to be
time.  What time is then follows for every tensor, whatever the sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import prod

from snn_energy.graph.dims import Dim, Monomial


class Atom:
    """An indivisible factor of an axis, until it is split: `parts` are then its factors, outermost first."""

    __slots__ = ("parts", "size")

    def __init__(self, size: Monomial) -> None:
        self.size = size
        self.parts: list[Atom] | None = None

    def leaves(self) -> list[Atom]:
        """What this atom has become."""
        if self.parts is None:
            return [self]
        return [leaf for part in self.parts for leaf in part.leaves()]


Axis = list[Atom]
ONE = Monomial()


def leaves(axis: Iterable[Atom]) -> list[Atom]:
    """The atoms of an axis as they are now."""
    return [leaf for atom in axis for leaf in atom.leaves()]


def size(axis: Iterable[Atom]) -> Monomial:
    """The size of an axis."""
    return prod((atom.size for atom in axis), start=ONE)


def fresh(dim: Monomial) -> Axis:
    """A new axis about which nothing is known; size 1 has no atoms."""
    return [] if dim == ONE else [Atom(dim)]


def _split(atom: Atom, outer: Monomial) -> bool:
    """Make `atom` = outer × inner; False where that does not divide."""
    inner = atom.size / outer
    if inner.coefficient.denominator != 1 or inner.b < 0 or outer.b < 0:
        return False
    atom.parts = [Atom(outer), Atom(inner)]
    return True


def unify(left: Axis, right: Axis) -> None:
    """Declare two axes of equal size to be the same one."""
    a, b = leaves(left), leaves(right)
    while a and b:
        if a[0] is b[0] or a[0].size == b[0].size:
            if a[0] is not b[0]:
                a[0].parts = [b[0]]
            a, b = leaves(a[1:]), leaves(b[1:])
        elif _split(a[0], b[0].size) or _split(b[0], a[0].size):
            a, b = leaves(a), leaves(b)
        else:
            return


def regroup(axes: Sequence[Axis], sizes: Sequence[Monomial]) -> list[Axis]:
    """The axes of a tensor reshaped to `sizes`; unknown ones where the cut does not respect the atoms."""
    queue = leaves(atom for axis in axes for atom in axis)
    result: list[Axis] = []
    for target in sizes:
        axis: Axis = []
        while (rest := target / size(axis)) != ONE:
            if not queue:
                return [fresh(s) for s in sizes]
            atom = queue.pop(0)
            if not _fits(atom.size, rest):
                if not _split(atom, rest):
                    return [fresh(s) for s in sizes]
                outer, inner = atom.leaves()
                atom, queue = outer, [inner, *queue]
            axis.append(atom)
        result.append(axis)
    return result


def _fits(inner: Monomial, outer: Monomial) -> bool:
    ratio = outer / inner
    return ratio.coefficient.denominator == 1 and ratio.b >= 0


class Labels:
    """What the atoms of a finished model are called, given the atoms that are time."""

    def __init__(self, time: Axis) -> None:
        self.time = [leaf for leaf in leaves(time) if leaf.size != ONE]
        inner = size(self.time[1:]).coefficient
        names = [Monomial(Fraction(1) / inner, t=1), *(atom.size for atom in self.time[1:])]
        self._names = dict(zip(map(id, self.time), names, strict=False))

    def cut(self, axis: Axis) -> list[list[Atom]]:
        """An axis that holds both time and something else, cut where one meets the other.

        T·B becomes two axes T and B; every other axis stays one.
        """
        atoms = leaves(axis)
        runs: list[list[Atom]] = []
        for atom in atoms:
            timely = id(atom) in self._names
            batch = atom.size.b > 0
            if runs and (timely, batch) == self._kind(runs[-1][-1]):
                runs[-1].append(atom)
            else:
                runs.append([atom])
        if any(self._kind(run[0])[1] for run in runs) and len(runs) > 1:
            return runs
        return [atoms]

    def _kind(self, atom: Atom) -> tuple[bool, bool]:
        return id(atom) in self._names, atom.size.b > 0

    def dim(self, axis: Iterable[Atom]) -> Dim:
        """The size of an axis with time as the symbol T."""
        return prod((self._names.get(id(a), a.size) for a in axis), start=ONE).dim()
