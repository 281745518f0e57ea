"""Networks of the user's own, from a file of Python and a file of weights."""

from snn_energy.own.network import (
    RANDOM,
    OwnModel,
    build_own,
    failure,
    fit_weights,
    load_builder,
    load_own,
    names_own,
    seeded,
    with_way_out,
)

__all__ = [
    "RANDOM",
    "OwnModel",
    "build_own",
    "failure",
    "fit_weights",
    "load_builder",
    "load_own",
    "names_own",
    "seeded",
    "with_way_out",
]
