"""SANA-FE, a simulator of neuromorphic chips, as a second opinion and for energy and latency.

Boyle et al., "SANA-FE: Simulating Advanced Neuromorphic Architectures for Fast Exploration", IEEE TCAD 2025.
An optional package under the GPL: imported here only, when asked for.  It gets every synapse explicitly (its
own Conv2D ignores padding; see `wires`) on its Loihi architecture, whose LIF truncates to 1/64: its V is ours
/ 64.  It has none of our own processes: such a netlist is refused by name.  States are not reset between
samples, so every sample runs on a fresh chip.  The classifier's sums are the host's and cost nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from snn_energy.errors import ConfigError, MissingDependency
from snn_energy.exporters.netlist.check import DECAY_MAX, check
from snn_energy.exporters.netlist.record import Array, Input, Netlist, Population, time_offsets, width
from snn_energy.exporters.netlist.simulate import as_messages
from snn_energy.exporters.sanafe.wires import Wires, bit_planes, obstacle, wires

NEURONS_PER_CORE = 1024
INPUT_SLOTS = 1024
LATE_WEIGHT, LATE_THRESHOLD = 2.0, 1.0  # one spike makes a neuron that keeps a delay fire


@dataclass(frozen=True)
class SanafeResult:
    """`spikes`: population -> (B, T, C, H, W).  `energy` in joules, `latency` in seconds: means per sample.

    `neurons` and `synapses`: what the chip simulated, with those that make inputs and delays.
    """

    spikes: Mapping[str, Array]
    energy: float
    energy_parts: Mapping[str, float]
    latency: float
    neurons: int
    synapses: int
    version: str


def run_sanafe(netlist: Netlist, x: Array) -> SanafeResult:
    """Run messages `x`, (B, C, H, W) or (B, T, C, H, W), sample by sample.

    Raises `UnsupportedOp` by node, `MissingDependency` without the package.
    """
    if (refusal := obstacle(check(netlist))) is not None:
        raise refusal
    sanafe = require_sanafe()
    x = as_messages(netlist, x)
    offsets, connections = time_offsets(netlist), wires(netlist)
    steps = netlist.time_steps + max(offsets.values())
    spikes = {
        n: np.zeros((len(x), netlist.time_steps, width(p)), np.int8) for n, p in netlist.populations().items()
    }
    energy: dict[str, float] = {}
    seconds, size = 0.0, (0, 0)
    for sample, frames in enumerate(x):
        arch, network, size = _build(sanafe, netlist, connections, frames, steps)
        chip = sanafe.SpikingChip(arch)
        chip.load(network)
        result = chip.sim(steps, spike_trace=True)
        _read_trace(result["spike_trace"], netlist, offsets, {n: s[sample] for n, s in spikes.items()})
        for part, joules in result["energy"].items():
            energy[part] = energy.get(part, 0.0) + joules / len(x)
        seconds += result["sim_time"] / len(x)
    shaped = {n: s.reshape(*s.shape[:2], *netlist.nodes[n].shape) for n, s in spikes.items()}
    total = energy.pop("total")
    return SanafeResult(shaped, total, energy, seconds, *size, metadata.version("sanafe"))


def require_sanafe() -> Any:
    """The package.  Raises `MissingDependency` with how to install it."""
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


def _build(
    sanafe: Any, netlist: Netlist, connections: list[Wires], frames: Array, steps: int
) -> tuple[Any, Any, tuple[int, int]]:
    """(architecture, network, its neurons and synapses) of one sample, neurons placed on cores in order."""
    architecture, network = sanafe.load_loihi(), sanafe.Network()
    groups: dict[str, tuple[Any, int]] = {}  # name -> group, neurons
    for name in netlist.order():
        node = netlist.nodes[name]
        if isinstance(node, Input):
            spikes = bit_planes(node, frames).reshape(len(frames), -1)
            groups[name] = _input_group(network, name, spikes, steps), spikes.shape[1]
        elif isinstance(node, Population):
            groups[name] = _population_group(network, name, node), width(node)
    for wire in connections:
        source = _late(network, groups, wire.source, wire.late)
        pairs = list(zip(wire.sources.tolist(), wire.targets.tolist(), strict=True))
        weights = {"weight": wire.weights.astype(float).tolist()}
        groups[source][0].connect_neurons_sparse(groups[wire.target][0], weights, pairs)
    for name, node in netlist.populations().items():
        if np.any(node.bias):
            groups[f"{name}:bias"] = _bias_group(network, netlist, name, steps, groups[name][0]), 1
    cores = iter(architecture.cores())
    for group, size in groups.values():
        core, used = None, NEURONS_PER_CORE
        for index in range(size):
            if used >= NEURONS_PER_CORE:
                core, used = next(cores, None), 0
                if core is None:
                    raise ConfigError("the netlist needs more cores than SANA-FE's Loihi has")
            group[index].map_to_core(core)
            used += 1
    delays = sum(size for name, (_, size) in groups.items() if ":late" in name)
    synapses = sum(len(wire.weights) for wire in connections) + delays
    biases = sum(
        int(np.count_nonzero(np.broadcast_to(p.bias, p.shape))) for p in netlist.populations().values()
    )
    return architecture, network, (sum(size for _, size in groups.values()), synapses + biases)


def _late(network: Any, groups: dict[str, tuple[Any, int]], source: str, steps: int) -> str:
    """The group whose spikes are those of `source`, `steps` steps later."""
    if steps == 0:
        return source
    name, before = f"{source}:late{steps}", _late(network, groups, source, steps - 1)
    if name not in groups:
        size = groups[source][1]
        attributes = _lif(LATE_THRESHOLD, DECAY_MAX, 4096)
        group = network.create_neuron_group(
            name, size, attributes, soma_hw_name="loihi_lif", default_synapse_hw_name="loihi_dense_synapse"
        )
        pairs = [(i, i) for i in range(size)]
        groups[before][0].connect_neurons_sparse(group, {"weight": [LATE_WEIGHT] * size}, pairs)
        groups[name] = group, size
    return name


def _input_group(network: Any, name: str, spikes: Array, steps: int) -> Any:
    """Neurons that fire as told: `spikes` (T, n)."""
    group = network.create_neuron_group(name, spikes.shape[1], {}, soma_hw_name="loihi_inputs")
    told = np.zeros((spikes.shape[1], steps), bool)
    told[:, : len(spikes)] = spikes.T
    for index, when in enumerate(told):
        slot = f"loihi_inputs[{index % INPUT_SLOTS}]"
        group[index].set_attributes(soma_hw_name=slot, model_attributes={"spikes": when.tolist()})
    return group


def _population_group(network: Any, name: str, node: Population) -> Any:
    attributes = _lif(float(node.threshold), node.voltage_decay, node.current_decay)
    return network.create_neuron_group(
        name, width(node), attributes, soma_hw_name="loihi_lif", log_spikes=True,
        default_synapse_hw_name="loihi_dense_synapse",
    )  # fmt: skip


def _lif(threshold: float, voltage_decay: int, current_decay: int) -> dict[str, Any]:
    return {
        "threshold": threshold,
        "leak_decay": 1 - voltage_decay / 4096,
        "input_decay": 1 - current_decay / 4096,
        "reset": 0.0,
        "reset_mode": "hard",
    }


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
