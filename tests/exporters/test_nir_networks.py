"""Networks of all shapes as NIR: each file passes nir's own type check and computes what its model does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from exact import exact, exact_images
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from snn_energy.errors import ConfigError, UnsupportedOp, VerificationError
from snn_energy.exporters.nir.export import NIR_FILE, NirPart, export_nir, verify_dir
from snn_energy.exporters.nir.run import NirRun

nir = pytest.importorskip("nir")
T = 5


def lif(**fields: object) -> nn.Module:
    return neuron.LIFNode(step_mode="m", **fields)


def integrate(**fields: object) -> nn.Module:
    return neuron.IFNode(step_mode="m", **fields)


class Still(nn.Module):
    """Layers of SpikingJelly on an image shown at every step; the answer is the mean over steps."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*modules)
        functional.set_step_mode(self.net, "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        return self.net(x.unsqueeze(0).expand(T, *x.shape)).mean(0)


class EveryStep(Still):
    """The same with an answer for every step."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        return self.net(x.unsqueeze(0).expand(T, *x.shape))


class Events(Still):
    """Frames (T, B, …) go through as they are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        return self.net(x)


class Shortcuts(nn.Module):
    """Spikes added to a current, to themselves, and to other spikes' currents."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n1 = layer.Conv2d(2, 6, 3, padding=1), integrate()
        self.b, self.n2 = layer.Conv2d(6, 6, (3, 5), padding=(1, 2)), lif()
        self.flat, self.head = layer.Flatten(), layer.Linear(6 * 7 * 8, 4)
        functional.set_step_mode(self, "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        first = self.n1(self.a(x.unsqueeze(0).expand(T, *x.shape)))
        second = self.n2(self.b(first) + first)
        return self.head(self.flat(second + first)).mean(0)


def alive(build: Callable[[], nn.Module]) -> nn.Module:
    """The network with weights that make every layer fire, on a grid on which sums are exact."""
    torch.manual_seed(0)
    model = build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.5)
    return exact(model)


def flat_head(size: int, classes: int = 4) -> tuple[nn.Module, nn.Module]:
    return layer.Flatten(), layer.Linear(size, classes)


Case = tuple[Callable[[], nn.Module], tuple[int, ...], float]
CASES: dict[str, Case] = {
    "flat samples": (lambda: Still(layer.Linear(13, 9), lif(), layer.Linear(9, 4)), (3, 13), 2.0),
    "integrators": (
        lambda: Still(layer.Linear(6, 9), integrate(), layer.Linear(9, 5), integrate()), (3, 6), 2.0),
    "a map of one position": (
        lambda: Still(layer.Conv2d(2, 6, 5), lif(), *flat_head(6)), (3, 2, 5, 5), 3.0),
    "a long kernel over the whole map": (
        lambda: Still(layer.Conv2d(2, 6, (4, 9)), lif(), *flat_head(6)), (3, 2, 4, 9), 3.0),
    "kernels that are not square": (
        lambda: Still(
            layer.Conv2d(2, 6, (1, 5), padding=(0, 2), stride=(1, 2)), lif(),
            layer.Conv2d(6, 4, (3, 1), dilation=(2, 1)), lif(), *flat_head(60, 3),
        ), (2, 2, 7, 10), 3.0),
    "groups": (
        lambda: Still(layer.Conv2d(4, 6, 3, padding=1, groups=2), lif(), *flat_head(6 * 35)),
        (2, 4, 5, 7), 3.0),
    "one dimension": (
        lambda: Still(
            layer.Conv1d(2, 6, 5, stride=2, padding=2), lif(), layer.Conv1d(6, 8, 3, groups=2), integrate(),
            *flat_head(8 * 7, 3),
        ), (3, 2, 17), 3.0),
    "pools": (
        lambda: Still(
            layer.Conv2d(1, 6, 3, padding=1), lif(), layer.MaxPool2d(2), layer.Conv2d(6, 5, 3), integrate(),
            layer.AvgPool2d((1, 2)), *flat_head(10, 3),
        ), (2, 1, 6, 12), 3.0),
    "soft reset": (
        lambda: Still(
            layer.Linear(7, 9), lif(v_reset=None), layer.Linear(9, 6), integrate(v_reset=None),
            layer.Linear(6, 4),
        ), (3, 7), 3.0),
    "soft reset, undecayed": (
        lambda: Still(
            layer.Conv2d(2, 4, 3), lif(v_reset=None, tau=4.0, decay_input=False, v_threshold=0.75),
            *flat_head(4 * 12),
        ), (2, 2, 5, 6), 2.0),
    "reset to a value": (
        lambda: Still(layer.Linear(7, 9), lif(v_reset=-0.25), layer.Linear(9, 4)), (3, 7), 3.0),
    "firing rates of a map": (lambda: Still(layer.Conv2d(2, 3, 3), lif()), (2, 2, 5, 6), 3.0),
    "an answer for every step": (
        lambda: EveryStep(layer.Linear(7, 9), lif(), layer.Linear(9, 4)), (3, 7), 3.0),
    "shortcuts": (Shortcuts, (2, 2, 7, 8), 3.0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_file_reads_back_and_fires_as_the_model(name: str, tmp_path: Path) -> None:
    build, shape, gain = CASES[name]
    model, x = alive(build), exact_images(*shape) * gain
    verdict = export_nir(model, tmp_path, x.numpy())
    assert verdict.verdict == "identical" and verdict.part(NirPart).not_compared == ()
    assert all(0 < check.spikes < check.compared for check in verdict.neurons), "a layer is not alive"
    file = nir.read(str(tmp_path / NIR_FILE))  # its type check on
    with torch.no_grad():
        wanted = model(x)
    wanted = wanted.mean(0) if name == "an answer for every step" else wanted
    got = NirRun(file, x.expand(T, *x.shape)).held["output"].mean(0)
    torch.testing.assert_close(got.reshape(wanted.shape).float(), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", [None, "TB"])
def test_frames_with_time_first(layout: str | None, tmp_path: Path) -> None:
    model = alive(lambda: Events(layer.Conv2d(2, 5, 3), lif(), layer.Flatten(), layer.Linear(5 * 12, 4)))
    x = (torch.rand(T, 3, 2, 5, 6) < 0.5).float() * 4
    verdict = export_nir(model, tmp_path, x.numpy(), layout=layout)
    assert verdict.verdict == "identical" and verdict.samples == 3
    assert nir.read(str(tmp_path / NIR_FILE)).nodes["x"].input_type["input"].tolist() == [2, 5, 6]
    with torch.no_grad():
        wanted = model(x).mean(0)
    got = NirRun(nir.read(str(tmp_path / NIR_FILE)), x).held["output"].mean(0)
    torch.testing.assert_close(got.float(), wanted, atol=1e-5, rtol=1e-5)


def test_soft_reset_is_a_loop_of_nir_primitives(tmp_path: Path) -> None:
    """Stepped by hand from the file's own numbers: the membrane hears what its spikes take, a step later."""
    model = alive(lambda: Still(layer.Linear(4, 3), lif(v_reset=None, tau=4.0), layer.Linear(3, 2)))
    x = exact_images(1, 4) * 8
    export_nir(model, tmp_path, x.numpy())
    nodes, edges = (file := nir.read(str(tmp_path / NIR_FILE))).nodes, file.edges
    kinds = [type(nodes[f"net_1{end}"]).__name__ for end in ("_membrane", "", "_reset")]
    assert kinds == ["LI", "Threshold", "Scale"]
    loop = ["net_1_membrane", "net_1", "net_1_reset", "net_1_membrane"]
    assert set(pairwise(loop)) <= set(edges)
    current = nodes["net_0"].weight.astype(float) @ x[0].numpy() + nodes["net_0"].bias
    v, s, theirs = np.zeros(3), np.zeros(3), []
    for _ in range(T):
        leak = 1e-4 / nodes["net_1_membrane"].tau
        v = v + leak * (current + nodes["net_1_reset"].scale * s - v)
        s = (v > nodes["net_1"].threshold).astype(float)
        theirs.append(s)
    h, ours = np.zeros(3), []
    for _ in range(T):  # SpikingJelly's own equation
        h = h + (current - h) / 4
        ours.append((h >= 1).astype(float))
        h = h - ours[-1]
    np.testing.assert_array_equal(theirs, ours)
    assert 0 < np.sum(ours) < 3 * T


def test_what_cannot_be_read_back_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    model = Still(layer.Conv2d(2, 6, (3, 4)), lif(), layer.Flatten(), layer.Linear(6 * 12, 4)).eval()
    with pytest.raises(UnsupportedOp, match=r"net\.0: cannot lower a kernel of 3×4 in NIR; make both"):
        export_nir(model, tmp_path, np.zeros((2, 2, 5, 7), np.float32))
    assert not list(tmp_path.iterdir())


def test_other_frameworks_read_the_file_on_demand(tmp_path: Path) -> None:
    build, shape, gain = CASES["flat samples"]
    x = exact_images(*shape) * gain
    export_nir(alive(build), tmp_path, x.numpy())
    verdict = verify_dir(tmp_path, x.numpy(), runtime="spikingjelly")
    assert verdict.verdict == "identical" and verdict.form == "spikingjelly"
    assert [check.name for check in verdict.neurons] == ["net.1"] and verdict.neurons[0].spikes
    with pytest.raises(ConfigError, match=r"runtime 'brian': must be nir, .*, snntorch, norse, sinabs"):
        verify_dir(tmp_path, x.numpy(), runtime="brian")
    export_nir(alive(CASES["soft reset"][0]), tmp_path, exact_images(3, 7).numpy() * 3)
    with pytest.raises(VerificationError, match="spikingjelly does not take the file: "):
        verify_dir(tmp_path, exact_images(3, 7).numpy(), runtime="spikingjelly")
