"""The integer simulator's fast engine: the netlist in C, built into a temporary folder and called from here.

It gives what `simulate` gives, the same bits: spikes, logits and counts.  A value that does not fit its
register is met again by the simulator itself, which then says where.
"""

from __future__ import annotations

import contextlib
import ctypes
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snn_energy.errors import ConfigError, DataError, MissingTool, VerificationError
from snn_energy.exporters.c.build import call, compiler, frames_of, logits_of
from snn_energy.exporters.c.layout import numpy_type
from snn_energy.exporters.c.plan import BYTES
from snn_energy.exporters.c.write import Program, program, render
from snn_energy.exporters.netlist.record import (
    SPIKING,
    SYNAPSES,
    Array,
    Delay,
    Input,
    Netlist,
    Readout,
    Relay,
    SpikeAttention,
    StaaLif,
    width,
)
from snn_energy.exporters.netlist.simulate import Activity, Counts, Simulator, as_maps, as_messages, simulate
from snn_energy.exporters.netlist.synapses import copies, fan_out

ENGINES = ("auto", "c", "numpy")
WORTH = 256
"""Samples from which `auto` builds C: fewer are done before a compiler is."""
FAST = ("-std=c11", "-O2", "-ftree-vectorize", "-march=native", "-shared", "-fPIC", "-DNETWORK_TRACED")
"""Not -O3: GCC 12's unroll-and-jam takes five times as long over the loops of a projection."""


class _Wishes(ctypes.Structure):
    _fields_ = (
        ("records", ctypes.c_void_p),
        ("binary", ctypes.c_void_p),
        ("counted", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
    )


@contextlib.contextmanager
def simulator(netlist: Netlist, engine: str = "auto", samples: int = 0) -> Iterator[Callable[..., Activity]]:
    """A function that does what `simulate(netlist, …)` does, by the engine named: `c`, `numpy`, or `auto`.

    `auto` takes C for `WORTH` samples or more where there is a compiler.  Raises `ConfigError` for another
    name, `MissingTool` for `c` without a compiler.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine {engine!r}: must be one of {', '.join(ENGINES)}")
    if engine == "numpy" or (engine == "auto" and samples < WORTH):
        yield Simulator(netlist).run
        return
    try:
        built = Engine(netlist)
    except (MissingTool, DataError, ConfigError):  # no compiler, none that can, or nothing for C
        if engine == "c":
            raise
        yield Simulator(netlist).run
        return
    with built as fast:
        yield fast.run


class Engine:
    """A netlist compiled for this machine; `run` may be called many times, `close` removes what was built.

    `rates`: see `c.write.program`.
    """

    def __init__(self, netlist: Netlist, rates: Mapping[str, float] | None = None) -> None:
        self.program: Program = program(netlist, rates)
        self.netlist = netlist
        self._fan_outs = {
            name: fan_out(node).reshape(-1) * copies(netlist, name)
            for name, node in netlist.nodes.items()
            if isinstance(node, SYNAPSES)
        }
        self._folder = tempfile.TemporaryDirectory(prefix="snn-energy-")
        try:
            self._run = self._built(Path(self._folder.name))
        except BaseException:
            self._folder.cleanup()
            raise
        self._first = np.concatenate([[0], np.cumsum([np.prod(t.shape) for t in self.program.traced])])

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder; the engine cannot run any more."""
        self._folder.cleanup()

    def _built(self, folder: Path) -> Any:
        texts = dict(self.program.files) | {"engine.c": render("engine.c", self._facts())}
        for name in ("network.h", "network.c", "weights.h", "kernels.h", "staa.h", "engine.c"):
            if name in texts:
                (folder / name).write_text(texts[name], encoding="utf-8")
        (folder / "weights.s").write_text(self._weights(folder), encoding="utf-8")
        (folder / "weights.c").write_text(texts["weights.c"], encoding="utf-8")
        library = folder / "network.so"
        try:
            _compile(folder, "weights.s", library, FAST)
        except DataError:  # another assembler, or a CPU that the compiler does not know
            _compile(folder, "weights.c", library, [flag for flag in FAST if flag != "-march=native"])
        run = ctypes.CDLL(str(library)).engine_run
        run.restype = ctypes.c_int64
        run.argtypes = (
            ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.POINTER(_Wishes), ctypes.c_void_p,
        )  # fmt: skip
        return run

    def _weights(self, folder: Path) -> str:
        """The constants as one binary file that the assembler takes as it is, millions in no time."""
        lines = ["\t.section .rodata"]
        at, data = 0, bytearray()
        for constant in self.program.constants:
            raw = constant.raw
            lines += ["\t.balign 64", *(f"\t.{what} {constant.name}" for what in ("global", "hidden"))]
            lines += [f"{constant.name}:", f'\t.incbin "{folder / "weights.bin"}", {at}, {len(raw)}']
            data += raw
            at += len(raw)
        lines.append('\t.section .note.GNU-stack,"",%progbits')
        (folder / "weights.bin").write_bytes(bytes(data))
        return "\n".join(lines) + "\n"

    def _facts(self) -> dict[str, Any]:
        nodes, first = [], 0
        for traced in self.program.traced:
            size = BYTES[traced.type]
            kind = size if traced.type.startswith("u") else -size
            positions = int(np.prod(traced.shape[1:]))
            nodes.append((traced.shape[0], positions, kind, first))
            first += traced.shape[0] * positions
        return {"engine_nodes": nodes, "readouts": len(self.netlist.named(Readout))}

    def run(self, x: Array, *, probes: Sequence[str] | None = None, batch: int = 8) -> Activity:
        """See `netlist.simulate.simulate`; `batch` says nothing here."""
        given = as_maps(self.program.input, self.netlist.time_steps, np.asarray(x))
        _refuse(self.netlist, given)
        frames = frames_of(self.program, given)
        given = np.ascontiguousarray(given, dtype=numpy_type(self.program.input_type))
        probed = self.netlist.probes if probes is None else tuple(probes)
        outputs = {name: self._empty(name, len(given)) for name in probed}
        counts, sums = self._call(given, frames, outputs)
        logits = logits_of(self.netlist, sums)
        return Activity(
            {name: outputs[name] for name in probed},
            {name: found for name, found in logits.items() if name in probed},
            self._counts(counts, len(given)),
            len(given),
        )

    def _empty(self, name: str, samples: int) -> Array:
        node = self.netlist.nodes[name]
        kind = np.int8 if isinstance(node, SPIKING) else np.int32
        return np.empty((samples, self.netlist.time_steps, *node.shape), kind)

    def _call(self, given: Array, frames: int, outputs: Mapping[str, Array]) -> tuple[Array, Array]:
        traced = self.program.traced
        records = (ctypes.c_void_p * len(traced))()
        binary, counted = np.zeros(len(traced), np.int32), np.zeros(len(traced), np.int32)
        number = {name: i for i, name in enumerate(self.program.plan.order)}
        copied: dict[str, str] = {}
        for name, array in outputs.items():
            place = number[self._root(name)]
            if records[place] is not None:  # a delay and what it delays
                copied[name] = next(n for n in outputs if number[self._root(n)] == place)
                continue
            records[place] = array.ctypes.data
            binary[place] = array.dtype == np.int8
        for i, node in enumerate(traced):
            kind = self.netlist.nodes[node.node]
            counted[i] = 2 if i >= len(number) else int(isinstance(kind, (Input, Relay, *SPIKING)))
        counts = np.zeros(int(self._first[-1]), np.int64)
        sums = np.zeros((len(given), max(self._outputs(), 1)), np.int64)
        wishes = _Wishes(
            ctypes.cast(records, ctypes.c_void_p), binary.ctypes.data, counted.ctypes.data, counts.ctypes.data
        )
        failed = self._run(given.ctypes.data, frames, len(given), ctypes.byref(wishes), sums.ctypes.data)
        if failed >= 0:
            simulate(self.netlist, given[failed : failed + 1], probes=())
            raise VerificationError(f"sample {failed}: a value does not fit its register in C")
        for name, same in copied.items():
            outputs[name][...] = outputs[same]
        return counts, sums

    def _outputs(self) -> int:
        return sum(width(self.netlist.nodes[name]) for name in self.netlist.named(Readout))

    def _root(self, name: str) -> str:
        while isinstance(self.netlist.nodes[name], Delay):
            name = self.netlist.inputs_of(name)[0].source
        return name

    def _counts(self, counts: Array, samples: int) -> dict[str, Counts]:
        """Events of every node from how often each position sent."""
        met = {
            traced.node: self._positions(counts, i)
            for i, traced in enumerate(self.program.traced[: len(self.program.plan.order)])
        }
        return {name: self._counted(name, met, counts, samples) for name in self.netlist.order()}

    def _positions(self, counts: Array, number: int) -> Array:
        """How often each position of a node sent, (C, H, W)."""
        c, h, w = self.program.traced[number].shape
        return counts[self._first[number] : self._first[number + 1]].reshape(h, w, c).transpose(2, 0, 1)

    def _counted(self, name: str, met: Mapping[str, Array], counts: Array, samples: int) -> Counts:
        node, steps = self.netlist.nodes[name], samples * self.netlist.time_steps
        match node:
            case Input():
                return Counts(spikes=int(met[name].sum()))
            case Relay() | StaaLif():
                return Counts(int(met[name].sum()), width(node) * steps)
            case SpikeAttention():
                return Counts(synaptic_events=self._attended(name, node, met, counts))
            case _ if isinstance(node, SPIKING):
                return Counts(int(met[name].sum()), width(node) * steps)
            case _ if isinstance(node, SYNAPSES):
                sent = met[self.program.plan.source(name)].reshape(-1)
                return Counts(synaptic_events=int(sent @ self._fan_outs[name]))
            case _:
                return Counts()

    def _attended(self, name: str, node: SpikeAttention, met: Mapping[str, Array], counts: Array) -> int:
        order = len(self.program.plan.order)
        number = next(i for i, t in enumerate(self.program.traced) if i >= order and t.node == name)
        q = dict(self.program.plan.sources[name])["q"]
        reads = int(met[q].sum()) * (node.shape[0] // node.heads)
        return (int(counts[self._first[number]]) + reads) * copies(self.netlist, name)


def _compile(folder: Path, weights: str, library: Path, flags: Sequence[str]) -> None:
    sources = [str(folder / name) for name in ("network.c", "engine.c", weights)]
    call([compiler(), *flags, *sources, "-o", str(library)], "the C compiler")


def _refuse(netlist: Netlist, x: Array) -> None:
    """Raise what the simulator raises for samples that the input does not take."""
    if len(x):
        extremes = np.stack([np.full(x.shape[1:], x.min()), np.full(x.shape[1:], x.max())]).astype(x.dtype)
        as_messages(netlist, extremes)
