"""Other tools as oracles, where they are known to be right."""

from __future__ import annotations

import pytest
import torch
from networks import ZOO, lively
from spikingjelly.activation_based import functional, op_counter
from torch import nn

from snn_energy.profiling import profile
from snn_energy.profiling.resolve import SYNAPTIC


def synops(model: nn.Module, x: torch.Tensor) -> int:
    counter = op_counter.SynOpCounter()
    functional.reset_net(model)
    with torch.no_grad(), op_counter.DispatchCounterMode([counter]):
        model(x)
    return int(counter.get_total())


class Binary(nn.Module):
    """Only binary operands: convolutions with border, stride and groups, a linear layer, a product."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2, bias=False)
        self.linear = nn.Linear(7, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (
            self.conv(x).sum() + self.linear(x).sum() + torch.bmm(x.flatten(0, 1), x.flatten(0, 1).mT).sum()
        )


def test_spikingjelly_counts_the_same_synaptic_operations() -> None:
    x = (torch.rand(3, 4, 5, 7, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    model = Binary()
    rows = [r for r in profile(model, [x]).rows if r.op in SYNAPTIC]
    assert len(rows) == 3 and all(r.input_kind == "binary" for r in rows)
    assert sum(r.ac for r in rows) == synops(model, x)


@pytest.mark.parametrize("name", ["spiking_resnet", "sew_resnet_and", "plif_mnist"])
def test_spikingjelly_agrees_on_whole_networks(name: str) -> None:
    """On binary operands; it counts no operand that is real, graded or scaled."""
    torch.manual_seed(0)
    model, x = ZOO[name]()
    lively(model).eval()
    x = (x > 0.6).float()  # a binary input: the first layer is event-driven too
    rows = [r for r in profile(model, [x]).rows if r.op in SYNAPTIC and r.input_kind == "binary"]
    assert sum(r.ac_executed for r in rows) == synops(model, x) > 0


@pytest.mark.parametrize("name", ["spiking_resnext", "sdt", "spikformer"])
def test_dense_macs_are_those_of_fvcore(name: str) -> None:
    """fvcore counts dense shapes; what it calls by another name or counts besides is named here."""
    fvcore = pytest.importorskip("fvcore.nn", reason="fvcore is not installed")
    torch.manual_seed(0)
    model, x = ZOO[name]()
    model.eval()
    functional.reset_net(model)
    analysis = (
        fvcore.FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    )
    theirs = {
        op: int(n) for op, n in analysis.by_operator().items() if op in ("conv", "linear", "matmul", "bmm")
    }
    mine = profile(model, [x])
    rows = [r for r in mine.rows if r.op in SYNAPTIC]
    convs = sum(r.dense_macs for r in rows if r.op.startswith("conv"))
    assert convs == theirs["conv"] > 0
    assert sum(r.dense_macs for r in rows if r.op == "linear") == theirs.get("linear", 0)
    products = theirs.get("matmul", 0) + theirs.get("bmm", 0)
    assert sum(r.dense_macs for r in rows if r.op == "matmul") == products
