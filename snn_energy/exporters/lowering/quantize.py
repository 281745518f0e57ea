"""From real weights to registers: one current scale G per stream, 8-bit weights, thresholds, biases, decays.

A stream's current in the chip is a = G·x.  A neuron that computes v ← κv + gain·x and fires at v ≥ θ becomes

    V ← κV + 64·a,  fires at V > 64·m,   with V = 64·(G / gain)·v and S = G·θ / gain in place of θ.

`V > 64·m` must mean `V ≥ 64·S`.  With τ = 2, V is a whole multiple of the lattice step 64 / 2^(T-1) as long
as T ≤ 7, and no multiple lies between 64·m and 64·(m + ε), ε = 2^-T.  So G is
chosen to make S = m + ε for the stream's commonest threshold: there the chip's neuron *is* the real one.
Other thresholds on the same stream are moved to their nearest m + ε, and other τ to the nearest x/4096; the
de-quantized model has these too, so what remains between it and the chip is only rounding of decays other
than ½ and of more than 7 steps.

Each term has its own weight exponent, so that every layer on a stream uses its 8 bits.

Where all weights and biases of a stream are whole registers at some G near the best one, that G is kept: a
network that was trained in these numbers, or a de-quantized one, is lowered as it is.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from snn_energy.errors import UnsupportedOp
from snn_energy.exporters.lowering.grids import Weights, kept, registers_of
from snn_energy.exporters.lowering.plan import Attention, Neuron, Plan, Pool, StaaNeuron, Synapse
from snn_energy.exporters.lowering.staa import staa_registers
from snn_energy.exporters.netlist.check import BIAS_MANTISSA, DECAY_MAX, THRESHOLD_MAX, WEIGHT_EXPONENT_MAX
from snn_energy.exporters.netlist.record import CURRENT_LIMIT, VOLTAGE_LIMIT, Array, StaaLif
from snn_energy.exporters.netlist.staa_lif import FRACTION_BITS

HEADROOM = 2.0  # currents may be this many times larger than on the calibration samples
HEADROOM_KEPT = 1.25  # the same, where a network was trained in registers that were chosen with the above
BIAS_MAX = BIAS_MANTISSA[1] * 2  # exponent 7 against the current's 6
EXTRA_GRAIN = 2 << WEIGHT_EXPONENT_MAX  # synapses of the largest exponent, even as those of both signs
EXTRA_MAX = 127 * EXTRA_GRAIN
EXACT_STEPS = 7
TIE = 2.0**-20  # so much lower is a threshold that sums of a factor like 1/7 reach but for float rounding


@dataclass(frozen=True)
class Calibration:
    """Largest |x| seen at the input and at every neuron and output, in the real-valued model; `membranes`:
    largest |value| inside each STAA neuron."""

    input_peak: float
    input_whole: bool
    currents: dict[str, float]
    membranes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Fire:
    """Registers of one neuron, and the threshold and τ of the real neuron that they are exactly.

    `extra` (C,): the part of the bias that its register cannot hold, in current units; a synapse brings it at
    every step.
    """

    threshold: int
    voltage_decay: int
    bias: Array
    bias_exponent: int
    real_threshold: float
    real_tau: float | None
    extra: Array


@dataclass(frozen=True)
class InputScale:
    """Messages are clip(round(x·scale)) of `message_bits` bits (0: binary)."""

    scale: float
    message_bits: int


@dataclass(frozen=True)
class Registers:
    """All numbers of a plan.  `scales`: term -> G of its stream (current units per real unit)."""

    input: InputScale
    scales: dict[str, float]
    weights: dict[str, Weights]
    biases: dict[str, Array]  # term -> whole current units (O,), shared by all neurons of the stream
    neurons: dict[str, Fire]
    staa: dict[str, StaaLif]
    gains: dict[str, int]  # attention -> integer gain


def input_scale(calibration: Calibration, bits: int = 8) -> InputScale:
    """Whole numbers (spikes, event counts) enter as they are; else the largest scale that fits."""
    peak = max(calibration.input_peak, 1e-12)
    if calibration.input_whole and peak <= 1:
        return InputScale(1.0, 0)
    if calibration.input_whole and peak < 1 << (bits - 1):
        return InputScale(1.0, bits)
    return InputScale(((1 << (bits - 1)) - 1) / peak, bits)


def quantize(plan: Plan, calibration: Calibration, *, bits: int = 8) -> Registers:
    """Choose every register.  Raises `UnsupportedOp` where no scale leaves a usable threshold."""
    if not 4 <= bits <= 8:
        raise ValueError(f"weights of {bits} bits: 4 to 8")
    scale = input_scale(calibration)
    unit = {n: 1 / scale.scale if s.kind == "input" else s.unit for n, s in plan.sources.items()}
    scales: dict[str, float] = {}
    for group in streams(plan):
        scales |= dict.fromkeys(group, _stream_scale(plan, group, calibration, unit, bits))
    for name, term in plan.terms.items():
        if isinstance(term, Pool) and term.kind == "sum":
            scales[name] = scales[term.terms[0]] * math.prod(term.kernel)
    weights = {}
    for name, term in plan.terms.items():
        if isinstance(term, Synapse) and name in scales:
            weights[name] = registers_of(term.weight, scales[name] * unit[term.source], bits)
            if _fixed(term) and not np.allclose(weights[name].real, term.weight, rtol=1e-9):
                raise UnsupportedOp(
                    name, "a shortcut of spikes that needs a weight which its stream cannot hold",
                    supported="weights that differ by powers of two", way_out="put a convolution on it",
                )  # fmt: skip
    biases = _biases(plan, scales)
    neurons = {name: _fire(name, neuron, plan, scales, biases) for name, neuron in plan.neurons.items()}
    staa = {
        name: staa_registers(name, s.parameters, s.shape, scales[s.terms[0]], _summed(biases, s.terms))
        for name, s in plan.staa.items()
    }
    relayed = {name for s in plan.sources.values() if s.kind == "product" for name in s.made_of}
    gains = {
        name: 1 if name in relayed else attention_gain(plan.time_steps)
        for name, t in plan.terms.items()
        if isinstance(t, Attention)
    }
    return Registers(scale, scales, weights, biases, neurons, staa, gains)


def streams(plan: Plan) -> list[list[str]]:
    """Terms that must share a scale: those of one neuron, and those of a max pool with what it pools."""
    parent = {name: name for name in plan.terms}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    sets = [n.terms for n in plan.neurons.values()] + [s.terms for s in plan.staa.values()]
    sets += [o.terms for o in plan.outputs.values()]
    sets += [(name, *t.terms) for name, t in plan.terms.items() if isinstance(t, Pool) and t.kind == "max"]
    sets += [t.terms for t in plan.terms.values() if isinstance(t, Pool) and t.kind == "sum"]
    for names in sets:
        for name in names[1:]:
            parent[root(name)] = root(names[0])
    used = {name for names in sets for name in names}
    groups: dict[str, list[str]] = {}
    for name, term in plan.terms.items():
        if name in used and not (isinstance(term, Pool) and term.kind == "sum"):
            groups.setdefault(root(name), []).append(name)
    return list(groups.values())


def attention_gain(time_steps: int) -> int:
    """Makes every membrane behind an attention a multiple of 64 while T ≤ 7: `≥` is then exact."""
    return 1 << (min(time_steps, EXACT_STEPS) - 1)


def _stream_scale(
    plan: Plan, group: list[str], calibration: Calibration, unit: dict[str, float], bits: int
) -> float:
    terms = [plan.terms[name] for name in group]
    if any(isinstance(t, Attention) for t in terms):
        return _attention_scale(plan, group)
    if all(isinstance(t, Synapse) and t.kind == "gather" for t in terms):
        return float(attention_gain(plan.time_steps))
    heard = _listeners(plan, group)
    peaks = [_peak(t, unit) for t in terms if isinstance(t, Synapse)]
    largest = (1 << bits) - 2
    useful = [largest / min((p for p in peaks if p > 0), default=1.0)]  # beyond it, exponents grow
    limits = [(largest << WEIGHT_EXPONENT_MAX) / max([*peaks, 1e-30])]
    for name, neuron, times in heard:
        limits.append((THRESHOLD_MAX - 1) * neuron.gain / (times * neuron.threshold))
        peak = max(calibration.currents.get(name, 0.0), 1e-30)
        useful.append(CURRENT_LIMIT / (HEADROOM * times * peak))
        limits.append(CURRENT_LIMIT / (HEADROOM_KEPT * times * peak))
        bias = max(float(np.abs(neuron.bias).max()), 1e-30)
        room = (BIAS_MAX if times == 1 else BIAS_MANTISSA[1] + EXTRA_MAX) / times
        limits.append(room / bias)
        room = max(room - len(group), room / 4)  # rounding, to even values, moves each term's bias by up to 1
        useful.append(room / bias)
    for name, staa in plan.staa.items():
        if set(group) & set(staa.terms):
            useful += _staa_limits(name, staa, calibration, HEADROOM)
            limits += _staa_limits(name, staa, calibration, HEADROOM_KEPT)
    best = min(*useful, *limits)
    if fixed := [_peak(t, unit) for t in terms if isinstance(t, Synapse) and _fixed(t)]:
        if best * min(fixed) < 1:
            raise UnsupportedOp(
                group[0], "a shortcut of spikes beside currents that dwarf it", supported="a unit per spike",
                way_out=f"{best * min(fixed):.3g} units are left of it: shrink weights and biases beside it",
            )  # fmt: skip
        scales = _representable(best, min(limits), min(fixed), largest)
    elif heard:
        scales = _exact(best, min(limits), heard, plan.time_steps, group)
    else:  # no threshold that wants a scale of its own: the largest weight of the finest layer does
        peak = min((p for p in peaks if p > 0), default=1.0)
        scales = _representable(best, min(limits), peak / 2, largest // 2)
    layers = [(t.weight, unit[t.source]) for t in terms if isinstance(t, Synapse)]
    biases = np.concatenate([plan.biases[name] for name in group])
    return kept(scales, layers, biases, bits) or float(
        next((s for s in scales if s <= best * (1 + 1e-9)), best)
    )


def _fixed(term: Synapse) -> bool:
    """May its weights not be rounded: is it a shortcut of spikes?"""
    return term.exact or term.kind == "gather"


def _staa_limits(name: str, neuron: StaaNeuron, calibration: Calibration, headroom: float) -> list[float]:
    """Scales at which current, bias and membrane of a STAA neuron have headroom in their registers."""
    peaks = (
        (CURRENT_LIMIT, calibration.currents.get(name, 0.0)),
        (CURRENT_LIMIT, float(np.abs(neuron.bias).max())),
        (VOLTAGE_LIMIT >> FRACTION_BITS, calibration.membranes.get(name, 0.0)),
    )
    return [limit / (headroom * max(peak, 1e-30)) for limit, peak in peaks]


def _representable(best: float, limit: float, weight: float, largest: int) -> Array:
    """Scales at which `weight` is m · 2^exponent, from a little above `best` (m at most `largest` below it)
    down to half of it."""
    exponent = max(0, math.ceil(math.log2(best * weight / (largest + 0.5))))
    mantissa = max(1, math.floor(best * weight / 2.0**exponent * (1 + 1e-12)))
    most = max(mantissa, min(math.floor(limit * weight / 2.0**exponent), mantissa + mantissa // 32 + 1))
    return np.asarray(np.arange(most, mantissa // 2, -1) * 2.0**exponent / weight)


def _exact(
    best: float, limit: float, heard: list[tuple[str, Neuron, int]], time_steps: int, group: list[str]
) -> Array:
    """Scales at which the commonest threshold is m + ε, from a little above `best` down to half of it."""
    ratios = Counter(round(neuron.threshold * times / neuron.gain, 9) for _, neuron, times in heard)
    ratio = ratios.most_common(1)[0][0]
    epsilon = half_lattice(time_steps)
    m = math.floor(best * ratio - epsilon)
    if m < 1:
        raise UnsupportedOp(
            group[0], "a layer whose weights dwarf the threshold", supported="thresholds above a weight step",
            way_out=f"the scale {best:.3g} leaves a threshold below 1: shrink its weights or biases",
        )  # fmt: skip
    most = max(m, min(math.floor(limit * ratio - epsilon + 1e-6), m + m // 32 + 1))
    return np.asarray((np.arange(most, m // 2, -1) + epsilon) / ratio)


def half_lattice(time_steps: int) -> float:
    """ε: below the lattice step 1 / 2^(T-1) of the membrane in units of 64."""
    return float(2.0 ** -min(time_steps, EXACT_STEPS))


def _attention_scale(plan: Plan, group: list[str]) -> float:
    (name,) = group if len(group) == 1 else (None,)
    if name is None:
        raise UnsupportedOp(
            group[0], "attention added to another current", supported="attention straight into a neuron",
            way_out="put a LIF behind the attention",
        )  # fmt: skip
    term = plan.terms[name]
    assert isinstance(term, Attention)
    return attention_gain(plan.time_steps) / term.scale


def _listeners(plan: Plan, group: list[str]) -> list[tuple[str, Neuron, int]]:
    """(name, neuron, factor) of the neurons that hear a stream, through a spatial sum `factor` times."""
    members = set(group)
    sums = {name: math.prod(t.kernel) for name, t in plan.terms.items()
            if isinstance(t, Pool) and t.kind == "sum" and members & set(t.terms)}  # fmt: skip
    heard = []
    for name, neuron in plan.neurons.items():
        if members & set(neuron.terms):
            heard.append((name, neuron, 1))
        heard += [(name, neuron, sums[t]) for t in neuron.terms if t in sums]
    return heard


def _peak(term: Synapse, unit: dict[str, float]) -> float:
    return float(np.abs(term.weight).max()) * unit[term.source]


def _biases(plan: Plan, scales: dict[str, float]) -> dict[str, Array]:
    """Every term's bias in whole current units; even ones in a stream whose sum needs exponent 7."""
    biases = _rounded_biases(plan, scales, set())
    wide = {t for n in plan.neurons.values() if _too_wide(_split(biases, n)[0]) for t in n.terms}
    coarse = {name for group in streams(plan) for name in group if wide & {name, *_readers(plan, name)}}
    coarse |= {name for group in streams(plan) if coarse & set(group) for name in group}
    return _rounded_biases(plan, scales, coarse) if coarse else biases


def _rounded_biases(plan: Plan, scales: dict[str, float], even: set[str]) -> dict[str, Array]:
    biases: dict[str, Array] = {}
    for name, term in plan.terms.items():
        if name not in scales:
            continue
        if isinstance(term, Pool):
            times = math.prod(term.kernel) if term.kind == "sum" else 1
            biases[name] = _summed(biases, term.terms) * times
        else:
            grain = 2 if name in even else 1
            biases[name] = np.rint(plan.biases[name] * scales[name] / grain).astype(np.int64) * grain
    return biases


def _summed(biases: dict[str, Array], terms: tuple[str, ...]) -> Array:
    return np.sum([biases[t] for t in terms], axis=0)


def _split(biases: dict[str, Array], neuron: Neuron) -> tuple[Array, Array]:
    """(bias, extra) of a neuron: where a spatial sum's bias outgrows its register, synapses bring most."""
    bias = _summed(biases, neuron.terms)
    extra = np.clip(np.rint(bias / EXTRA_GRAIN) * EXTRA_GRAIN, -EXTRA_MAX, EXTRA_MAX).astype(np.int64)
    if not _too_wide(bias) or neuron.shape[1:] != (1, 1):
        extra = np.zeros_like(bias)
    return bias - extra, extra


def _too_wide(bias: Array) -> bool:
    return bool(bias.min() < BIAS_MANTISSA[0] or bias.max() > BIAS_MANTISSA[1])


def _readers(plan: Plan, name: str) -> list[str]:
    """Spatial sums of a term: their bias is the term's, many times."""
    return [p for p, t in plan.terms.items() if isinstance(t, Pool) and name in t.terms]


def _fire(name: str, neuron: Neuron, plan: Plan, scales: dict[str, float], biases: dict[str, Array]) -> Fire:
    scale = scales[neuron.terms[0]]
    decay = 0 if neuron.tau is None else min(DECAY_MAX, round(4096 / neuron.tau))
    tau = None if neuron.tau is None else 4096 / decay
    gain = neuron.gain if tau is None or neuron.gain == 1.0 else 1 / tau
    threshold, real = _threshold(name, scale / gain * neuron.threshold, plan, neuron)
    (bias, extra), exponent = _split(biases, neuron), 6
    if _too_wide(bias):
        bias, exponent = bias // 2, 7
    return Fire(threshold, decay, bias, exponent, real * gain / scale + neuron.rest, tau, extra)


def _threshold(name: str, wanted: float, plan: Plan, neuron: Neuron) -> tuple[int, float]:
    """(m, S): V > 64·m stands for V ≥ 64·S, S as near to `wanted` as the lattice allows."""
    lattice = 1.0
    terms = [plan.terms[t] for t in neuron.terms]
    whole = all(isinstance(t, Attention) or (isinstance(t, Synapse) and t.kind == "gather") for t in terms)
    if whole and plan.time_steps <= EXACT_STEPS:  # membranes are multiples of 64: S is the next one up
        m = math.ceil(wanted / lattice - 1e-9) - 1
        return m, wanted * (1 - TIE)
    epsilon = half_lattice(plan.time_steps)
    m = round(wanted - epsilon)
    if m < 1 or m > THRESHOLD_MAX:
        raise UnsupportedOp(
            name, f"a threshold of {wanted:.4g} current units", supported=f"1 to {THRESHOLD_MAX}",
            way_out="bring the thresholds of neurons on one stream closer together",
        )  # fmt: skip
    return m, m + epsilon
