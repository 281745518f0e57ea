"""SANA-FE, a simulator of neuromorphic chips, as a second opinion and for energy and latency.

Boyle et al., "SANA-FE: Simulating Advanced Neuromorphic Architectures for Fast Exploration", IEEE TCAD 2025.
An optional package under the GPL: imported here only, when asked for.  It gets every synapse explicitly (its
own Conv2D ignores padding) on its Loihi architecture, whose LIF truncates to 1/64: its V is ours / 64.
It has no graded spikes, no delays and none of our own processes: such a netlist is refused by name.  States
are not reset between samples, so every sample runs on a fresh chip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snn_energy.errors import ConfigError, MissingDependency, UnsupportedOp
from snn_energy.exporters.netlist.check import check
from snn_energy.exporters.netlist.record import (
    DECAY_UNITY,
    SYNAPSES,
    Array,
    Conv,
    Input,
    Netlist,
    Population,
    Readout,
    Synapses,
    time_offsets,
    width,
)
from snn_energy.exporters.netlist.simulate import as_messages
from snn_energy.exporters.netlist.synapses import listed

NEURONS_PER_CORE = 1024
INPUT_SLOTS = 1024
SUPPORTED = "binary inputs, populations, and convolution, dense, sparse and one-to-one synapses"


@dataclass(frozen=True)
class SanafeResult:
    """`spikes`: population -> (B, T, C, H, W).  `energy` in joules, `latency` in seconds, means."""

    spikes: Mapping[str, Array]
    energy: float
    energy_parts: Mapping[str, float]
    latency: float
    version: str


def obstacle(netlist: Netlist) -> UnsupportedOp | None:
    """The first node that SANA-FE's Loihi has no form for."""
    for name, node in netlist.nodes.items():
        if isinstance(node, Input) and node.message_bits:
            way_out = "feed spikes, for instance event frames of 0 and 1"
            return UnsupportedOp(name, "graded input in SANA-FE", supported=SUPPORTED, way_out=way_out)
        if not isinstance(node, (Input, Population, Readout, *SYNAPSES)):
            way_out = "the integer simulator and Lava run it"
            return UnsupportedOp(
                name, f"{type(node).__name__} in SANA-FE", supported=SUPPORTED, way_out=way_out
            )
        if isinstance(node, Population) and np.any(node.bias) and node.current_decay < DECAY_UNITY:
            way_out = "a bias enters as a synapse here, so its current must not persist: current_decay 4096"
            return UnsupportedOp(name, "bias with a decaying current", supported=SUPPORTED, way_out=way_out)
    return None


def run_sanafe(netlist: Netlist, x: Array) -> SanafeResult:
    """Run messages `x`, (B, C, H, W) or (B, T, C, H, W), sample by sample.

    Raises `UnsupportedOp` by node, `MissingDependency` without the package.
    """
    if (refusal := obstacle(check(netlist))) is not None:
        raise refusal
    sanafe = _sanafe()
    x = as_messages(netlist, x)
    offsets = time_offsets(netlist)
    steps = netlist.time_steps + max(offsets.values())
    spikes = {
        n: np.zeros((len(x), netlist.time_steps, width(p)), np.int8) for n, p in netlist.populations().items()
    }
    energy: dict[str, float] = {}
    seconds = 0.0
    for sample, frames in enumerate(x):
        arch, network = _build(sanafe, netlist, frames, steps)
        chip = sanafe.SpikingChip(arch)
        chip.load(network)
        result = chip.sim(steps, spike_trace=True)
        _read_trace(result["spike_trace"], netlist, offsets, {n: s[sample] for n, s in spikes.items()})
        for part, joules in result["energy"].items():
            energy[part] = energy.get(part, 0.0) + joules / len(x)
        seconds += result["sim_time"] / len(x)
    shaped = {n: s.reshape(*s.shape[:2], *netlist.nodes[n].shape) for n, s in spikes.items()}
    total = energy.pop("total")
    return SanafeResult(shaped, total, energy, seconds, getattr(sanafe, "__version__", "unknown"))


def _sanafe() -> Any:
    try:
        import sanafe
    except ImportError as error:
        raise MissingDependency("sanafe", "sanafe", "the SANA-FE target") from error
    return sanafe


def _read_trace(
    trace: Any, netlist: Netlist, offsets: Mapping[str, int], spikes: Mapping[str, Array]
) -> None:
    """Put SANA-FE's list of spikes per step at the sample step that each population was at."""
    for step, fired in enumerate(trace):
        for spike in fired:
            name = spike.group_name
            at = step - offsets.get(name, 0)
            if name in spikes and 0 <= at < netlist.time_steps:
                neuron = spike.neuron_offset if hasattr(spike, "neuron_offset") else spike.neuron_id
                spikes[name][at, neuron] = 1


def _build(sanafe: Any, netlist: Netlist, frames: Array, steps: int) -> tuple[Any, Any]:
    """(architecture, network) of one sample, neurons placed on cores in order."""
    architecture, network = sanafe.load_loihi(), sanafe.Network()
    groups: dict[str, Any] = {}
    for name in netlist.order():
        node = netlist.nodes[name]
        if isinstance(node, Input):
            groups[name] = _input_group(network, name, node, frames, steps)
        elif isinstance(node, Population):
            groups[name] = _population_group(network, netlist, name, node)
    for name in netlist.named(Population):
        for edge in netlist.inputs_of(name):
            projection: Any = netlist.nodes[edge.source]
            _connect(groups, netlist.inputs_of(edge.source)[0].source, name, projection)
    for name, node in netlist.populations().items():
        if np.any(node.bias):
            groups[f"{name}:bias"] = _bias_group(network, netlist, name, steps, groups[name])
    cores = iter(architecture.cores())
    for name, group in groups.items():
        core, used = None, NEURONS_PER_CORE
        for index in range(width(netlist.nodes[name]) if name in netlist.nodes else 1):
            if used >= NEURONS_PER_CORE:
                core, used = next(cores, None), 0
                if core is None:
                    raise ConfigError("the netlist needs more cores than SANA-FE's Loihi has")
            group[index].map_to_core(core)
            used += 1
    return architecture, network


def _input_group(network: Any, name: str, node: Input, frames: Array, steps: int) -> Any:
    group = network.create_neuron_group(name, width(node), {}, soma_hw_name="loihi_inputs")
    flat = np.zeros((width(node), steps), bool)
    flat[:, : len(frames)] = frames.reshape(len(frames), -1).T.astype(bool)
    for index, spikes in enumerate(flat):
        slot = f"loihi_inputs[{index % INPUT_SLOTS}]"
        group[index].set_attributes(soma_hw_name=slot, model_attributes={"spikes": spikes.tolist()})
    return group


def _population_group(network: Any, netlist: Netlist, name: str, node: Population) -> Any:
    convolved = isinstance(netlist.nodes[netlist.inputs_of(name)[0].source], Conv)
    attributes = {
        "threshold": float(node.threshold),
        "leak_decay": 1 - node.voltage_decay / 4096,
        "input_decay": 1 - node.current_decay / 4096,
        "reset": 0.0,
        "reset_mode": "hard",
    }
    return network.create_neuron_group(
        name, width(node), attributes, soma_hw_name="loihi_lif", log_spikes=True,
        default_synapse_hw_name="loihi_conv_synapse" if convolved else "loihi_dense_synapse",
    )  # fmt: skip


def _bias_group(network: Any, netlist: Netlist, name: str, steps: int, group: Any) -> Any:
    """The bias as synapses of one input neuron that fires from the step before a sample's first arrival.

    SANA-FE has no reset on arrival; its own bias would charge a deep population too early.
    """
    node = netlist.nodes[name]
    assert isinstance(node, Population)
    source = network.create_neuron_group(f"{name}:bias", 1, {}, soma_hw_name="loihi_inputs")
    start = time_offsets(netlist)[name] - 1
    spikes = [step >= start for step in range(steps)]
    source[0].set_attributes(soma_hw_name="loihi_inputs[0]", model_attributes={"spikes": spikes})
    values = np.broadcast_to(node.bias, node.shape).ravel() / 64
    used = np.flatnonzero(values)
    pairs = [(0, int(i)) for i in used]
    source.connect_neurons_sparse(group, {"weight": values[used].tolist()}, pairs)
    return source


def _connect(groups: Mapping[str, Any], source: str, target: str, projection: Synapses) -> None:
    sources, targets, weights = listed(projection)
    pairs = list(zip(sources.tolist(), targets.tolist(), strict=True))
    groups[source].connect_neurons_sparse(groups[target], {"weight": weights.astype(float).tolist()}, pairs)
