"""NIR graphs for tests: written with the nir package, loaded with ours, run beside `nir_reference`."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from nir_reference import Run

import snn_energy
from snn_energy.models.nir import NirNetwork

DT = 1e-4


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def chain(shape: tuple[int, ...], gives: tuple[int, ...], **nodes: Any) -> Any:
    """input → nodes in order → output."""
    inner = {
        "input": nir.Input({"input": np.array(shape)}),
        **nodes,
        "output": nir.Output({"output": np.array(gives)}),
    }
    names = list(inner)
    return nir.NIRGraph(inner, list(itertools.pairwise(names)), type_check=False)


def neuron(kind: str, shape: tuple[int, ...] = (), seed: int = 0, **fields: Any) -> Any:
    """A neuron with parameters per element, or one for all (shape ()), as an array of one."""
    random, shape = rng(seed), shape or (1,)
    span = lambda low, high: random.uniform(low, high, shape)  # noqa: E731
    known = {
        "tau": span(3 * DT, 9 * DT), "tau_mem": span(4 * DT, 9 * DT), "tau_syn": span(2 * DT, 5 * DT),
        "r": span(1.5, 4.0), "v_leak": span(-0.2, 0.3), "v_threshold": span(0.6, 1.1),
        "v_reset": span(-0.3, 0.2), "w_in": span(1.2, 2.5),
    }  # fmt: skip
    if kind in ("IF", "I"):
        known["r"] = known["r"] / DT / 4
    cls = getattr(nir, kind)
    names = [n for n in cls.__dataclass_fields__ if n in known]
    values = {n: np.asarray(fields.get(n, known[n]), np.float32) for n in names}
    return cls(**values)


def load(graph: Any, folder: Path, **options: Any) -> NirNetwork:
    """Through a file and back."""
    path = folder / "net.nir"
    nir.write(str(path), graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = snn_energy.load(path, **options)
    assert isinstance(model, NirNetwork)
    return model


def reference(
    graph: Any, x: np.ndarray, late: tuple[tuple[str, str], ...] = (), dt: float = DT
) -> dict[str, np.ndarray]:
    """Every node's output, (T, B, …), of `x` (T, B, …); no membrane may come near its threshold."""
    runs = [Run(graph, x[:, b], dt, late) for b in range(x.shape[1])]
    assert min(run.margin for run in runs) > 1e-5
    return {name: np.stack([run.out[name] for run in runs], 1) for name in graph.nodes}


def agree(model: NirNetwork, graph: Any, x: np.ndarray, late: tuple[tuple[str, str], ...] = ()) -> np.ndarray:
    """The output of model and loops on `x`, equal up to float32; the loops' output."""
    expected = reference(graph, x, late, model.dt)["output"]
    out = model(torch.as_tensor(x, dtype=torch.float32))
    assert isinstance(out, torch.Tensor)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    return expected
