"""CPU models of the own Processes.  Each sends what earlier steps made before it receives."""

from collections import deque

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

import staa_lif
from processes.process import Delay, GradedMaxPool, Recorder, SpikeAttention, StaaLif

IN = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
OUT = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)


@implements(proc=SpikeAttention, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpikeAttention(PyLoihiProcessModel):
    q_in: PyInPort = IN
    k_in: PyInPort = IN
    v_in: PyInPort = IN
    a_out: PyOutPort = OUT

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.heads, self.gain, self.chunk = proc_params["heads"], proc_params["gain"], proc_params["chunk"]
        self.first_step, self.limit = proc_params["start"], proc_params["limit"]
        shape = proc_params["shape"]
        self.results = deque(np.zeros((self.chunk, *shape), np.int32))
        self.waiting = []

    def run_spk(self):
        self.a_out.send(self.results.popleft())
        spikes = [port.recv() for port in (self.q_in, self.k_in, self.v_in)]
        if self.time_step - 1 < self.first_step:
            self.results.append(np.zeros(spikes[0].shape, np.int32))
            return
        self.waiting.append(spikes)
        if len(self.waiting) == self.chunk:
            self.results.extend(self.attend())
            self.waiting = []

    def attend(self):
        """(chunk, W, H, C) currents of the chunk that is complete."""
        q, k, v = (np.stack(part).astype(np.int64) for part in zip(*self.waiting))
        per_head = (-1, self.heads, q.shape[-1] // self.heads)
        rows, keys, values = (s.reshape(per_head) for s in (q, k, v))  # tokens, heads, dim
        memory = np.einsum("nhc,nhd->hcd", keys, values)
        current = np.einsum("nhc,hcd->nhd", rows, memory) * self.gain
        return np.minimum(current, self.limit).reshape(q.shape).astype(np.int32)


@implements(proc=GradedMaxPool, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyGradedMaxPool(PyLoihiProcessModel):
    a_in: PyInPort = IN
    a_out: PyOutPort = OUT

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.kernel, self.stride = proc_params["kernel"], proc_params["stride"]
        self.padding, self.out_shape = proc_params["padding"], proc_params["out_shape"]
        self.result = np.zeros(self.out_shape, np.int32)

    def run_spk(self):
        self.a_out.send(self.result)
        pads = [(p, p) for p in self.padding]
        x = np.pad(self.a_in.recv(), [*pads, (0, 0)], constant_values=np.iinfo(np.int32).min)
        windows = np.lib.stride_tricks.sliding_window_view(x, self.kernel, axis=(0, 1))
        self.result = windows[:: self.stride[0], :: self.stride[1]].max(axis=(-2, -1)).astype(np.int32)


@implements(proc=StaaLif, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyStaaLif(PyLoihiProcessModel):
    a_in: PyInPort = IN
    s_out: PyOutPort = OUT

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.registers = proc_params["registers"]
        self.first_step, self.steps = proc_params["start"], proc_params["steps"]
        self.rest = np.zeros((1, *proc_params["shape"][::-1]), np.int64)
        self.h = self.rest

    def run_spk(self):
        current = self.a_in.recv().transpose(2, 1, 0)[None].astype(np.int64)
        step = self.time_step - 1 - self.first_step
        if step < 0:
            self.s_out.send(np.zeros(self.rest.shape[:0:-1], np.int32))
            return
        state = self.rest if step % self.steps == 0 else self.h
        v, self.h = staa_lif.step(self.registers, current, state, step % self.steps, np)
        self.s_out.send((v >= self.registers["threshold"])[0].transpose(2, 1, 0).astype(np.int32))


@implements(proc=Delay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyDelay(PyLoihiProcessModel):
    a_in: PyInPort = IN
    a_out: PyOutPort = OUT

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.line = deque(np.zeros((proc_params["steps"], *proc_params["shape"]), np.int32))

    def run_spk(self):
        self.a_out.send(self.line.popleft())
        self.line.append(self.a_in.recv().copy())


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRecorder(PyLoihiProcessModel):
    a_in: PyInPort = IN

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.rows = np.load(proc_params["path"], mmap_mode="r+")

    def run_spk(self):
        self.rows[self.time_step - 1] = self.a_in.recv()
