"""The page of NIR readers: right readers are called equal, wrong ones are found by themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

nir = pytest.importorskip("nir")

from snn_energy.exporters.nir.conformance import graphs, page, verdict  # noqa: E402
from snn_energy.exporters.nir.readers import importer  # noqa: E402
from snn_energy.exporters.nir.write import DT  # noqa: E402
from snn_energy.models.nir import NirNetwork  # noqa: E402

GRAPHS = graphs()


class Ours:
    """Our reader as an importer's module: at each step it runs all steps so far and gives the last."""

    def __init__(self, graph: Any, change: Any = None) -> None:
        tree = graph.to_dict()
        if change is not None:
            change(tree["nodes"])
        self.net = NirNetwork(tree, dt=DT)

    def __call__(self, x: torch.Tensor, before: Any = None) -> tuple[torch.Tensor, Any]:
        steps = [*(before or []), x]
        return self.net(torch.stack(steps))[-1], steps


@pytest.mark.parametrize("name", GRAPHS)
def test_a_right_reader_is_equal_and_every_spiking_graph_fires(name: str) -> None:
    assert verdict(name, GRAPHS[name], Ours) == "equal"


def without_r(nodes: Any) -> None:
    nodes["node0"]["r"] = nodes["node0"]["r"] * 0 + 1


def test_a_reader_that_forgets_r_is_found() -> None:
    assert "spikes differ" in verdict("LIF, r = 2", GRAPHS["LIF, r = 2"], lambda g: Ours(g, without_r))
    assert verdict("LIF", GRAPHS["LIF"], lambda g: Ours(g, without_r)) == "equal"


def refuses(graph: Any) -> Any:
    raise ValueError("no such\nprimitive")


def test_refusals_and_other_shapes_are_what_they_are() -> None:
    assert verdict("LI", GRAPHS["LI"], refuses) == "refused: no such primitive"
    assert verdict("LI", GRAPHS["LI"], lambda g: lambda x: x) == "**shape (3, 5), right (3, 3)**"
    assert verdict("Scale", GRAPHS["Scale"], lambda g: lambda x: x[:, :3]).startswith("**")


def test_spikingjelly_reads_what_it_reads_rightly() -> None:
    read = importer("spikingjelly")
    assert [verdict(n, GRAPHS[n], read) for n in ("IF, r = 1/dt", "LIF", "Conv2d")] == ["equal"] * 3
    assert verdict("LI", GRAPHS["LI"], read).startswith("refused: ")


def test_the_page_names_versions_and_what_was_not_run() -> None:
    text = page()
    assert (
        "spikingjelly 2" in text and f"nir {__import__('importlib.metadata').metadata.version('nir')}" in text
    )
    assert all(f"| {name} |" in text for name in GRAPHS)
