"""Every network of SpikingJelly's zoo: nothing uncounted, nothing changed."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest
import torch
from networks import ZOO, lively
from spikingjelly.activation_based import functional
from spikingjelly.activation_based import model as model_package
from torch import nn

from snn_energy.profiling import profile, record_spikes
from snn_energy.profiling.resolve import SYNAPTIC

SLOW = {"spike_dhs", "snas_net", "snas_net_backward", "spiking_vgg", "spiking_vgg_bn"}
CASES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in ZOO]


@pytest.mark.parametrize("name", CASES)
def test_network_is_counted_completely_and_left_alone(name: str) -> None:
    torch.manual_seed(0)
    model, x = ZOO[name]()
    lively(model).train()
    steps = 3 if name.startswith("ottt") else None
    measured = profile(model, [x], strict=True, time_steps=steps)
    assert measured.uncounted == ()
    assert model.training
    rows = {r.name: r for r in measured.rows if r.op in SYNAPTIC}
    layers = {n for n, m in model.named_modules() if hasattr(m, "weight") and m.weight.dim() > 1}
    assert layers <= set(rows) | set(measured.uncalled)
    assert any(r.role == "encoder" for r in rows.values()) and any(r.role == "head" for r in rows.values())
    assert all(r.ac_square_sum is not None and r.mac_square_sum is not None for r in rows.values())
    assert sum(r.ac for r in rows.values()) > 0
    spikes = record_spikes(model, x, time_steps=steps)
    fired = {n: int(s.sum()) for n, s in spikes.items() if "#" not in n}
    assert fired == {r.name: r.output_nonzero for r in measured.rows if r.name in fired and r.output_elements}
    assert all(s.shape[0] == measured.time_steps for s in spikes.values())


NOT_NETWORKS = {  # what no network holds as a module
    "spike_dhs.Nearest",  # made inside `forward`
    "sew_resnet._SEWHead",  # the rest split a network over devices: the same operations elsewhere
    "spikformer._SpikformerHead",
    "spikformer._HeadShardQKVConv1d",
}


@pytest.mark.slow
def test_no_network_of_spikingjelly_is_left_out() -> None:
    """Every module class of `spikingjelly.activation_based.model` works in some network profiled here."""
    package = model_package.__name__
    defined = set()
    for info in pkgutil.walk_packages(model_package.__path__, f"{package}."):
        module = importlib.import_module(info.name)
        defined |= {
            f"{info.name.removeprefix(package + '.')}.{name}"
            for name, value in vars(module).items()
            if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == info.name
        }
    used = {
        f"{base.__module__.removeprefix(package + '.')}.{base.__qualname__}"
        for build in ZOO.values()
        for module in build()[0].modules()
        for base in type(module).__mro__
    }
    assert len(defined) > 40
    assert defined - used == NOT_NETWORKS


@pytest.mark.parametrize("name", ["spikformer", "sew_resnet_add", "att_ms_resnet"])
def test_output_is_bit_identical_under_instrumentation(name: str) -> None:
    from snn_energy.profiling.instrument import instrumented
    from snn_energy.profiling.recorder import Recorder

    torch.manual_seed(0)
    model, x = ZOO[name]()
    lively(model).eval()
    recorder = Recorder(model)
    functional.reset_net(model)
    with torch.no_grad():
        plain = model(x)
        functional.reset_net(model)
        with instrumented(model, recorder) as watch, watch:
            watched = model(x)
    assert recorder.tallies and torch.equal(plain, watched)
