"""NaN and infinity: found by sums, which cost next to nothing, and explained by a second run.

A sum is finite only if everything in it is, so one sum per tensor tells whether a closer look is due: the
weights once, then the input and the output of every batch, and the state of every spiking neuron, where a NaN
ends that a threshold has made into "no spike".  A batch that is not clean runs once more with every operation
watched, which names the first module and time step that made such a value.  Infinities on the way are left
alone: an attention mask is one.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from snn_energy.models.walk import modules, named_modules
from snn_energy.profiling.layout import Layout
from snn_energy.profiling.neurons import named_neurons

NORM_STATISTICS = ("running_mean", "running_var")
UNWRITTEN = ("empty", "new_empty", "resize")  # operations whose output holds whatever was there
FOLLOWED = 32  # operations looked at after the first, to tell its time step
LIBRARIES = ("torch.", "spikingjelly.")  # their modules keep no tensors in plain attributes


@dataclass(frozen=True)
class Finding:
    """A tensor that is not finite: where it was met, and which of `nan`, `inf` and `-inf` it holds."""

    where: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """An operation that put out such a value: its module, its occurrence, the entry of its output."""

    module: str
    op: str
    kinds: tuple[str, ...]
    call: int  # of the module
    occurrence: int  # of the operation in this call
    overall: int  # of the operation in this module, over all calls
    index: int  # along the output's first dimension
    length: int  # of the output's first dimension


# -- looking at one tensor -----------------------------------------------------------------------------------


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every floating-point tensor with values in `value`, however nested in tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        if (value.is_floating_point() or value.is_complex()) and not value.is_meta:
            yield torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
    elif isinstance(value, (tuple, list, deque)):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def total(x: torch.Tensor) -> torch.Tensor:
    """The sum of `x` as float32, one element: not finite if anything in `x` is not (or the sum overflows)."""
    if x.element_size() == 1:
        x = x.float()
    return x.sum(dtype=torch.float32) if x.element_size() == 2 else x.sum().float()


def kinds(x: torch.Tensor) -> tuple[str, ...]:
    """Which of `nan`, `inf` and `-inf` are in `x`."""
    x = x.to_dense() if x.layout is not torch.strided else x
    found = (torch.isnan(x), torch.isposinf(x), torch.isneginf(x))
    return tuple(name for name, at in zip(("nan", "inf", "-inf"), found, strict=True) if bool(at.any()))


def swallowed(x: torch.Tensor) -> bool:
    """Does `x`, about to be compared, rounded or cast, hold NaN, which would be gone afterwards?

    Infinity is no reason: it compares as it should.
    """
    return any(not bool(total(part).isfinite()) and "nan" in kinds(part) for part in tensors(x))


def first_of(suspects: list[tuple[str, torch.Tensor, bool]]) -> Finding | None:
    """The first that is not finite of (name, tensor, only NaN counts).  One wait for the device for all."""
    if not suspects:
        return None
    device = suspects[0][1].device
    clean = torch.stack([total(x).to(device) for _, x, _ in suspects]).isfinite()
    if bool(clean.all()):
        return None
    for (name, x, only_nan), fine in zip(suspects, clean.tolist(), strict=True):
        bad = () if fine else kinds(x)
        if bad and (not only_nan or "nan" in bad):
            return Finding(name, bad)
    return None


# -- what a network holds ------------------------------------------------------------------------------------


def weights(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and the statistics of norms.  Other buffers may be masks, to which infinity is proper."""
    for name, x in (*model.named_parameters(), *model.named_buffers()):
        own = isinstance(x, nn.Parameter) or name.rpartition(".")[2] in NORM_STATISTICS
        if own and not nn.parameter.is_lazy(x):
            for part in tensors(x):
                yield name, part


def bad_weights(model: nn.Module, neurons: Mapping[nn.Module, str]) -> str | None:
    """One clause about weights that are not finite, or None.  Neurons' settings (tau, …) are weights."""
    suspects = [(name, x, False) for name, x in weights(model)]
    for module, path in neurons.items():
        settings = [k for k, v in vars(module).items() if isinstance(v, float) and math.isnan(v)]
        if settings:
            return f"{settings[0]!r} of the neuron {path or '(model)'!r} is nan"
    found = first_of(suspects)
    if found is None:
        return None
    x = next(x for name, x, _ in suspects if name == found.where and kinds(x))
    owner, _, field = found.where.rpartition(".")
    count = x.numel() - int(torch.isfinite(x.to_dense() if x.layout is not torch.strided else x).sum())
    return (
        f"{field!r} of module {owner or '(model)'!r} holds {_kinds(found.kinds)} "
        f"in {count} of {x.numel()} values"
    )


def bad_input(x: torch.Tensor, batch_dim: int) -> str | None:
    """One clause about an input that is not finite, or None."""
    found = first_of([("", part, False) for part in tensors(x)])
    if found is None:
        return None
    bad = ~torch.isfinite(x)
    at = tuple(bad.nonzero()[0].tolist())
    clause = f"{_kinds(found.kinds)} in {int(bad.sum())} of {x.numel()} values, the first at index {at}"
    batch_dim = min(batch_dim, x.dim() - 1)
    if bool(bad.select(batch_dim, at[batch_dim]).all()):
        clause += f" (sample {at[batch_dim]} holds nothing else: a constant image over its deviation of 0?)"
    return clause


def memories(path: str, neuron: nn.Module) -> list[tuple[str, torch.Tensor, bool]]:
    """The state of a neuron that keeps it as SpikingJelly's do."""
    state = getattr(neuron, "_memories", None) or {}
    return [
        (f"the state {key!r} of {path!r}", x, False) for key, value in state.items() for x in tensors(value)
    ]


def may_keep(module: nn.Module) -> bool:
    """Can `attributes` find anything in a module, now or later?  Not in a library's, beside its buffers."""
    if not type(module).__module__.startswith(LIBRARIES):
        return True
    return any(
        key not in NORM_STATISTICS and x is not None and x.is_floating_point()
        for key, x in module._buffers.items()
    )


def attributes(
    modules: dict[str, nn.Module], neurons: Container[nn.Module]
) -> list[tuple[str, torch.Tensor, bool]]:
    """Tensors that modules keep in plain attributes and buffers, membranes perhaps: only NaN counts there,
    save in `neurons`."""
    found = []
    for path, module in modules.items():
        masks = module not in neurons
        kept = [(k, v) for k, v in vars(module).items() if k[0] != "_"] + [
            (k, v) for k, v in module._buffers.items() if k not in NORM_STATISTICS
        ]
        for key, value in kept:
            found += [(f"{key!r} of {path or '(model)'!r}", x, masks) for x in tensors(value)]
    return found


# -- the second run ------------------------------------------------------------------------------------------


class Beginning:
    """What a forward pass starts from: random numbers and what modules keep in attributes.  Nothing is copied
    but the containers: a pass that writes into a tensor in place is not undone."""

    def __init__(self, modules: dict[str, nn.Module], device: torch.device) -> None:
        self.device, self.modules = device, modules
        self.rng = torch.get_rng_state()
        self.device_rng = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self.kept = [self._of(module) for module in modules.values()]

    @staticmethod
    def _of(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
        containers = (list, dict, deque)
        own = {
            key: copy.copy(value) if isinstance(value, containers) else value
            for key, value in vars(module).items()
            if key[0] != "_"
        }
        return own, dict(module._buffers)

    def restore(self) -> None:
        """Attributes and buffers as they were."""
        for module, (own, buffers) in zip(self.modules.values(), self.kept, strict=True):
            for key in [key for key in vars(module) if key[0] != "_" and key not in own]:
                del module.__dict__[key]
            module.__dict__.update(own)
            module._buffers.clear()
            module._buffers.update(buffers)

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """The same random numbers and attributes in the block; after it, those of now."""
        now = Beginning(self.modules, self.device)
        with torch.random.fork_rng([] if self.device_rng is None else [self.device]):
            torch.set_rng_state(self.rng)
            if self.device_rng is not None:
                torch.cuda.set_rng_state(self.device_rng, self.device)
            self.restore()
            try:
                yield
            finally:
                now.restore()


class _Trace(TorchDispatchMode):
    """Every operation's output looked at: which first held what is sought, and which an infinity before?"""

    def __init__(self, sought: tuple[str, ...], layout: Layout, neurons: set[str]) -> None:
        super().__init__()
        self.sought = {"nan"} if "nan" in sought else set(sought)
        self.layout, self.neurons = layout, neurons
        self.paths = [""]
        self.calls: Counter[str] = Counter()  # of each module
        self.ops: Counter[tuple[str, int, str]] = Counter()  # of each operation, by module and call
        self.origins: list[Origin] = []  # the first and some that follow
        self.infinities: list[Origin] = []  # before it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        op = func.overloadpacket.__name__
        if func.is_view or op.startswith(UNWRITTEN):
            return out
        path = self.paths[-1]
        key = path, self.calls[path], op
        self.ops[key] += 1
        for x in tensors(out):
            found = kinds(x) if len(self.origins) < FOLLOWED else ()
            if self.sought & set(found):
                self.origins.append(self._origin(key, x, found))
            elif found and not self.origins and len(self.infinities) < FOLLOWED:
                self.infinities.append(self._origin(key, x, found))
        return out

    def _origin(self, key: tuple[str, int, str], x: torch.Tensor, found: tuple[str, ...]) -> Origin:
        path, call, op = key
        index = int((~torch.isfinite(x)).nonzero()[0][0]) if x.dim() else 0
        overall = sum(n for (p, _, o), n in self.ops.items() if (p, o) == (path, op))
        return Origin(path, op, found, call, self.ops[key], overall, index, len(x) if x.dim() else 1)

    def said(self, batch: int) -> str:
        """One clause; "" if nothing was found."""
        if not self.origins:
            return ""
        clause = f"first leave {self._where(self.origins)} of batch {batch}"
        if self.infinities:
            before = _kinds(self.infinities[0].kinds)
            clause += f", after {before} left {self._where(self.infinities)},"
        return clause

    def _where(self, origins: list[Origin]) -> str:
        first = origins[0]
        return f"module {first.module or '(model)'!r} (in {first.op}) at {self._when(origins)}"

    def _when(self, origins: list[Origin]) -> str:
        """The step of the first, told by those that follow if need be, or else which call of its module."""
        steps = (self._step(origin) for origin in origins)
        known = next((step for step in steps if step is not None), None)
        return f"call {origins[0].call}" if known is None else f"step {known}"

    def _step(self, o: Origin) -> int | None:
        """By the time axis of the output, or as the operation runs an equal number of times in every step."""
        steps = self.layout.steps or 1
        if steps == 1:
            return 1
        within = self.ops[o.module, o.call, o.op]
        all_calls = sum(n for (path, _, op), n in self.ops.items() if (path, op) == (o.module, o.op))
        by_loop = (o.occurrence - 1) // (within // steps) + 1 if within % steps == 0 else None
        by_call = (o.overall - 1) // (all_calls // steps) + 1 if all_calls % steps == 0 else None
        by_axis = None
        if self.layout.steps_in_tensors and o.length in (steps, steps * self.layout.batch):
            by_axis = o.index // (o.length // steps) + 1
        order = (by_loop, by_axis, by_call) if o.module in self.neurons else (by_axis, by_loop, by_call)
        return next((step for step in order if step is not None), None)


def trace(
    model: nn.Module,
    run: Callable[[], object],
    beginning: Beginning,
    finding: Finding,
    layout: Layout,
    batch: int,
) -> str:
    """Run the pass of batch number `batch` again and say where values like those of `finding` come from.

    "" if it does not show.  Neuron state is not put back: who runs a batch starts from fresh neurons.
    """
    neurons = {module: path for path, module in named_neurons(model).items()}
    hidden = {child for m in neurons for child in modules(m) if child is not m}
    watch, handles = _Trace(finding.kinds, layout, set(neurons.values())), []

    def enter(path: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            watch.paths.append(path)
            watch.calls[path] += 1

        return hook

    def leave(module: nn.Module, args: Any, out: Any) -> None:
        watch.paths.pop()

    try:
        for path, module in named_modules(model):
            if module not in hidden:
                handles.append(module.register_forward_pre_hook(enter(path)))
                handles.append(module.register_forward_hook(leave, always_call=True))
        with beginning.again(), watch:
            run()
    except Exception:  # whatever it is, it is not what the user asked about
        return ""
    finally:
        for handle in handles:
            handle.remove()
    return watch.said(batch)


def _kinds(found: tuple[str, ...]) -> str:
    return " and ".join(found)
