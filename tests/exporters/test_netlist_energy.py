"""The netlist's energy, by hand."""

import numpy as np
import pytest
from netlists import everything, messages

from snn_energy.energy.costs import load_costs
from snn_energy.exporters.chip.energy import netlist_energy
from snn_energy.exporters.netlist.record import Edge, Identity, Input, Netlist, Population, align
from snn_energy.exporters.netlist.simulate import simulate


def test_energy_by_hand():
    """Three inputs fire at both steps; `a` fires always, `b`, which hears w too, never."""
    shape = (1, 1, 3)
    nodes = {"x": Input(shape), "w": Identity(shape, 8), "a": Population(shape, 1)}
    nodes |= {"link": Identity(shape, 2), "b": Population(shape, 1000)}
    pairs = ["x-w", "w-a", "a-link", "link-b", "w-b"]
    netlist = align(Netlist(nodes, tuple(Edge(*p.split("-")) for p in pairs), 2))
    activity = simulate(netlist, np.ones((4, *shape), int))
    energy = netlist_energy(netlist, activity, load_costs("loihi"))
    assert energy.synaptic_events == {"a": 6, "b": 12} and energy.spikes == {"a": 6, "b": 0}
    assert energy.picojoules["a"] == pytest.approx(6 * 23.6 + 6 * (81 + 1.7))
    assert energy.picojoules["b"] == pytest.approx(12 * 23.6 + 6 * 52)
    assert energy.millijoules == pytest.approx(sum(energy.picojoules.values()) * 1e-9)
    assert "pre-silicon" in energy.label


def test_nothing_counted_is_lost():
    rng = np.random.default_rng(3)
    netlist = everything(rng)
    activity = simulate(netlist, messages(netlist, rng, 3))
    energy = netlist_energy(netlist, activity, load_costs("loihi"))
    counted = sum(c.synaptic_events for c in activity.counts.values())
    assert sum(energy.synaptic_events.values()) * 3 == pytest.approx(counted)
    assert "attn" in energy.picojoules and "relay" in energy.picojoules
