"""The Lava Processes that spiking transformers need beside the stock ones, and a recorder.

Keep this folder free of other files: Lava executes every .py beside a Process when it looks for models.
Shapes are Lava's: (W, H, C).
"""

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess


class SpikeAttention(AbstractProcess):
    """a_out = gain · Q(KᵀV) per head over the tokens of `chunk` steps, sent `chunk` steps later.

    `start`: the step, counted from 0, at which the first sample's spikes arrive.
    """

    def __init__(self, *, shape, heads, gain, chunk, start, limit, name=None):
        super().__init__(
            shape=shape, heads=heads, gain=gain, chunk=chunk, start=start, limit=limit, name=name
        )
        self.q_in = InPort(shape=shape)
        self.k_in = InPort(shape=shape)
        self.v_in = InPort(shape=shape)
        self.a_out = OutPort(shape=shape)


class GradedMaxPool(AbstractProcess):
    """Maximum of currents under (W, H) windows, one step later; padding never wins."""

    def __init__(self, *, in_shape, out_shape, kernel, stride, padding, name=None):
        super().__init__(
            in_shape=in_shape, out_shape=out_shape, kernel=kernel, stride=stride, padding=padding, name=name
        )
        self.a_in = InPort(shape=in_shape)
        self.a_out = OutPort(shape=out_shape)


class StaaLif(AbstractProcess):
    """STAA-SNN's LIF neurons: the equations are staa_lif.py's, `registers` its arguments.

    `start`: the step, counted from 0, at which the first sample's current arrives; a sample has `steps`.
    """

    def __init__(self, *, shape, registers, start, steps, name=None):
        super().__init__(shape=shape, registers=registers, start=start, steps=steps, name=name)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


class Delay(AbstractProcess):
    """out[k] = in[k - steps]: what the delay field of a synapse does on the chip."""

    def __init__(self, *, shape, steps, name=None):
        super().__init__(shape=shape, steps=steps, name=name)
        self.a_in = InPort(shape=shape)
        self.a_out = OutPort(shape=shape)


class Recorder(AbstractProcess):
    """Writes what it hears into row k of the .npy file `path`, (steps, W, H, C).

    An instrument, not part of the network: Lava's own sink hands out its values one message each.
    """

    def __init__(self, *, shape, path, name=None):
        super().__init__(shape=shape, path=path, name=name)
        self.a_in = InPort(shape=shape)
