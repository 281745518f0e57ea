"""The energy of a netlist from what its simulation counted, per population and inference.

    E = synaptic events · ac + silent updates · neuron_update + spikes · (neuron_active + spike)

Synaptic events belong to the population that they reach.  Attention events (a k AND v that writes, an entry
that a q reads) are charged at the price of a synaptic event, under the attention's own name, although no chip
has such a synapse: a lower bound.  So is a STAA neuron's share: it is charged as a LIF, and the products of
its gates (`gate_products`) are counted but not priced, for no figure is public.  Prices come from the cost
tables of `snn_energy.energy`; a table without neuron prices charges synaptic events only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snn_energy.exporters.netlist.record import SPIKING, Netlist, Relay, SpikeAttention, StaaLif, width
from snn_energy.exporters.netlist.simulate import Activity
from snn_energy.exporters.netlist.staa_lif import ONE
from snn_energy.exporters.netlist.synapses import targets_reached

if TYPE_CHECKING:
    from snn_energy.energy.costs import CostTable


@dataclass(frozen=True)
class NetlistEnergy:
    """Picojoules per inference of each population (and attention), and the table's own label for them."""

    picojoules: Mapping[str, float]
    synaptic_events: Mapping[str, float]
    spikes: Mapping[str, float]
    label: str

    @property
    def millijoules(self) -> float:
        """Total per inference."""
        return sum(self.picojoules.values()) * 1e-9


def netlist_energy(netlist: Netlist, activity: Activity, costs: CostTable) -> NetlistEnergy:
    """Price the counts of a simulated netlist; `costs`: `snn_energy.energy.costs.load_costs("loihi")`."""
    silent = costs.neuron_update or 0.0
    active = silent if costs.neuron_active is None else costs.neuron_active
    events = _events_by_target(netlist, activity)
    picojoules, spikes = {}, {}
    for name, node in netlist.nodes.items():
        if isinstance(node, (*SPIKING, Relay)):
            count = activity.counts[name]
            spikes[name] = count.spikes / activity.samples
            updates = count.updates / activity.samples - spikes[name]
            neuron = updates * silent + spikes[name] * (active + (costs.spike or 0.0))
            picojoules[name] = neuron + events.get(name, 0.0) * costs.ac
        elif name in events:
            picojoules[name] = events[name] * costs.ac
    return NetlistEnergy(picojoules, events, spikes, costs.label)


def _events_by_target(netlist: Netlist, activity: Activity) -> dict[str, float]:
    """Synaptic events per inference at the node that hears them: a projection's are shared equally."""
    events: dict[str, float] = {}
    for name, count in activity.counts.items():
        if not count.synaptic_events:
            continue
        per_sample = count.synaptic_events / activity.samples
        heard_by = (
            [name] if isinstance(netlist.nodes[name], SpikeAttention) else targets_reached(netlist, name)
        )
        for target in heard_by:
            events[target] = events.get(target, 0.0) + per_sample / len(heard_by)
    return events


def gate_products(netlist: Netlist) -> int:
    """Multiplications that the gates of STAA neurons take per inference, zeros included.

    GC: C·HW for its keys, as many for the weighted sum, 2·C·R for query and value, 3·R for the norm; SA:
    C·HW for the gate and 6·C for its convolutions; N·X and M·H: 2·C·HW unless they are 1.
    """
    total = 0
    for node in netlist.nodes.values():
        if not isinstance(node, StaaLif):
            continue
        channels, size = node.shape[0], width(node)
        for gate in (node.context_in, node.context_state):
            hidden = len(gate["query_bias"]) if gate else 0
            total += 2 * size + 2 * channels * hidden + 3 * hidden if gate else 0
        total += size + 6 * channels if node.attention else 0
        total += size * sum(factor != ONE for factor in (node.gain, node.keep))
    return total * netlist.time_steps
