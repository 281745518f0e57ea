"""Nonsense is refused by name, or remarked upon: what `profile` asks of weights, batches and time steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from snn_energy.errors import ConfigError, DataError
from snn_energy.models.walk import modules, named_modules
from snn_energy.profiling import nonfinite
from snn_energy.profiling.batches import Batch
from snn_energy.profiling.layout import Layout, declared_steps
from snn_energy.profiling.neurons import named_neurons
from snn_energy.profiling.nonfinite import Beginning, Finding, swallowed

__all__ = ["Guard", "Pixels", "swallowed"]

GO_ON = "; allow_nonfinite=True (--allow-nonfinite) goes on all the same"
WENT_ON = "; counted as it ran"
LARGEST_COUNT = 15  # of graded events: docs/counting.md


class Guard:
    """Watches one profile from its first batch to its last; `notes` are its remarks, one sentence each."""

    def __init__(self, model: nn.Module, time_steps: int | None, allow_nonfinite: bool) -> None:
        self.model, self.allow = model, allow_nonfinite
        self.given, self.declared = time_steps, declared_steps(model)
        self.pixels = Pixels()
        self.batches = self.tainted = 0
        self.neurons = {m: path for path, m in named_neurons(model).items()}
        inside = {child for m in self.neurons for child in modules(m) if child is not m}
        self.own = {path: m for path, m in named_modules(model) if m not in inside and nonfinite.may_keep(m)}
        self._notes: dict[str, None] = {}
        self._state: dict[str, list[tuple[str, torch.Tensor, bool]]] = {}  # what neurons hold or took in
        self._ran: tuple[str, int] | None = None  # the first multi-step neuron and its steps
        self._beginning: Beginning | None = None
        self._batch: tuple[Batch, Layout] | None = None
        self._suspect: tuple[Finding, int, Beginning, Batch, Layout] | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks so far."""
        pixels = self.pixels.note
        return (*self._notes, *([pixels] if pixels else []))

    @contextlib.contextmanager
    def watching(self, run: Callable[[Batch], object]) -> Iterator[None]:
        """Check the weights, look on while the block runs, and say at its end what was not finite.

        `run(batch)` runs a batch again.  Raises `DataError` unless not-finite values are allowed.
        """
        clause = nonfinite.bad_weights(self.model, self.neurons)
        if clause is not None:
            self._say(f"weights are not finite: {clause}")
        handles = []
        try:
            for module, path in self.neurons.items():
                if getattr(module, "_memories", None):
                    handles.append(module.register_forward_hook(self._keep(path)))
                else:
                    handles.append(module.register_forward_pre_hook(self._take_in(path)))
                if getattr(module, "step_mode", None) == "m":
                    handles.append(module.register_forward_hook(self._observe(path)))
            yield
        finally:
            for handle in handles:
                handle.remove()
        if self._suspect is not None:
            self._say(self._explained(run))

    def before(self, batch: Batch, layout: Layout) -> None:
        """Look at the inputs of a batch.  Raises `DataError` if they are not finite, unless allowed."""
        self.batches = batch.number
        for x in batch.tensors():
            clause = nonfinite.bad_input(x, 1 if layout.time_first else 0)
            if clause is not None:
                self._say(f"the input of batch {batch.number} is not finite: {clause}")
        self.pixels.look(batch.x)
        self._state.clear()
        self._ran, self._batch = None, (batch, layout)
        self._beginning = Beginning(self.own, batch.x.device)

    def after(self, out: Any, *, suspected: bool = False) -> bool:
        """Look at the output of a batch and at what its neurons hold; true if profiling should end here.

        `suspected`: an operation saw a NaN that it swallowed (`swallowed`).
        Raises `ConfigError` if the network ran for another number of steps than `time_steps` says.
        """
        assert self._batch is not None and self._beginning is not None
        batch, layout = self._batch
        self._check_ran(layout)
        suspects = [entry for state in self._state.values() for entry in state]
        suspects += nonfinite.attributes(self.own, self.neurons)
        suspects += [("the output", part, False) for part in nonfinite.tensors(out)]
        finding = nonfinite.first_of(suspects)
        if finding is None and suspected:
            finding = Finding("a comparison or rounding, which hides them", ("nan",))
        if finding is None:
            return False
        self.tainted += 1
        if self._suspect is None:
            self._suspect = finding, self.batches, self._beginning, batch, layout
        return not self.allow

    def _explained(self, run: Callable[[Batch], object]) -> str:
        assert self._suspect is not None
        finding, number, beginning, batch, layout = self._suspect
        origin = nonfinite.trace(self.model, lambda: run(batch), beginning, finding, layout, number)
        what = f"values that are not finite ({' and '.join(finding.kinds)})"
        said = f"{origin} and reach" if origin else f"were met in batch {number} in"
        more = f" ({self.tainted} of {self.batches} batches)" if self.allow and self.batches > 1 else ""
        return f"{what} {said} {finding.where}{more}"

    def _say(self, sentence: str) -> None:
        if not self.allow:
            raise DataError(sentence + GO_ON)
        self._notes[sentence[0].upper() + sentence[1:] + WENT_ON + "."] = None

    def _check_ran(self, layout: Layout) -> None:
        if self._ran is None or self._ran[1] == layout.steps or not (self.given or self.declared):
            return
        path, ran = self._ran
        did = f"its first spiking layer {path!r} ran {ran} steps"
        if self.given:
            raise ConfigError(f"time_steps = {self.given} contradicts the network: {did}")
        self._notes[f"The network declares T = {self.declared}, but {did}."] = None

    def _keep(self, path: str) -> Any:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            with torch._C.DisableTorchFunction():
                self._state[path] = nonfinite.memories(path, module)

        return hook

    def _take_in(self, path: str) -> Any:
        """A neuron without state: what it takes in is all there is to see, and is kept only if suspect."""

        def hook(module: nn.Module, args: Any) -> None:
            with torch._C.DisableTorchFunction():
                suspects = [x for x in nonfinite.tensors(args) if not bool(nonfinite.total(x).isfinite())]
                kept = [(f"the input of {path!r}", x, False) for x in suspects]
                self._state[path] = self._state.get(path, []) + kept

        return hook

    def _observe(self, path: str) -> Any:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            spikes = out[0] if isinstance(out, (tuple, list)) else out
            with torch._C.DisableTorchFunction():
                if self._ran is None and isinstance(spikes, torch.Tensor) and spikes.dim():
                    self._ran = path, spikes.shape[0]

        return hook


class Pixels:
    """Do the inputs look like images of whole numbers 0 to 255 that nobody has normalised?

    Whole numbers of 0 to 255 in every batch, one of them above `LARGEST_COUNT` (frames of small event counts
    stay below it), as uint8 or as floats.  Integers of other types are indices.
    """

    def __init__(self) -> None:
        self.possible = True
        self.largest = 0.0

    def look(self, x: torch.Tensor) -> None:
        """Take in one batch; one look at its first sample is enough where inputs are not whole numbers."""
        if not self.possible or not x.numel():
            return
        if x.dtype != torch.uint8 and not x.is_floating_point():
            self.possible = False
            return
        for part in (x[0], x) if x.dim() else ():
            low, high = (float(bound) for bound in part.aminmax())
            whole = low >= 0 and high <= 255
            if not whole or (x.is_floating_point() and not bool((part == part.floor()).all())):
                self.possible = False
                return
            self.largest = max(self.largest, high)

    @property
    def note(self) -> str | None:
        """One sentence, or None."""
        if not self.possible or self.largest <= LARGEST_COUNT:
            return None
        return (
            f"The input holds whole numbers from 0 to {self.largest:g} and looks like raw pixels 0…255: they "
            "are counted as real values, but networks are usually trained on images normalised to floats."
        )
