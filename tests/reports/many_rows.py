"""Profiles with rows of every kind, so that no branch of the page's evaluator goes without a number."""

from __future__ import annotations

import random
from typing import Any

from snn_energy.energy import Convention
from snn_energy.energy.conventions import CHOICES
from snn_energy.profiling.kinds import KINDS
from snn_energy.profiling.profile import OpRow, Profile

OPS = (
    "conv2d",
    "linear",
    "matmul",
    "lif",
    "norm",
    "max_pool",
    "avg_pool",
    "sum",
    "mul",
    "add",
    "scale",
    "softmax",
)


def any_profile(seed: int, count: int = 90, samples: int = 3, steps: int = 4) -> Profile:
    """`count` rows whose fields are drawn at random, attention pairs among them; measured nowhere."""
    draw = random.Random(seed)
    rows = [OpRow(f"n{i}", "lif", block=f"block.{i}", **_neuron(draw)) for i in range(6)]
    rows += [_row(draw, i) for i in range(count - len(rows) - 4)]
    for first, second in ((_pair(draw, "a0", True)), (_pair(draw, "a1", False))):
        rows += [first, second]
    return Profile(tuple(rows), samples=samples, time_steps=steps, model=f"drawn {seed}", correct=2)


def any_convention(seed: int) -> Convention:
    """A choice of each field at random."""
    draw = random.Random(seed)
    kinds: Any = "two-valued" if draw.random() < 0.3 else tuple(draw.sample(KINDS, draw.randint(0, 5)))
    chosen = {name: draw.choice(list(words)) for name, words in CHOICES.items()}
    return Convention(f"drawn {seed}", **chosen, events_are=kinds)


def _neuron(draw: random.Random) -> dict[str, Any]:
    elements = draw.randint(50, 5000)
    return {
        "neuron_cmp": elements,
        "neuron_add": elements + draw.randint(0, 9),
        "neuron_mul": draw.randint(0, elements),
        "neuron_reset": draw.randint(0, elements),
        "output_elements": elements,
        "output_nonzero": draw.randint(0, elements),
        "output_shape": (draw.randint(1, 40), 3),
        "state_elements": draw.choice((0, 77)),
    }


def _row(draw: random.Random, i: int) -> OpRow:
    """A row of any operation, kind and role; a third of the counts are zero."""

    def some(most: int = 9000) -> int:
        return draw.choice((0, draw.randint(1, most), draw.randint(1, most)))

    op = draw.choice(OPS)
    if op == "lif":
        return OpRow(f"x{i}", op, block="block.7", **_neuron(draw))
    real = draw.random() < 0.3
    elements = some()
    given: dict[str, Any] = {
        name: some() for name in ("dense_macs", "valid_macs", "bias_adds", "bias_elements", "calls",
                                  "scale_muls", "pool_cmp", "special_evals", "weight_elements",
                                  "ac_events_unpruned",
                                  "mac_unpruned", "ac_unpruned", "mac_nonzero_unpruned")
    }  # fmt: skip
    given |= {name: 0 if real else some() for name in ("ac", "ac_executed", "ac_events")}
    given |= {name: some() if real else 0 for name in ("mac", "mac_executed", "mac_nonzero")}
    if op in ("norm",):
        function = draw.choice(("batch_norm", "layer_norm", "group_norm", "instance_norm"))
        given |= {
            "norm_elements": some(),
            "norm_macs": some(),
            "details": {"function": function, "affine": draw.random() < 0.5},
        }
    kind = "real" if real else draw.choice(KINDS)
    return OpRow(
        f"x{i}",
        op,
        site=draw.choice((0, 0, 1)),
        role=draw.choice(("encoder", "hidden", "head", "attention"))
        if op in ("conv2d", "linear")
        else "hidden",
        block=f"block.{i % 5}",
        input_kind=draw.choice((kind, kind, "")),
        right_kind=draw.choice((None, *KINDS)) if op in ("matmul", "mul") else None,
        input_values=draw.choice((None, (1.0,), (0.25,), (1.0, 2.0))),
        right_values=draw.choice((None, (0.5,))),
        two_valued_input=draw.random() < 0.4,
        sources=tuple(draw.sample([f"n{k}" for k in range(6)] + ["input"], draw.randint(0, 3))),
        feeds=(f"n{draw.randint(0, 5)}",),
        input_shape=(draw.randint(1, 30), 5, 2),
        output_shape=(draw.randint(1, 30), 4, 3),
        input_elements=elements,
        input_nonzero=draw.randint(0, elements),
        input_units=some(),
        right_elements=some(),
        right_nonzero=some(),
        right_units=some(),
        output_elements=some(),
        static_repeats=draw.choice((1, 4)),
        ac_square_sum=draw.choice((None, some(10**9))),
        mac_square_sum=draw.choice((None, some(10**9))),
        **given,
    )


def _pair(draw: random.Random, name: str, scores: bool) -> tuple[OpRow, OpRow]:
    """Q Kᵀ and A V (`scores`), or Kᵀ V and Q (Kᵀ V): 7 tokens, 5 channels, 2 heads."""
    tokens, d = 7, 5
    shapes = (((2, tokens, d), (2, tokens, tokens)), ((2, tokens, tokens), (2, tokens, d)))
    if not scores:
        shapes = (((2, d, tokens), (2, d, d)), ((2, tokens, d), (2, tokens, d)))
    rows = []
    for site, (left, out) in enumerate(shapes):
        real = scores and site == 1
        rows.append(
            OpRow(
                name,
                "matmul",
                site,
                role="attention",
                block="block.1",
                input_kind="real" if real else "binary",
                right_kind="real" if site == 1 and not scores else "binary",
                sources=("n1", "n2") if site == 0 else ("n3",),
                feeds=("n4",) if site else (),
                input_shape=left,
                output_shape=out,
                dense_macs=2 * tokens * d * (d if not scores else tokens) * 12,
                input_elements=840,
                input_nonzero=draw.randint(1, 840),
                right_elements=840,
                right_nonzero=draw.randint(1, 840),
                output_elements=840,
                ac=draw.randint(1, 4000),
                ac_events=draw.randint(1, 4000),
            )
        )
    return rows[0], rows[1]
