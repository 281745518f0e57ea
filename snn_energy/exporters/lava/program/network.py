"""Build the Lava network that `netlist.json` and `netlist.h5` describe.

The files hold (C, H, W) arrays in PyTorch's order; Lava's are (W, H, C), and its convolution flips kernels.
"""

import json

import h5py
import numpy as np
from lava.proc import io
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.graded.process import GradedVec
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.process import DelaySparse, Sparse
from scipy.sparse import csr_matrix, identity

from processes.process import Delay, GradedMaxPool, Recorder, SpikeAttention, StaaLif

CURRENT_LIMIT = 1 << 17


def read(folder):
    """-> (netlist.json as a dict, {node name: {array name: array}})."""
    netlist = json.loads((folder / "netlist.json").read_text())
    with h5py.File(folder / "netlist.h5", "r") as file:
        arrays = {
            row["name"]: {key: file[f"{row['name']}/{key}"][()] for key in row["arrays"]}
            for row in netlist["nodes"]
        }
    return netlist, arrays


def whc(shape):
    """(C, H, W) -> (W, H, C)."""
    return tuple(int(n) for n in shape[::-1])


def whc_index(shape):
    """Flat (C, H, W) index -> flat (W, H, C) index, as an array of positions."""
    return np.arange(int(np.prod(shape))).reshape(whc(shape)).transpose(2, 1, 0).ravel()


def one_to_one(shape):
    """Identity synapses of weight 1 between two populations of `shape`."""
    return csr_matrix(identity(int(np.prod(shape)), dtype=np.int32))


class Network:
    """Lava Processes of a netlist, connected; `sinks[name]` is the file that gets what node `name` emits."""

    def __init__(self, netlist, arrays, stream, probes, watch, scratch):
        """`stream`: (C, H, W, steps) messages; `watch`: nodes whose summed current must be
        checked; `scratch`: a folder for the records."""
        self.netlist, self.arrays, self.stream, self.scratch = netlist, arrays, stream, scratch
        self.rows = {row["name"]: row for row in netlist["nodes"]}
        self.out, self.entries, self.sinks, self.watched, self.source = {}, {}, {}, {}, None
        self.keep = []  # Lava drops a Process that nothing refers to
        for row in sorted(netlist["nodes"], key=lambda r: r["offset"]):
            self.entries[row["name"]], self.out[row["name"]] = getattr(self, row["kind"].lower())(row)
        for source, target, port in netlist["edges"]:
            if self.entries[target]:
                self.connect(source, self.entries[target][port])
        for name in probes:
            self.sinks[name] = self.sink(name, [name] if self.out[name] is not None else self.sources(name))
        for name in watch:
            self.watched[name] = self.sink(name, self.sources(name))

    def sources(self, name):
        return [source for source, target, _ in self.netlist["edges"] if target == name]

    def connect(self, source, entry):
        port = self.out[source]
        if port.shape != entry.shape:
            port = port.flatten() if len(entry.shape) == 1 else port.reshape(entry.shape)
        port.connect(entry)

    def sink(self, name, sources):
        shape, path = whc(self.rows[name]["shape"]), f"{self.scratch}/{len(self.keep)}.npy"
        np.lib.format.open_memmap(path, "w+", np.int32, (self.stream.shape[-1], *shape)).flush()
        recorder = self.keeping(Recorder(shape=shape, path=path))
        for source in sources:
            self.connect(source, recorder.a_in)
        return path

    def message_bits(self, name):
        """Bits of the messages that reach node `name`; 0 for binary spikes."""
        row = self.rows[self.sources(name)[0]]
        return self.message_bits(row["name"]) if row["kind"] == "Delay" else row.get("message_bits", 0)

    def keeping(self, process):
        self.keep.append(process)
        return process

    # ------------------------------------------------------- one method per kind: -> (entry ports, output)

    def input(self, row):
        data = self.stream.transpose(2, 1, 0, 3).astype(np.int32)
        self.source = self.keeping(io.source.RingBuffer(data=data))
        return {}, self.source.s_out

    def population(self, row):
        shape, steps = whc(row["shape"]), self.netlist["time_steps"]
        mantissa = np.broadcast_to(self.arrays[row["name"]]["bias_mantissa"], row["shape"]).transpose(2, 1, 0)
        lif = self.keeping(LIFReset(
            shape=shape, du=row["current_decay"] - 1, dv=row["voltage_decay"], vth=row["threshold"],
            bias_mant=mantissa.astype(np.int32), bias_exp=row["bias_exponent"],
            reset_interval=steps, reset_offset=(row["offset"] + 1) % steps,
        ))  # fmt: skip
        return {"in": lif.a_in}, lif.s_out

    def relay(self, row):
        relay = self.keeping(GradedVec(shape=whc(row["shape"]), vth=0))
        return {"in": relay.a_in}, relay.s_out

    def conv(self, row):
        weight = self.arrays[row["name"]]["weight"].astype(np.int32) << row["exponent"]
        conv = self.keeping(Conv(
            weight=weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1).copy(), input_shape=whc(row["in_shape"]),
            stride=whc(row["stride"]), padding=whc(row["padding"]), dilation=whc(row["dilation"]),
            groups=row["groups"], num_message_bits=self.message_bits(row["name"]),
        ))  # fmt: skip
        return {"in": conv.s_in}, conv.a_out

    def dense(self, row):
        weight = self.arrays[row["name"]]["weight"]
        columns = np.empty_like(weight)
        columns[:, whc_index(row["in_shape"])] = weight
        dense = self.keeping(Dense(
            weights=columns, weight_exp=row["exponent"], num_message_bits=self.message_bits(row["name"])
        ))  # fmt: skip
        return {"in": dense.s_in}, dense.a_out.reshape(whc(row["shape"]))

    def sparse(self, row):
        listed = self.arrays[row["name"]]
        rows, columns = (
            whc_index(row["shape"])[listed["targets"]],
            whc_index(row["in_shape"])[listed["sources"]],
        )
        size = int(np.prod(row["shape"])), int(np.prod(row["in_shape"]))
        return self.synapses(row, csr_matrix((listed["values"], (rows, columns)), size))

    def identity(self, row):
        return self.synapses(row, one_to_one(row["shape"]) * row["weight"])

    def synapses(self, row, matrix):
        bits = self.message_bits(row["name"])
        sparse = self.keeping(Sparse(weights=matrix, weight_exp=row["exponent"], num_message_bits=bits))
        return {"in": sparse.s_in}, sparse.a_out.reshape(whc(row["shape"]))

    def delay(self, row):
        if self.netlist["origin"].get("stock_processes"):
            return self.stock_delay(row)
        delay = self.keeping(Delay(shape=whc(row["shape"]), steps=row["steps"]))
        return {"in": delay.a_in}, delay.a_out

    def stock_delay(self, row):
        """Stock Processes only: a graded relay and delayed one-to-one synapses of weight 1."""
        shape = whc(row["shape"])
        relay = self.keeping(GradedVec(shape=shape, vth=0))
        eye = one_to_one(row["shape"])
        line = self.keeping(
            DelaySparse(weights=eye, delays=(eye * (row["steps"] - 1)).astype(int), num_message_bits=24)
        )
        relay.s_out.flatten().connect(line.s_in)
        return {"in": relay.a_in}, line.a_out.reshape(shape)

    def gradedmaxpool(self, row):
        pool = self.keeping(GradedMaxPool(
            in_shape=whc(row["in_shape"]), out_shape=whc(row["shape"]), kernel=whc(row["kernel"]),
            stride=whc(row["stride"]), padding=whc(row["padding"]),
        ))  # fmt: skip
        return {"in": pool.a_in}, pool.a_out

    def spikeattention(self, row):
        attention = self.keeping(SpikeAttention(
            shape=whc(row["shape"]), heads=row["heads"], gain=row["gain"], chunk=row["chunk"],
            start=row["offset"] - row["chunk"], limit=CURRENT_LIMIT - 1,
        ))  # fmt: skip
        return {"q": attention.q_in, "k": attention.k_in, "v": attention.v_in}, attention.a_out

    def staalif(self, row):
        gates = ("context_in", "context_state", "attention")
        registers = {key: row[key] for key in ("threshold", "gain", "keep", "position_at")}
        registers |= {key: {} for key in gates}
        for name, array in self.arrays[row["name"]].items():
            field, _, key = name.partition("/")
            if key:
                registers[field][key] = array
            else:
                registers[field] = array
        lif = self.keeping(StaaLif(
            shape=whc(row["shape"]), registers=registers,
            start=row["offset"], steps=self.netlist["time_steps"],
        ))  # fmt: skip
        return {"in": lif.a_in}, lif.s_out

    def readout(self, row):
        return {}, None
