"""The STAA neuron in whole numbers: the one definition, of the simulator and of the Lava Process alike.

The Lava package carries this file as it is, so it needs nothing but Python 3.10 and an array namespace `xp`
(NumPy, or any that follows the array API standard).  All arrays are int64; `check` proves for every neuron
that no sum can leave them.  With currents a, membranes in 1/64 of a current's unit, and at step t

    X = GC_in(64·(a + bias) + P[t])        V = SA(N·X + M·GC_state(H))
    S = [V ≥ threshold]                    H ← 0 where S, else V

(P[t] stands where `position_at` says.)  Membranes saturate at 24 bits, as a LIF's do.  Fraction bits:

    gates, M, N, LN     16   (65536 is 1)
    logits              12   before a sigmoid: a table of σ at 0, 1/16 … 12, interpolated; 1 beyond
    LN weight and bias  12, 28
    weights             as many as their own `shift` says: the lowering fills 16 bits

Products are shifted right with halves rounded up.  LN takes a block exponent per sample, so that its largest
input has 24 bits; its mean, variance, root and quotient are rounded down.
"""

from decimal import Decimal, localcontext
from functools import lru_cache

FRACTION_BITS = 6
MEMBRANE_MAX = (1 << 23) - 1
ONE_BITS, LOGIT_BITS, NORM_BITS, BLOCK_BITS = 16, 12, 12, 24
ONE = 1 << ONE_BITS
TABLE_BITS, TABLE_END = 4, 12  # σ at multiples of 1/16 up to 12, where it rounds to 1


def run(registers, current, xp):
    """(B, T, C, H, W) currents -> V of the same shape; S is V ≥ threshold."""
    h = xp.zeros((current.shape[0], *current.shape[2:]), dtype=xp.int64)
    charged = xp.zeros(current.shape, dtype=xp.int64)
    for t in range(current.shape[1]):
        v, h = step(registers, current[:, t, ...], h, t, xp)
        charged[:, t, ...] = v
    return charged


def step(registers, current, h, t, xp):
    """Step t of a sample: (its current, H before it) -> (V, H after it), all (B, C, H, W) int64."""

    def encoded(place, x):
        if registers["position_at"] != place:
            return x
        return saturated(x + constant(registers["position"][t], xp)[None, :, None, None], xp)

    x = saturated((current + constant(registers["bias"], xp)) << FRACTION_BITS, xp)
    x = context(encoded("input", x), registers["context_in"], xp)
    state = context(encoded("state", h), registers["context_state"], xp)
    u = rounded(x * int(registers["gain"]), ONE_BITS) + rounded(state * int(registers["keep"]), ONE_BITS)
    u = encoded("aggregate", saturated(u, xp))
    v = encoded("output", attended(u, registers["attention"], xp))
    return v, xp.where(v >= int(registers["threshold"]), xp.zeros_like(v), v)


def context(x, gate, xp):
    """GC: X ⊕ value(ReLU(LN(query(X·sigmoid(key(X)))))); X itself without `gate`."""
    if not gate:
        return x
    key = constant(gate["key"], xp)[None, :, None, None]
    logits = rounded(xp.sum(x * key, axis=1) + int(gate["key_bias"]), int(gate["key_shift"]))
    weight = sigmoid(logits, xp)
    pooled = rounded(xp.sum(x * weight[:, None, :, :], axis=(2, 3)), ONE_BITS)
    hidden = xp.matmul(pooled, constant(gate["query"], xp).T) + constant(gate["query_bias"], xp)[None, :]
    hidden = normalised(hidden, gate, xp)
    value = xp.matmul(hidden, constant(gate["value"], xp).T) + constant(gate["value_bias"], xp)[None, :]
    return saturated(x + rounded(value, int(gate["value_shift"]))[:, :, None, None], xp)


def normalised(hidden, gate, xp):
    """ReLU(LN(hidden)) over the last axis, (B, R)."""
    largest = xp.max(xp.abs(hidden), axis=1, keepdims=True)
    exponent = xp.zeros_like(largest)
    for bits in range(BLOCK_BITS, 63):
        exponent = exponent + xp.asarray(largest >= (1 << bits), dtype=xp.int64)
    hidden = hidden >> exponent
    centred = hidden - xp.sum(hidden, axis=1, keepdims=True) // hidden.shape[1]
    epsilon = constant(gate["epsilon"], xp) >> exponent
    variance = xp.sum(centred * centred, axis=1, keepdims=True) // hidden.shape[1] + epsilon * epsilon
    deviation = square_root(variance, xp)
    deviation = xp.where(deviation < 1, xp.ones_like(deviation), deviation)
    scaled = ((centred << ONE_BITS) // deviation) * constant(gate["norm_weight"], xp)[None, :]
    scaled = rounded(scaled + constant(gate["norm_bias"], xp)[None, :], NORM_BITS)
    return positive(scaled, xp)


def attended(u, gate, xp):
    """SA: U ⊙ sigmoid(conv2(ReLU(conv1(sum of U over space)))); U itself without `gate`."""
    if not gate:
        return u
    pooled = xp.sum(u, axis=(2, 3))
    hidden = positive(rounded(neighbours(pooled, gate["conv1"]), int(gate["shift1"])), xp)
    weight = sigmoid(rounded(neighbours(hidden, gate["conv2"]), int(gate["shift2"])), xp)
    return rounded(u * weight[:, :, None, None], ONE_BITS)


def neighbours(x, weight):
    """Cross-correlation along the last axis, kernel 3, zeros outside: (B, C) -> (B, C)."""
    left, middle, right = (int(w) for w in weight)
    out = x * middle
    out[:, 1:] = out[:, 1:] + x[:, :-1] * left
    out[:, :-1] = out[:, :-1] + x[:, 1:] * right
    return out


def sigmoid(logits, xp):
    """σ with 16 fraction bits of logits with 12: linear between the entries of the table."""
    fraction_bits = LOGIT_BITS - TABLE_BITS
    table = xp.asarray(sigmoid_table(), dtype=xp.int64)
    size = xp.clip(xp.abs(logits), 0, TABLE_END << LOGIT_BITS)
    index, fraction = size >> fraction_bits, size & ((1 << fraction_bits) - 1)
    flat = xp.reshape(index, (-1,))
    low, high = (xp.reshape(xp.take(table, flat + i, axis=0), index.shape) for i in (0, 1))
    upper = low + rounded((high - low) * fraction, fraction_bits)
    return xp.where(logits < 0, ONE - upper, upper)


@lru_cache(maxsize=1)
def sigmoid_table():
    """round(65536·σ(i / 16)) for i = 0 … 192, and 1 behind it; in decimal, so the same everywhere."""
    with localcontext() as decimals:
        decimals.prec = 30
        sixteenths = [Decimal(i) / (1 << TABLE_BITS) for i in range((TABLE_END << TABLE_BITS) + 1)]
        return (*(int((ONE / (1 + (-x).exp())).to_integral_value()) for x in sixteenths), ONE)


def square_root(x, xp):
    """⌊√x⌋ of int64 below 2⁶²: the float64 root is off by one at most."""
    root = xp.asarray(xp.sqrt(xp.asarray(x, dtype=xp.float64)), dtype=xp.int64)
    root = xp.where(root * root > x, root - 1, root)
    return xp.where((root + 1) * (root + 1) <= x, root + 1, root)


def rounded(x, shift):
    """x / 2**shift to the nearest whole number, halves up."""
    return (x + ((1 << shift) >> 1)) >> shift


def saturated(x, xp):
    """What a 24-bit membrane keeps."""
    return xp.clip(x, -MEMBRANE_MAX, MEMBRANE_MAX)


def positive(x, xp):
    return xp.where(x < 0, xp.zeros_like(x), x)


def constant(array, xp):
    return xp.asarray(array, dtype=xp.int64)
