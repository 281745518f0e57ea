"""Settling the contract: what was told, then what a look at the first samples shows.

A contradiction between the two is an error that names both.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import nn

from snn_energy.errors import ConfigError
from snn_energy.frameworks import Neuron
from snn_energy.models.at_rest import Rest
from snn_energy.models.walk import device_of, modules, named_modules
from snn_energy.profiling import axes
from snn_energy.profiling.axes import Axes
from snn_energy.profiling.batches import Batch, Turns
from snn_energy.profiling.contract import Contract, Declared, Fact, neurons_in_words, reset_in_words
from snn_energy.profiling.labels import samples_in_scores
from snn_energy.profiling.layout import declared_steps
from snn_energy.profiling.neurons import facts_of, named_neurons, resting
from snn_energy.profiling.observe import (
    Observation,
    difference,
    like_neurons,
    observe,
    same_chance,
    shares_time,
    steps_by_calls,
    steps_held,
    undecided,
)

OURS = "snn_energy.models."


def settle(rest: Rest, batch: Batch, declared: Declared) -> Contract:
    """How `rest.model` is to be run on batches like this one.

    Raises `ConfigError` where what is declared contradicts the network or the data, or where state survives
    the reset; and what the network raises where it does not run on the batch.
    """
    model = rest.model
    told = axes.told(model, batch, declared)
    if type(model).__module__.startswith(OURS) and declared_steps(model) is not None:
        steps = told.steps or declared_steps(model) or 1
        fact = told.steps_fact or Fact(f"T = {steps}", "known", "the network's own")
        return _contract(model, told, steps, fact, in_tensors=True, calls=1)
    if axes.own_axes(model) is not None:
        assert told.steps is not None and told.steps_fact is not None
        return _contract(model, told, told.steps, told.steps_fact, in_tensors=False, calls=1)
    return _Look(rest, batch, declared, told).contract()


def samples_along(model: nn.Module, inputs: Any, declared: Declared) -> int:
    """The axis of samples in `inputs`, by a look at the network alone.  Raises as `settle`."""
    declared = dataclasses.replace(declared, check=False)
    batch = Batch(inputs).mapped(lambda x: x.to(device_of(model)))
    with resting(model, declared.neurons) as rest:
        return settle(rest, batch, declared).batch_axis


class _Look:
    """A look at the first samples, and what follows from it."""

    def __init__(self, rest: Rest, batch: Batch, declared: Declared, told: Axes) -> None:
        self.rest, self.model, self.declared, self.told = rest, rest.model, declared, told
        self.whole = batch
        self.remarks: list[str] = list(told.remarks)
        self.error: Exception | None = None  # of a call that took all steps at once
        self.part, self.samples = self._few(batch)
        self.facts = {path: facts_of(module) for path, module in named_neurons(self.model).items()}

    def contract(self) -> Contract:
        """What holds."""
        with same_chance():
            seen = self._first_look()
        seen = self._turned(seen)
        if not self.told.sure:
            self.told = axes.seen(self.told, self.whole.x, seen, self.facts, self._halves, self._cut)
            self.samples = self.whole.x.shape[self.told.batch]
        steps, fact = self._steps(seen)
        calls = steps if seen is None or self._steps_are_calls(seen, steps) else 1
        in_tensors = calls == 1 and (steps == 1 or self._in_tensors(seen, steps))
        contract = _contract(self.model, self.told, steps, fact, in_tensors, calls)
        if calls > 1:
            self._ask_for_an_axis(steps)
            self._ask_for_state()
            seen = self._steps_looked_at(contract)
        assert seen is not None
        if self.declared.check:
            self._twice(seen, contract)
        self._remark(seen, steps, calls)
        folded = self._folded(seen, steps)
        settled = _contract(
            self.model, self.told, steps, fact, in_tensors, calls, tuple(self.remarks), folded
        )
        return dataclasses.replace(settled, scores=self._scores(seen, steps) if calls == 1 else None)

    def _scores(self, seen: Observation, steps: int) -> int | None:
        """The axis of samples in scores per step; a number of samples that is T is looked at less one."""
        samples, outs = self.samples, seen.outputs
        if samples == steps > 1 and self.whole.labels is not None:
            samples -= 1
            try:
                outs = self._observed([self.part.part(0, samples, self.told.batch).inputs]).outputs
            except Exception:  # it may know only batches of one size
                return None
        return samples_in_scores(outs[0], samples, steps, self.declared.output)

    # -- looking --------------------------------------------------------------------------------------------

    def _few(self, batch: Batch) -> tuple[Batch, int]:
        """A few samples: enough to look at, in a number that is not mistaken for T."""
        size = batch.x.shape[self.told.batch]
        steps = self.told.steps or 1
        count = next((n for n in (2, 3, 1) if n != steps and n <= size), size)
        whole = not self.told.sure or not self.declared.check or _holds_batches(self.model, size)
        if count == size or whole:
            return batch, size
        return batch.part(0, count, self.told.batch), count

    def _observed(self, inputs: list[Any], *, fresh: bool = True) -> Observation:
        if fresh:
            self.rest.fresh()
        own = [Batch(x).mapped(torch.clone).inputs for x in inputs]  # a network may write into its input
        turns = Turns(self.model)
        return observe(self.model, [functools.partial(turns, x) for x in own])

    def _first_look(self) -> Observation | None:
        """One call of the network; None where it cannot take all steps at once."""
        try:
            return self._observed([self.part.inputs])
        except Exception as error:
            if self.part is not self.whole:  # it may know only batches of one size
                self.part, self.samples = self.whole, self.whole.x.shape[self.told.batch]
                return self._first_look()
            self.error = error
            if (self.told.steps or 1) > 1 and self.told.time is not None:
                return None
            error.add_note(axes.hint(self.told, self.whole.x))
            raise

    def _steps_looked_at(self, contract: Contract) -> Observation:
        """One call per step.  Raises what a call of all steps raised where this fails as well."""
        try:
            with same_chance():
                return self._observed(contract.runs(self.part))
        except Exception:
            if self.error is None:
                raise
        raise self.error

    def _cut(self) -> Observation | None:
        """A look at the batch with one entry less along axis 1; None where the network does not run on it."""
        try:
            return self._observed([self.whole.part(0, self.whole.x.shape[1] - 1, 1).inputs])
        except Exception:
            return None

    def _turned(self, seen: Observation | None) -> Observation | None:
        """The look again, if neurons show that samples lie along the axis that was taken for time.

        Raises `ConfigError` where a user, or the labels, said which axis that is.
        """
        if seen is None or not self.told.sure or self.told.time is None or self.told.steps is None:
            return seen
        found = axes.turned((self.told.steps, self.samples), seen, self.facts)
        if found is None or (self.told.fact.how != axes.MULTI_STEP and not self.declared.check):
            return seen
        if self.told.fact.how != axes.MULTI_STEP:
            raise ConfigError(f"{self.told.fact} contradicts the network: {found}")
        told = axes.told(self.model, self.whole, dataclasses.replace(self.declared, batch_dim=0))
        how = found.partition(" for ")[0] + ", turned round"
        self.told = dataclasses.replace(told, fact=Fact("batch axis 0", "observed", how))
        self.remarks = list(told.remarks)
        self.part, self.samples = self._few(self.whole)
        with same_chance():
            return self._first_look()

    def _halves(self, axis: int, seen: Observation) -> bool:
        """Do the halves of the batch along `axis` put out together what the whole puts out?"""
        size = self.whole.x.shape[axis]
        parts = [(0, size // 2), (size // 2, size - size // 2)]
        try:
            halves = [self._observed([self.whole.part(*part, axis).inputs]) for part in parts]
        except Exception:
            return False
        both = Observation(
            nonzeros={p: sum(h.nonzeros.get(p, 0) for h in halves) for p in seen.nonzeros},
            events={p: sum(h.events.get(p, 0) for h in halves) for p in seen.events},
        )
        return difference(seen, both) is None

    # -- concluding -----------------------------------------------------------------------------------------

    def _steps(self, seen: Observation | None) -> tuple[int, Fact]:
        """T, and where it comes from."""
        if self.told.steps is not None:
            assert self.told.steps_fact is not None
            return self.told.steps, self.told.steps_fact
        assert seen is not None
        for path in seen.neurons:
            facts, shape = self.facts[path], seen.shapes.get(path, ())
            if facts is None or not isinstance(facts.time_axis, int) or len(shape) < 2:
                continue
            steps = self._folded_steps(facts, shape) if facts.folded else shape[facts.time_axis]
            stated = facts.steps is not None or facts.samples is not None
            how = f"what {path or '(model)'!r} {'states' if stated else 'puts out'}"
            return steps, Fact(f"T = {steps}", "known" if stated else "observed", how)
        return self._steps_of_calls(seen)

    def _folded_steps(self, facts: Neuron, shape: tuple[int, ...]) -> int:
        if facts.steps is not None:
            return facts.steps
        given = self.part.x.shape[self.told.batch]  # as many as came out: the input is folded, too
        samples = facts.samples or (1 if shape[0] == given else given)
        return shape[0] // samples

    def _folded(self, seen: Observation | None, steps: int) -> bool:
        """Do samples and steps share the batch axis of the input, as they do in what its neurons put out?"""
        if seen is None or steps == 1 or self.told.time is not None or self.told.batch != 0:
            return False
        size = self.part.x.shape[0]
        return any(
            facts is not None
            and facts.folded
            and facts.time_axis == 1
            and seen.shapes.get(path, ())[:1] == (size,)
            for path, facts in self.facts.items()
        )

    def _steps_of_calls(self, seen: Observation) -> tuple[int, Fact]:
        steps, odd = steps_by_calls(seen)
        if steps == 1:
            return self._one_step(seen)
        again = [path for path, n in seen.neurons.items() if n > 1]
        layers = [path for path, n in seen.layers.items() if n == steps]
        along = self.told.time is not None and self.whole.x.shape[self.told.time] == steps
        if again or along or len(layers) > len(seen.layers) / 2 > 0.5:
            if not again and not along:
                self.remarks.append(
                    f"{len(layers)} of {len(seen.layers)} layers run {steps} times per forward, which is "
                    "taken for time steps: give time_steps=1 if it is not time."
                )
            if odd:
                first = odd[0]
                n = seen.neurons.get(first) or seen.layers[first]
                self.remarks.append(
                    f"T = {steps} is what most layers' calls per forward say, but {first!r} is called {n} "
                    "times (several places, or a call beyond the steps?): give time_steps if T is another."
                )
            return steps, Fact(f"T = {steps}", "observed", "calls per forward")
        self.remarks.append(
            f"{layers[0]!r} runs {steps} times per forward, and nothing says whether that is time: T = 1 is "
            f"assumed; give time_steps={steps} if it is."
        )
        return 1, Fact("T = 1", "assumed")

    def _one_step(self, seen: Observation) -> tuple[int, Fact]:
        """T where everything runs once: 1, unless tensors hold more; said to be assumed where they may."""
        x, layout = self.whole.x, self.declared.layout
        silent = [path for path in (*seen.neurons, *like_neurons(seen)) if path in seen.shapes]
        shapes = {path: seen.shapes[path] for path in silent}
        mute = {
            p: s for p, s in shapes.items() if (f := self.facts.get(p)) is None or f.time_axis is not None
        }
        steps, path = steps_held(mute, x.dim(), self.samples)
        if steps > 1 and self.told.batch == 0:
            return steps, Fact(f"T = {steps}", "observed", f"what {path or '(model)'!r} puts out")
        volumes = any(isinstance(module, axes.VOLUMES) for module in modules(self.model))
        doubt = undecided(shapes, () if layout is not None or volumes else tuple(x.shape), self.samples)
        if not doubt:
            return 1, Fact("T = 1", "observed", "each layer runs once per forward")
        self.remarks.append(f"T = 1 is assumed: {doubt}; give time_steps if T is another.")
        return 1, Fact("T = 1", "assumed")

    def _steps_are_calls(self, seen: Observation, steps: int) -> bool:
        """Does the network make one step per call, so that it has to be called T times?"""
        if steps == 1:
            return False
        facts = [self.facts[path] for path in seen.neurons]
        if any(f is not None and isinstance(f.time_axis, int) for f in facts):
            return False
        counts = {*seen.neurons.values(), *seen.layers.values()}
        if any(n > 1 and n % steps == 0 for n in counts):
            return False
        ran, _ = steps_by_calls(seen)
        repeated = [path for path, n in seen.layers.items() if n == ran > 1]
        if repeated and self.told.time is None:
            if self.told.steps_fact is not None and self.told.steps_fact.source == "declared":
                called = f"{repeated[0]!r} is called {ran} times per forward"
                raise ConfigError(f"time_steps = {steps} contradicts the network: {called}")
            return False
        if any(f is not None and f.time_axis is None for f in facts):
            return True
        if self.told.time is not None or declared_steps(self.model) is not None:
            return False
        paths = {**seen.neurons, **seen.layers}
        return not shares_time(seen, steps, self.samples, paths)

    def _in_tensors(self, seen: Observation | None, steps: int) -> bool:
        """Do tensors inside hold several steps?  Else the network steps through time itself."""
        assert seen is not None
        if any(f is not None and isinstance(f.time_axis, int) for f in map(self.facts.get, seen.neurons)):
            return True
        if shares_time(seen, steps, self.samples, {**seen.neurons, **seen.layers}):
            return True
        return all(n == 1 for n in (*seen.neurons.values(), *seen.layers.values()))

    def _ask_for_an_axis(self, steps: int) -> None:
        x = self.whole.x
        if self.told.time is None and self.declared.layout is None and x.dim() == 3 and x.shape[1] == steps:
            raise ConfigError(
                f"the network makes one step per call, and axis 1 of the input {tuple(x.shape)} is as long "
                f"as T = {steps}: give layout='BT' if it is time, layout='B' if every step gets all of it"
            )

    def _ask_for_state(self) -> None:
        """Neurons whose state is passed round start afresh in every call of a network that passes none on."""
        found = [path for path, facts in self.facts.items() if facts is not None and facts.passed]
        if found and not Turns(self.model).passes:
            raise ConfigError(
                f"the network makes one step per call, and the state of {found[0]!r} ends with the call: let "
                "forward(x, state=None) return (out, state), or loop over time inside of it"
            )

    # -- checking -------------------------------------------------------------------------------------------

    def _twice(self, seen: Observation, contract: Contract) -> None:
        """The same samples once more, from rest, must come out the same."""
        inputs = contract.runs(self.part)
        with same_chance():
            found = difference(seen, self._observed(inputs))
        if found is None:
            with same_chance():
                self.rest.find_records(lambda: self._observed(inputs, fresh=False))
            return
        raise ConfigError(
            f"state survives the reset: {found}; give the reset (register_neuron(..., reset='method')), keep "
            "state in attributes of modules, or check=False (--no-check)"
        )

    def _remark(self, seen: Observation, steps: int, calls: int) -> None:
        if calls > 1:
            for path, n in seen.neurons.items():
                if n != calls:
                    self.remarks.append(
                        f"neuron {path!r} is called {n} times over {calls} steps: its rate is that of all."
                    )
            if self.told.steps_fact is not None and self.told.steps_fact.source == "known":
                self.remarks.append(f"The network makes one step per call: it is called {calls} times.")
        for path in like_neurons(seen):
            name = type(dict(named_modules(self.model))[path]).__name__
            out, came = seen.lookalikes[path]
            self.remarks.append(
                f"{path or '(model)'!r} behaves like a neuron (it puts out {out} different values, and takes "
                f"in {came}) and is counted by what it calls: "
                f'snn_energy.register_neuron({name}, op="lif") or --neuron {name}=lif.'
            )


def _holds_batches(model: nn.Module, size: int) -> bool:
    """Does a module of nobody's library hold a tensor that is as long as a batch (a membrane, say)?"""
    for module in modules(model):
        if not type(module).__module__.startswith("torch."):
            held = (*module._parameters.values(), *module._buffers.values(), *vars(module).values())
            if any(isinstance(x, torch.Tensor) and x.dim() > 1 and x.shape[0] == size for x in held):
                return True
    return False


def _contract(
    model: nn.Module,
    told: Axes,
    steps: int,
    fact: Fact,
    in_tensors: bool,
    calls: int,
    remarks: tuple[str, ...] | None = None,
    folded: bool = False,
) -> Contract:
    facts = [neurons_in_words(model), fact]
    if steps > 1:
        loop = "one call per step" if calls > 1 else "all steps in one call" if in_tensors else "its own loop"
        facts.append(Fact(loop, "observed" if remarks is not None else "known"))
    axis = Fact("batch axis 0, with T steps of each sample", "known", "folded") if folded else told.fact
    facts += [axis, reset_in_words(model)]
    looked = remarks is not None
    said = told.remarks if remarks is None else remarks
    return Contract(
        steps, told.time, told.batch, in_tensors, calls, tuple(facts), said, looked=looked, folded=folded
    )
