"""Print what other tools count on the networks of tests/energy/tool_networks.py, as JSON.

The figures in tests/energy/test_tools.py come from here.  Run it in an environment of its own, with torch,
SpikingJelly 2.0 and the tool in question (syops 0.0.5, neurobench 2.3.0 with snntorch, or a clone of
zhouchenlin2096/Spikingformer at commit 4378623):

    python scripts/tool_totals.py syops | neurobench | spikingformer PATH_OF_THE_CLONE

syops and Spikingformer's calculator import names of SpikingJelly 0.0.12, which are given to them here.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "energy"))
import tool_networks


def old_names() -> None:
    """`spikingjelly.clock_driven`, as far as the two calculators import it."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    package, neurons = (types.ModuleType(f"spikingjelly.clock_driven{end}") for end in ("", ".neuron"))
    for name in ("IFNode", "LIFNode", "ParametricLIFNode"):
        setattr(neurons, name, getattr(neuron, name))
        setattr(neurons, f"MultiStep{name}", getattr(neuron, name))
    package.neuron, package.functional, package.surrogate = neurons, functional, surrogate  # type: ignore[attr-defined]
    sys.modules |= {package.__name__: package, neurons.__name__: neurons}


def syops() -> dict[str, Any]:
    """ACs and MACs of one image, and those of the transformer without its attention products."""
    old_names()
    from syops import get_model_complexity_info

    found = {}
    for name, make in (("plain", tool_networks.plain), ("former", tool_networks.former)):
        model, x = make()
        with contextlib.redirect_stdout(io.StringIO()):
            totals, _ = get_model_complexity_info(
                model, tuple(x.shape[1:]), dataloader=[(x, None)], as_strings=False,
                print_per_layer_stat=False, verbose=False,
            )  # fmt: skip
        found[name] = {"ac": float(totals[1]), "mac": float(totals[2])}
    return found


def neurobench() -> dict[str, Any]:
    """Effective ACs and MACs of one image, with all weights and with a third of them zero."""
    import torch
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    found = {}
    made = {
        "plain": tool_networks.plain(),
        "pruned": tool_networks.plain(pruned=True),
        "former": tool_networks.former(),
    }
    for name, (model, x) in made.items():
        wrapped, metric = TorchModel(model), SynapticOperations()
        wrapped.register_hooks()
        with torch.no_grad():
            predicted = wrapped(x)
            metric(wrapped, predicted, (x, torch.zeros(len(x))))
        totals = metric.compute()
        found[name] = {"ac": totals["Effective_ACs"], "mac": totals["Effective_MACs"]}
    return found


def spikingformer(clone: str) -> dict[str, Any]:
    """G ACs, G MACs and mJ that the calculator prints."""
    old_names()
    sys.path.insert(0, clone)
    from energy_consumption_calculation import flops_counter

    model, x = tool_networks.former()
    flops_counter.ssa_info = {
        "depth": model.DEPTH, "Nheads": model.HEADS, "embSize": model.DIM,
        "patchSize": model.TOKENS**0.5, "Tsteps": model.T,
    }  # fmt: skip
    import torch

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        flops_counter.get_model_complexity_info(
            model, tuple(x.shape[1:]), dataloader=[(x, torch.zeros(len(x), dtype=torch.long))],
            as_strings=True, print_per_layer_stat=True, verbose=False, ost=io.StringIO(),
        )  # fmt: skip
    number = r"([\d.e+-]+)"
    mac, ac = re.search(rf"operations: {number} G MACs, {number} G ACs", printed.getvalue()).groups()  # type: ignore[union-attr]
    mj = re.search(rf"consumption: {number} mJ", printed.getvalue()).group(1)  # type: ignore[union-attr]
    return {"former": {"mac_g": float(mac), "ac_g": float(ac), "mj": float(mj)}}


if __name__ == "__main__":
    tools = {"syops": syops, "neurobench": neurobench, "spikingformer": spikingformer}
    print(json.dumps(tools[sys.argv[1]](*sys.argv[2:]), indent=1))
