"""The STAA neuron in plain Python loops over samples, steps, channels and positions: slow and obvious.

Written from the equations in docs/staa.md; shares no code with the package.
"""

from __future__ import annotations

import math

import torch


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def context(maps: list[list[float]], gc: dict[str, torch.Tensor]) -> list[float]:
    """W_v of one sample's maps (C lists of L values)."""
    channels, positions = len(maps), len(maps[0])
    key = gc["key.weight"].flatten().tolist()
    k = [
        sigmoid(sum(key[c] * maps[c][i] for c in range(channels)) + gc["key.bias"].item())
        for i in range(positions)
    ]
    pooled = [sum(maps[c][i] * k[i] for i in range(positions)) for c in range(channels)]
    hidden = affine(pooled, gc["query.weight"], gc["query.bias"])
    mean = sum(hidden) / len(hidden)
    variance = sum((h - mean) ** 2 for h in hidden) / len(hidden)
    normed = [
        (h - mean) / math.sqrt(variance + 1e-5) * g + b
        for h, g, b in zip(hidden, gc["norm.weight"].tolist(), gc["norm.bias"].tolist(), strict=True)
    ]
    return affine([max(h, 0.0) for h in normed], gc["value.weight"], gc["value.bias"])


def affine(x: list[float], weight: torch.Tensor, bias: torch.Tensor) -> list[float]:
    return [
        sum(w * v for w, v in zip(row, x, strict=True)) + b
        for row, b in zip(weight.tolist(), bias.tolist(), strict=True)
    ]


def along_channels(x: list[float], kernel: list[float]) -> list[float]:
    padded = [0.0, *x, 0.0]
    return [sum(kernel[i] * padded[c + i] for i in range(3)) for c in range(len(x))]


def neuron(
    x: torch.Tensor, state: dict[str, torch.Tensor], config: dict, kept: list[bool] | None = None
) -> torch.Tensor:
    """Spikes of currents (T, B, C, H, W); `state` is a STAALIF's state_dict, `config` its fields."""
    steps, batch, channels, *size = x.shape
    positions = math.prod(size)
    gcs = {
        name: {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
        for name in ("gc_in", "gc_state")
    }
    if config["gc_shared"]:
        gcs["gc_state"] = gcs["gc_in"]
    spikes = torch.zeros(steps, batch, channels, positions, dtype=x.dtype)
    m, n = (per_channel(state.get(name, config[name]), channels) for name in ("M", "N"))
    reset = config["v_reset"]
    rest = [0.0 if "M" in state else (1 - m[c]) * reset for c in range(channels)]
    tables = {config["pe_at"]: config["table"]}
    if config["table"] is not None and config["pe_at"] == "both":
        tables = {"input": config["table"][:, :channels], "state": config["table"][:, channels:]}
    for b in range(batch):
        h = [[reset] * positions for _ in range(channels)]
        for t in range(steps):
            keep = kept is None or kept[t]

            def place(
                where: str, maps: list[list[float]], t: int = t, keep: bool = keep
            ) -> list[list[float]]:
                table = tables.get(where)
                if table is None or not keep:
                    return maps
                return [[v + table[t][c].item() for v in row] for c, row in enumerate(maps)]

            def attend(name: str, maps: list[list[float]], keep: bool = keep) -> list[list[float]]:
                if not gcs[name] or not keep:
                    return maps
                added = context(maps, gcs[name])
                return [[v + added[c] for v in row] for c, row in enumerate(maps)]

            current = attend("gc_in", place("input", x[t, b].flatten(1).tolist()))
            state_maps = attend("gc_state", place("state", h))
            u = [
                [n[c] * current[c][i] + m[c] * state_maps[c][i] + rest[c] for i in range(positions)]
                for c in range(channels)
            ]
            v = place("aggregate", u)
            if "sa.conv1.weight" in state and (keep or config["tsrd_drops"] == "aggregation"):
                logits = attention([sum(row) / positions for row in v], state, config)
                v = [[value * sigmoid(logits[c]) for value in row] for c, row in enumerate(v)]
            v = place("output", v)
            for c in range(channels):
                for i in range(positions):
                    fired = v[c][i] >= config["v_threshold"]
                    spikes[t, b, c, i] = float(fired)
                    h[c][i] = reset if fired else v[c][i]
    return spikes.view_as(x)


def per_channel(value: float | torch.Tensor, channels: int) -> list[float]:
    numbers = value.flatten().tolist() if isinstance(value, torch.Tensor) else [value]
    return numbers * channels if len(numbers) == 1 else numbers


def attention(means: list[float], state: dict[str, torch.Tensor], config: dict) -> list[float]:
    """The logits of SA's gate from the means of U."""
    alpha = state["sa.alpha"].item() if "sa.alpha" in state else config["alpha"]
    scaled = [alpha * mean for mean in means]
    if "sa.conv1.bias" in state:
        hidden = affine(scaled, state["sa.conv1.weight"], state["sa.conv1.bias"])
        return affine([max(a, 0.0) for a in hidden], state["sa.conv2.weight"], state["sa.conv2.bias"])
    hidden = along_channels(scaled, state["sa.conv1.weight"].flatten().tolist())
    return along_channels([max(a, 0.0) for a in hidden], state["sa.conv2.weight"].flatten().tolist())
