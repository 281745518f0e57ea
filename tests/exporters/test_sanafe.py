"""SANA-FE (optional, GPL) as a second opinion: the same spikes, and an energy that grows with activity."""

import numpy as np
import pytest
from netlists import chain, everything, messages

from snn_energy.errors import UnsupportedOp
from snn_energy.exporters.netlist.simulate import simulate
from snn_energy.exporters.sanafe import obstacle, run_sanafe


def test_other_nodes_are_refused_by_name():
    refusal = obstacle(everything(np.random.default_rng(0)))
    assert str(refusal).startswith("x: cannot lower graded input in SANA-FE")
    assert obstacle(chain(np.random.default_rng(0))) is None
    persistent = obstacle(chain(np.random.default_rng(0), current_decay=1000))
    assert str(persistent).startswith("lif1: cannot lower bias with a decaying current")


@pytest.mark.parametrize("lif", [{}, {"voltage_decay": 128}, {"voltage_decay": 4095}])
def test_spikes_are_identical(lif):
    pytest.importorskip("sanafe", reason="SANA-FE is not installed: pip install 'snn-energy[sanafe]'")
    rng = np.random.default_rng(1)
    netlist = chain(rng, **lif)
    x = messages(netlist, rng, 2)
    result, ours = run_sanafe(netlist, x), simulate(netlist, x)
    for name in netlist.populations():
        np.testing.assert_array_equal(result.spikes[name], ours.outputs[name], err_msg=name)
    assert 0.02 < ours.outputs["lif3"].mean() < 0.98
    silent = run_sanafe(netlist, np.zeros_like(x))
    assert result.energy > silent.energy > 0 and result.latency > 0
    assert sum(result.energy_parts.values()) == pytest.approx(result.energy, rel=1e-6)


def test_graded_input_is_refused():
    pytest.importorskip("sanafe", reason="SANA-FE is not installed: pip install 'snn-energy[sanafe]'")
    netlist = everything(np.random.default_rng(0))
    with pytest.raises(UnsupportedOp, match="x: cannot lower graded input"):
        run_sanafe(netlist, np.zeros((1, 2, 6, 10), int))
