"""`profile`: run a model over samples and hand back what was measured."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import nn

from snn_energy.errors import ConfigError, DataError, UncountedError
from snn_energy.models.at_rest import Rest
from snn_energy.models.walk import device_of, named_modules
from snn_energy.profiling import sanity
from snn_energy.profiling.axes import checked_steps
from snn_energy.profiling.batches import Batch, Turns, read_batches
from snn_energy.profiling.call import Rule
from snn_energy.profiling.contract import Contract, Declared
from snn_energy.profiling.instrument import instrumented
from snn_energy.profiling.kinds import COUNTS, ValueSet
from snn_energy.profiling.labels import class_scores, count_correct, read_labels
from snn_energy.profiling.layout import Layout
from snn_energy.profiling.neurons import has_reset, named_neurons, resting
from snn_energy.profiling.nonfinite import NORM_STATISTICS
from snn_energy.profiling.profile import Profile
from snn_energy.profiling.provenance import Tag
from snn_energy.profiling.recorder import Recorder
from snn_energy.profiling.settle import settle
from snn_energy.profiling.summary import summary

INPUT_KINDS = ("", "events")


def profile(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    strict: bool = False,
    time_steps: int | None = None,
    batch_dim: int | None = None,
    layout: str | None = None,
    output: str | int | None = None,
    neurons: Mapping[Any, Any] | None = None,
    check: bool = True,
    device: str | torch.device | None = None,
    progress: Callable[[int], None] | None = None,
    max_samples: int | None = None,
    allow_nonfinite: bool = False,
    data: str = "",
    class_names: Iterable[str] = (),
    rules: Mapping[str, Rule] | None = None,
    input_kind: str = "",
) -> Profile:
    """Count every operation of `model` over `batches`, exactly, under the definitions of docs/counting.md.

    `batches` yields x, (x, y) or a mapping with labels under a name such as "labels".  x is a tensor, a tuple
    of tensors (arguments in order) or a mapping of them (arguments by name); y holds B class indices (or
    probabilities: see `labels.read_labels`) and gives the accuracy.  Batches of no samples are skipped.

    What the network does with time is looked at on the first samples, unless it is told: `layout` says how
    the input lies ("B": (B, …), the same at every step; "BT", "TB", "BT-last"), `batch_dim` (0 or 1) only
    where the samples are, `time_steps` what T is, `output` which output holds the class scores ("0",
    "logits:mean-T"), `neurons` which classes are neurons ({"LIFSpike": "lif"}; `register_neuron` says more).
    A network that makes one step per call is called T times.  What was settled stands in `Profile.contract`;
    `check=False` leaves out the second look that finds state which survives the reset: docs/your-network.md.

    `max_samples` stops early; `progress` is called with the samples done.  `input_kind="events"` declares the
    input to be event counts of any size (by their values alone, whole numbers above 15 are real).  `rules`
    adds or replaces counting rules by function name: docs/extending.md.  The model runs in evaluation mode
    without gradients, from rest for every batch; its mode and everything that its modules hold are put back
    afterwards, even after an exception.

    Raises `UncountedError` when `strict` and some operation has no counting rule; `ConfigError` for what
    contradicts the network or the data, and for state that survives the reset; `DataError` for batches that
    cannot be used and for NaN or infinity in weights, input, output or the state of neurons, unless
    `allow_nonfinite`: then the profile's `notes` say what was found where.
    """
    declared = Declared(layout, batch_dim, checked_steps(time_steps), output, neurons or {}, check)
    options: dict[str, Any] = {"strict": strict, "device": device, "progress": progress, "rules": rules}
    options |= {"max_samples": max_samples, "allow_nonfinite": allow_nonfinite, "input_kind": input_kind}
    about = {"data": data, "class_names": tuple(class_names)}
    return counted(model, batches, declared, about, **options)[0]


def counted(
    model: nn.Module,
    batches: Iterable[Any],
    declared: Declared,
    about: Mapping[str, Any],
    *,
    strict: bool = False,
    device: str | torch.device | None = None,
    progress: Callable[[int], None] | None = None,
    max_samples: int | None = None,
    allow_nonfinite: bool = False,
    rules: Mapping[str, Rule] | None = None,
    input_kind: str = "",
) -> tuple[Profile, Recorder]:
    """`profile`, with fields `about` the data, and what recorded it: it knows the place of every row."""
    if input_kind not in INPUT_KINDS:
        raise ConfigError(f"input_kind = {input_kind!r}: must be one of {', '.join(map(repr, INPUT_KINDS))}")
    place = device_of(model) if device is None else torch.device(device)
    waiting = (placed(batch, place) for batch in read_batches(batches, model))
    first = next(waiting, None)
    if first is None:
        raise DataError("no samples to profile: the batches are empty")
    with resting(model, declared.neurons, place) as rest:
        guard = sanity.Guard(model, declared.time_steps, allow_nonfinite)
        guard.pixels.possible = input_kind != "events"
        contract = settle(rest, first, declared)
        rest.fresh()  # what the look at the first samples left behind is no constant of the network
        recorder = Recorder(model, named_neurons(model).values())
        session = _Session(rest, contract, guard, recorder, input_kind)
        shapes = _shapes_of_two(session, first, rules)
        with guard.watching(session.run), instrumented(model, session.recorder, rules) as watch:
            for batch in chain([first], waiting):
                if max_samples is not None and session.samples >= max_samples:
                    break
                if session.take(batch, watch, max_samples, declared):
                    break
                if strict:
                    _refuse(session.recorder)
                if progress is not None:
                    progress(session.samples)
        for tally in recorder.tallies.values():
            tally.fixed.update(shapes.get((tally.name, tally.op, tally.site), {}))
        found = summary(
            model,
            recorder,
            contract.steps,
            samples=session.samples,
            correct=session.correct if session.labelled else None,
            contract=contract.line,
            notes=(*contract.remarks, *_left_behind(rest), *guard.notes),
            **about,
        )
        return found, recorder


class _Session:
    """One profile from its first batch to its last."""

    def __init__(
        self, rest: Rest, contract: Contract, guard: sanity.Guard, recorder: Recorder, input_kind: str
    ) -> None:
        self.rest, self.contract, self.guard, self.recorder = rest, contract, guard, recorder
        self.input_kind = input_kind
        self.samples, self.correct, self.labelled = 0, 0, True

    def run(self, batch: Batch) -> list[Any]:
        """The network's outputs on a batch, from rest: one per call."""
        self.rest.fresh()
        return self._calls(batch)

    def _calls(self, batch: Batch) -> list[Any]:
        return list(map(Turns(self.rest.model), self.contract.runs(batch)))

    def take(self, batch: Batch, watch: Any, most: int | None, declared: Declared) -> bool:
        """Count one batch; true if profiling should end here."""
        layout, axis = self.contract.layout_of(batch), self.contract.batch_axis
        check_labels(batch, layout)
        if most is not None and most - self.samples < layout.batch:
            layout.batch = most - self.samples
            batch = batch.taken(layout.batch, axis, self.contract.entries)
        self.guard.before(batch, layout)
        outs = self.watched(batch, layout, watch)
        if self.guard.after(outs, suspected=self.recorder.swallowed):
            return True
        self.samples += layout.batch
        self.labelled = self.labelled and batch.labels is not None
        if batch.labels is not None:
            scores = class_scores(outs, layout, declared.output)
            self.correct += count_correct(scores, batch.labels, batch.number)
        return False

    def watched(self, batch: Batch, layout: Layout, watch: Any) -> list[Any]:
        """One watched forward pass from fresh neurons; returns its outputs."""
        recorder = self.recorder
        self.rest.fresh()  # before the pass: what it writes is no work of the network
        recorder.begin(layout)
        recorder.give((x, self._known(x, layout, batch.number)) for x in batch.tensors())
        with watch, no_collection():
            outs = self._calls(batch)
        recorder.look_at(outs)
        recorder.flush()
        return outs

    def _known(self, x: torch.Tensor, layout: Layout, number: int) -> Tag:
        values = _declared_values(x, self.input_kind, number)
        order = layout.input_order(x.shape)
        return Tag(self.recorder.epoch, ("input",), values=values, still=True, order=order)


def _shapes_of_two(
    session: _Session, first: Batch, rules: Mapping[str, Rule] | None
) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Shapes of one sample and step, by row, from a pass over the first sample twice.

    With one sample per batch an axis of length 1 may be that of samples or one of the network's; with two it
    cannot be mistaken.  Empty where batches are larger, where the network takes one sample only, and for
    networks of ours, whose tensors have samples there.
    """
    contract, axis = session.contract, session.contract.batch_axis
    if contract.steps == 1 or contract.layout_of(first).batch != 1 or not contract.looked:
        return {}
    twice = dataclasses.replace(
        first.mapped(lambda x: torch.cat((x, x), axis) if x.dim() > axis and x.shape[axis] == 1 else x),
        labels=None,
    )
    model = session.rest.model
    other = Recorder(model, named_neurons(model).values())
    looker = _Session(session.rest, contract, session.guard, other, session.input_kind)
    try:
        with instrumented(model, other, rules) as watch:
            looker.watched(twice, contract.layout_of(twice), watch)
    except Exception:  # it may know batches of one only; then there is nothing to tell
        return {}
    finally:
        session.rest.fresh()
    fields = ("input_shape", "output_shape")
    return {
        (t.name, t.op, t.site): {name: t.fixed[name] for name in fields if name in t.fixed}
        for t in other.tallies.values()
    }


def placed(batch: Batch, place: torch.device) -> Batch:
    """The batch on `place`, its labels read."""
    batch = batch.mapped(lambda x: x.detach().to(place))
    return dataclasses.replace(batch, labels=read_labels(batch.labels, batch.number, place))


def check_labels(batch: Batch, layout: Layout) -> None:
    """Raise `DataError` unless there is a label for each sample, or none at all."""
    y = batch.labels
    if y is not None and y.shape[0] != layout.batch:
        raise DataError(
            f"{y.shape[0]} labels for {layout.batch} samples in an input of shape {tuple(batch.x.shape)}"
        )


def _left_behind(rest: Rest) -> tuple[str, ...]:
    """A remark on state that was not at rest when profiling began, and that nobody knows to reset."""
    resetting = {path for path, module in named_modules(rest.model) if has_reset(module)}
    held = [
        name
        for name, before in rest.changed.items()
        if isinstance(before, torch.Tensor)
        and name.rpartition(".")[0] not in resetting
        and name.rpartition(".")[2] not in NORM_STATISTICS
        and bool(before.count_nonzero())
    ]
    if not held:
        return ()
    names = f"{held[0]!r}{f' and {len(held) - 1} more' if len(held) > 1 else ''}"
    return (
        f"{names} held values when profiling began, and no reset is known: every batch starts from this "
        "state; bring the network to rest first, or register the neuron with its reset.",
    )


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """No search for circles of garbage while a pass runs: it leaves none, and the search is long."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _declared_values(x: torch.Tensor, kind: str, number: int) -> ValueSet | None:
    """What the user states of the input's values.  Raises `DataError` where they deny it."""
    if not kind:
        return None
    odd = x[x != x.round()] if x.is_floating_point() else x[:0]
    if odd.numel():
        raise DataError(
            f"batch {number}: input_kind = 'events' declares event counts, which are whole numbers; "
            f"the input holds {float(odd.flatten()[0]):g}"
        )
    return COUNTS


def _refuse(recorder: Recorder) -> None:
    missing = [
        f"{t.name or '(model)'}: {t.fixed['note']}" for t in recorder.tallies.values() if t.op == "uncounted"
    ]
    if missing:
        raise UncountedError(
            f"no counting rule for {'; '.join(missing)}; without strict they are listed as uncounted"
        )
