"""What Lava 0.10 needs beyond its own wheels; call `install()` before the first `import lava`.

* lava-nc declares Python 3.10.  On 3.11 and later it stops at one dataclass field whose default is an
  unhashable instance; that field is let through.
* numpy 2.4 dropped the keyword `newshape` that lava-nc passes to `np.reshape`.
* netx of lava-dl imports lava.lib.dl.slayer, which needs torch, for one function of resonate-and-fire
  neurons; where torch is absent an empty stand-in is enough, because we write no such neurons.
* A Process that fails keeps its traceback to itself and the others wait for it for ever.  Here it prints
  the traceback and the whole program ends with code 4.
"""

import dataclasses
import functools
import importlib.util
import multiprocessing
import os
import signal
import sys
import traceback
import types

import numpy as np

SLAYER = ("lava.lib.dl.slayer", "lava.lib.dl.slayer.neuron", "lava.lib.dl.slayer.neuron.rf")
UNUSED = "lava.lib.dl.netx.sequential_modules"


def install(netx=False):
    """Prepare the interpreter for Lava, and for netx if asked."""
    if sys.version_info >= (3, 11):
        _allow_dataclass_defaults()
    _reshape_without_keyword()
    _end_with_the_first_failure()
    if netx and importlib.util.find_spec("torch") is None:
        _stand_in_for_slayer()


def _allow_dataclass_defaults():
    original = dataclasses._get_field

    def lenient(cls, name, annotation, *rest):
        kind = type(getattr(cls, name, None))
        if not dataclasses.is_dataclass(kind) or kind.__hash__ is not None:
            return original(cls, name, annotation, *rest)
        kind.__hash__ = object.__hash__
        try:
            return original(cls, name, annotation, *rest)
        finally:
            kind.__hash__ = None

    dataclasses._get_field = lenient
    try:
        importlib.import_module("lava.magma.compiler.var_model")
    finally:
        dataclasses._get_field = original


def _reshape_without_keyword():
    from lava.magma.core.process.ports.ports import ReshapePort

    def reshape(array, shape):
        return np.reshape(array, shape)

    ReshapePort.get_transform_func_fwd = lambda port: functools.partial(reshape, shape=port.shape)
    ReshapePort.get_transform_func_bwd = lambda port: functools.partial(reshape, shape=port.old_shape)


def _end_with_the_first_failure():
    from lava.magma.runtime.message_infrastructure.multiprocessing import SystemProcess

    program = os.getpid()

    def run(process):
        try:
            multiprocessing.Process.run(process)
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            os.kill(program, signal.SIGUSR1)

    def end(*_):
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(4)

    SystemProcess.run = run
    signal.signal(signal.SIGUSR1, end)


def _stand_in_for_slayer():
    import lava.lib.dl

    here = next(iter(lava.lib.dl.__path__))
    for name in (*SLAYER, UNUSED):
        module = types.ModuleType(name)
        module.__path__, module.__file__ = (
            [],
            f"{here}/netx/__init__.py",
        )  # Lava asks every module for its file
        sys.modules.setdefault(name, module)
    sys.modules[SLAYER[-1]].neuron_params = _no_resonators


def _no_resonators(device_params, **_):
    raise NotImplementedError(f"resonate-and-fire neurons need lava-dl with torch: {device_params}")
