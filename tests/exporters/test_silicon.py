"""Our neuron against silicon: a LIF that ran on a Loihi chip (tests/silicon/README.md has the source)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from lava_environment import lava_python

from snn_energy.exporters.lava.package import run_lava, write_package
from snn_energy.exporters.netlist.compare import membrane
from snn_energy.exporters.netlist.record import Edge, Identity, Input, Netlist, Population
from snn_energy.exporters.netlist.simulate import simulate

CHIP = np.loadtxt(Path(__file__).parents[1] / "silicon" / "loihi_lif.csv", delimiter=",")
GIVEN, MEMBRANE, FIRED = CHIP.T.astype(int)
STEPS = len(CHIP)
SYNAPSE = 640  # what a spike adds to the membrane, a step later
FIRES = (461, 511, 711, 761)


def neuron() -> Netlist:
    """A synapse of 640 = 64·10, a membrane that keeps 3933/4096, a threshold of 64·25 = 1600.

    The chip's own threshold lies between 1,589 (no spike) and 1,656 (a spike).
    """
    shape = (1, 1, 1)
    nodes = {
        "x": Input(shape),
        "w": Identity(shape, SYNAPSE // 64),
        "lif": Population(shape, 25, voltage_decay=163, current_decay=4096),
    }
    return Netlist(nodes, (Edge("x", "w"), Edge("w", "lif")), STEPS)


def samples() -> np.ndarray:
    return GIVEN.reshape(1, STEPS, 1, 1, 1)


def on_the_chips_clock(values: np.ndarray) -> np.ndarray:
    """A spike takes a step: what the neuron does with input t stands in the chip's row t + 1."""
    return np.concatenate([[0], np.ravel(values)[:-1]])


def test_the_run_is_what_its_source_says() -> None:
    assert CHIP.shape == (1000, 3) and GIVEN.sum() > 30
    assert tuple(np.flatnonzero(FIRED)) == FIRES and set(MEMBRANE[list(FIRES)]) == {128}
    shown = np.delete(MEMBRANE, FIRES)
    assert shown.max() == 1589


def test_the_simulator_fires_as_the_chip_does_and_has_its_membrane() -> None:
    activity = simulate(neuron(), samples())
    np.testing.assert_array_equal(on_the_chips_clock(activity.outputs["lif"]), FIRED)  # 1,000 of 1,000
    charged = on_the_chips_clock(membrane(neuron(), "lif", samples()[0]))
    shown = np.setdiff1d(np.arange(STEPS), FIRES)
    np.testing.assert_array_equal(charged[shown], MEMBRANE[shown])  # 996 of 996
    assert charged[list(FIRES)].tolist() == [1695, 1656, 1656, 1656]


@pytest.mark.parametrize("change", [{"threshold": 24}, {"threshold": 26}, {"voltage_decay": 162}])
def test_a_neuron_that_is_a_little_different_is_told_from_the_chips(change: dict[str, int]) -> None:
    """So the run is a test: one unit of a register away, spikes or membranes differ."""
    netlist = neuron()
    fields = {"threshold": 25, "voltage_decay": 163} | change
    netlist.nodes["lif"] = Population((1, 1, 1), **fields)  # type: ignore[index]
    spikes = on_the_chips_clock(simulate(netlist, samples()).outputs["lif"])
    charged = on_the_chips_clock(membrane(netlist, "lif", samples()[0]))
    shown = np.setdiff1d(np.arange(STEPS), FIRES)
    assert (spikes != FIRED).any() or (charged[shown] != MEMBRANE[shown]).any()


STEPWISE = """
import json, logging, sys, tempfile
sys.path.insert(0, sys.argv[1])
logging.disable(logging.WARNING)
import shim
shim.install()
import network, numpy as np
from pathlib import Path
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
netlist, arrays = network.read(Path(sys.argv[1]))
stream = np.load(sys.argv[2])["x"][0]
with tempfile.TemporaryDirectory() as scratch:
    data = np.moveaxis(np.concatenate([stream, np.zeros((1, 1, 1, 1), int)]), 0, -1)
    net = network.Network(netlist, arrays, data, [], [], scratch)
    (lif,) = [p for p in net.keep if type(p).__name__ == "LIFReset"]
    values = []
    for _ in range(len(stream)):
        net.source.run(condition=RunSteps(num_steps=1), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        values.append(int(lif.v.get().ravel()[0]))
    net.source.stop()
print(json.dumps(values))
"""


@pytest.mark.slow
def test_lava_fires_as_the_chip_does_and_has_its_membrane(tmp_path: Path) -> None:
    folder = write_package(neuron(), tmp_path / "out", {"x": samples()})
    ran = run_lava(folder, samples(), python=lava_python(), timeout=300)
    np.testing.assert_array_equal(on_the_chips_clock(ran.outputs["lif"]), FIRED)
    command = [lava_python(), "-I", "-B", "-c", STEPWISE, str(folder), str(folder / "samples.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    after = np.array(json.loads(done.stdout.splitlines()[-1]))  # Lava's step k + 1 is the chip's row k
    shown = np.setdiff1d(np.arange(STEPS), FIRES)
    np.testing.assert_array_equal(after[shown], MEMBRANE[shown])
