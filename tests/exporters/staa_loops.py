"""The integer STAA neuron in plain loops over Python's unbounded integers: slow and obvious.

Written from the equations in docs/neuromorphic.md; shares no code with the package.
"""

from __future__ import annotations

import itertools
import math

LIMIT = 2**23 - 1


def nearest(x: int, bits: int) -> int:
    """x / 2**bits, halves up."""
    return (2 * x + 2**bits) // (2 * 2**bits)


def clip(x: int) -> int:
    return max(-LIMIT, min(LIMIT, x))


def table(i: int) -> int:
    return 65536 if i > 192 else round(65536 / (1 + math.exp(-i / 16)))


def sigmoid(logit: int) -> int:
    size = min(abs(logit), 12 * 4096)
    i, rest = divmod(size, 256)
    value = table(i) + nearest((table(i + 1) - table(i)) * rest, 8)
    return 65536 - value if logit < 0 else value


def context(maps: list[list[int]], gate: dict) -> list[list[int]]:
    """C lists of L membranes -> the same with GC's context added."""
    if not gate:
        return maps
    channels, positions = range(len(maps)), range(len(maps[0]))
    attention = []
    for i in positions:
        logit = sum(int(gate["key"][c]) * maps[c][i] for c in channels) + int(gate["key_bias"])
        attention.append(sigmoid(nearest(logit, int(gate["key_shift"]))))
    pooled = [nearest(sum(maps[c][i] * attention[i] for i in positions), 16) for c in channels]
    hidden = [
        sum(int(w) * v for w, v in zip(row, pooled, strict=True)) + int(b)
        for row, b in zip(gate["query"], gate["query_bias"], strict=True)
    ]
    block = max(0, max(abs(h).bit_length() for h in hidden) - 24)
    hidden = [h >> block for h in hidden]
    mean = sum(hidden) // len(hidden)
    centred = [h - mean for h in hidden]
    variance = sum(d * d for d in centred) // len(hidden) + (int(gate["epsilon"]) >> block) ** 2
    deviation = max(1, math.isqrt(variance))
    normed = []
    for d, weight, bias in zip(centred, gate["norm_weight"], gate["norm_bias"], strict=True):
        normed.append(max(0, nearest(d * 65536 // deviation * int(weight) + int(bias), 12)))
    added = [
        nearest(sum(int(w) * v for w, v in zip(row, normed, strict=True)) + int(b), int(gate["value_shift"]))
        for row, b in zip(gate["value"], gate["value_bias"], strict=True)
    ]
    return [[clip(v + added[c]) for v in maps[c]] for c in channels]


def along(values: list[int], kernel) -> list[int]:
    padded = [0, *values, 0]
    return [sum(int(kernel[i]) * padded[c + i] for i in range(3)) for c in range(len(values))]


def attend(maps: list[list[int]], gate: dict) -> list[list[int]]:
    if not gate:
        return maps
    hidden = [max(0, nearest(v, int(gate["shift1"]))) for v in along([sum(m) for m in maps], gate["conv1"])]
    weight = [sigmoid(nearest(v, int(gate["shift2"]))) for v in along(hidden, gate["conv2"])]
    return [[nearest(v * w, 16) for v in m] for m, w in zip(maps, weight, strict=True)]


def membranes(node, current):
    """V (T, C, H, W) as nested loops leave it, for integer currents (T, C, H, W), and spikes."""
    steps, channels, height, width = current.shape
    h = [[0] * (height * width) for _ in range(channels)]
    v_all, s_all = current * 0, current * 0

    def encoded(place, maps, t):
        if node.position_at != place:
            return maps
        return [[clip(v + int(node.position[t][c])) for v in m] for c, m in enumerate(maps)]

    for t in range(steps):
        x = []
        for c in range(channels):
            flat = current[t, c].ravel().tolist()
            x.append([clip(64 * (a + int(node.bias[c, 0, 0]))) for a in flat])
        x = context(encoded("input", x, t), node.context_in)
        state = context(encoded("state", h, t), node.context_state)
        u = [
            [clip(nearest(a * node.gain, 16) + nearest(b * node.keep, 16)) for a, b in zip(m, s, strict=True)]
            for m, s in zip(x, state, strict=True)
        ]
        v = encoded("output", attend(encoded("aggregate", u, t), node.attention), t)
        for c, (i, j) in itertools.product(range(channels), itertools.product(range(height), range(width))):
            value = v[c][i * width + j]
            fired = value >= node.threshold
            v_all[t, c, i, j], s_all[t, c, i, j] = value, fired
            h[c][i * width + j] = 0 if fired else value
    return v_all, s_all
