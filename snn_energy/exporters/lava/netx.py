"""lava-dl's netx format (`.net`, HDF5) for netlists that are a chain of layers.

netx reads one group per layer under `layer/`, builds conv and dense layers, and drops whatever type it
does not know without a word.  So `netx_obstacle` says first what netx could not hold, and only what it
builds as meant is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from snn_energy.errors import UnsupportedOp
from snn_energy.exporters.netlist.check import check
from snn_energy.exporters.netlist.record import Conv, Dense, Input, Netlist, Population, Readout
from snn_energy.files import atomic_write

BIAS_EXPONENT = 6  # netx adds `bias << 6` to the membrane, whatever the mantissa's exponent
SUPPORTED = "a chain of Conv or Dense, each into one Population, from one Input"


def layers_of(netlist: Netlist) -> list[tuple[str, Conv | Dense, str, Population]]:
    """(projection name, projection, population name, population) of each layer of a chain, in order."""
    found = []
    for name in netlist.order():
        node = netlist.nodes[name]
        if isinstance(node, Population):
            source = netlist.inputs_of(name)[0].source
            projection = netlist.nodes[source]
            assert isinstance(projection, Conv | Dense)
            found.append((source, projection, name, node))
    return found


def netx_obstacle(netlist: Netlist) -> str | None:
    """Why netx cannot hold this netlist, naming the node, or None.  A final `Readout` is left to the host."""
    for name, node in netlist.nodes.items():
        sources, targets = netlist.inputs_of(name), netlist.targets_of(name)
        if not isinstance(node, Input | Conv | Dense | Population | Readout):
            return f"{name} is a {type(node).__name__}, and netx knows none"
        if len(sources) > 1 or len(targets) > 1:
            return f"{name} branches, and netx holds chains only"
        if isinstance(node, Conv | Dense):
            target = netlist.nodes[targets[0].target]
            if isinstance(target, Readout):
                continue
            if obstacle := _synapse_obstacle(node):
                return f"{name} {obstacle}"
        if isinstance(node, Population) and (obstacle := _population_obstacle(node)):
            return f"{name} {obstacle}"
    order = [n for n in netlist.order() if isinstance(netlist.nodes[n], Conv | Dense)]
    kinds = [type(netlist.nodes[n]) for n in order]
    if Dense in kinds and Conv in kinds[kinds.index(Dense) :]:
        return f"{order[-1]} convolves after a dense layer, and netx cannot fold a vector back into a map"
    if not netlist.populations():
        return "the netlist has no population"
    return None


def _synapse_obstacle(node: Conv | Dense) -> str | None:
    if node.exponent:
        return f"has weight exponent {node.exponent}, and netx reads none"
    if isinstance(node, Dense) and not np.any(node.weight):
        return "has only zero weights, and netx divides by the largest"
    return None


def _population_obstacle(node: Population) -> str | None:
    if node.bias_exponent != BIAS_EXPONENT and np.any(node.bias_mantissa):
        return f"has bias exponent {node.bias_exponent}, and netx fixes it at {BIAS_EXPONENT}"
    if node.bias_mantissa.shape not in ((1, 1, 1), (node.shape[0], 1, 1)):
        return "has a bias per neuron, and netx takes one per channel"
    return None


def write_netx(netlist: Netlist, path: str | Path) -> None:
    """Write `path` (.net).  Raises `UnsupportedOp` with the first obstacle.

    Run it with reset_interval=time_steps, reset_offset=1 and, for graded samples, input_message_bits.
    """
    check(netlist)
    if obstacle := netx_obstacle(netlist):
        name, _, rest = obstacle.partition(" ")
        raise UnsupportedOp(
            name, rest, supported=SUPPORTED, way_out="the Lava package itself runs every netlist"
        )
    try:
        import h5py
    except ImportError as error:
        from snn_energy.errors import MissingDependency

        raise MissingDependency("h5py", "lava", "writing a netx file") from error
    (source,) = netlist.named(Input)
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        rows: list[dict[str, Any]] = [{"type": "input", "shape": netlist.nodes[source].shape}]
        for _, projection, _, population in layers_of(netlist):
            if (
                isinstance(projection, Dense)
                and len(projection.in_shape) == 3
                and rows[-1]["type"] != "dense"
            ):
                rows.append({"type": "flatten", "shape": (int(np.prod(projection.in_shape)), 1, 1)})
            rows.append(_layer(projection, population))
        for index, row in enumerate(rows):
            _write_group(file.create_group(f"layer/{index}"), row)


def _layer(projection: Conv | Dense, population: Population) -> dict[str, Any]:
    channels = population.shape[0]
    row: dict[str, Any] = {
        "shape": population.shape,
        "weight": projection.weight,
        "neuron/type": "CUBA",
        "neuron/iDecay": population.current_decay,
        "neuron/vDecay": population.voltage_decay,
        "neuron/vThMant": population.threshold,
        "neuron/refDelay": 1,
        "neuron/gradedSpike": False,
    }
    if np.any(population.bias_mantissa):
        row["bias"] = np.broadcast_to(population.bias_mantissa.reshape(-1), channels).astype(np.int64)
    if isinstance(projection, Dense):
        return {"type": "dense", "inFeatures": projection.weight.shape[1], "outFeatures": channels} | row
    return {
        "type": "conv",
        "inChannels": projection.in_shape[0],
        "outChannels": channels,
        "kernelSize": projection.weight.shape[2:],
        "stride": projection.stride,
        "padding": projection.padding,
        "dilation": projection.dilation,
        "groups": projection.groups,
    } | row


def _write_group(group: Any, row: dict[str, Any]) -> None:
    group.create_dataset("type", (1,), "S10", [row["type"].encode("ascii")])
    for key, value in row.items():
        if key != "type":
            group.create_dataset(
                key, data=value.encode("ascii") if isinstance(value, str) else np.asarray(value)
            )
