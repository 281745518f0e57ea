"""NIR graphs run by plain numpy loops in float64: Euler steps as the equations stand, one sample at a time.

Nothing of the package is used.  `graph` is a `nir.NIRGraph` without graphs in it; `late` names its edges that
arrive a step later.  `Run.margin` is how far any membrane ever was from its threshold: where it is not tiny,
float32 must fire the same spikes, whatever the order of its sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Run:
    """Every node's output over T steps for one sample: `out[name]` is (T, …)."""

    def __init__(self, graph: Any, x: np.ndarray, dt: float, late: tuple[tuple[str, str], ...] = ()) -> None:
        self.graph, self.dt, self.late = graph, dt, late
        self.state: dict[str, Any] = {}
        self.margin = np.inf
        outs: list[dict[str, np.ndarray]] = []
        for t in range(len(x)):
            now: dict[str, np.ndarray] = {}
            before = outs[-1] if outs else None
            while len(now) < len(graph.nodes):
                for name, node in graph.nodes.items():
                    feeds = [(a, (a, b) in late) for a, b in graph.edges if b == name]
                    if name in now or any(a not in now for a, waits in feeds if not waits):
                        continue
                    total = np.asarray(x[t], np.float64) if type(node).__name__ == "Input" else 0.0
                    for a, waits in feeds:
                        if waits:
                            total = total + (before[a] if before is not None else 0.0)
                        else:
                            total = total + now[a]
                    now[name] = self.step(name, node, total)
            outs.append(now)
        self.out = {name: np.stack([now[name] for now in outs]) for name in graph.nodes}

    def step(self, name: str, node: Any, x: Any) -> np.ndarray:
        kind = type(node).__name__
        if kind in ("Input", "Output"):
            return np.asarray(x)
        return getattr(self, f"_{kind.lower()}")(name, node, x)

    # ------------------------------------------------------------------------------------------- membranes

    def _fired(self, name: str, node: Any, v: np.ndarray) -> np.ndarray:
        spikes = np.zeros(v.shape)
        threshold, reset = (np.broadcast_to(a, v.shape) for a in (node.v_threshold, node.v_reset))
        for at in np.ndindex(v.shape):
            self.margin = min(self.margin, abs(v[at] - threshold[at]))
            if v[at] > threshold[at]:
                spikes[at] = 1.0
                v[at] = reset[at]
        self.state[name] = v
        return spikes

    def _start(self, name: str, value: Any, x: Any) -> np.ndarray:
        shape = np.broadcast_shapes(np.shape(value), np.shape(x))
        return self.state.get(name, np.broadcast_to(np.asarray(value, np.float64), shape)).copy()

    def _if(self, name: str, node: Any, x: Any) -> np.ndarray:
        v = self._start(name, node.v_reset, x)
        return self._fired(name, node, v + self.dt * f64(node.r) * x)

    def _lif(self, name: str, node: Any, x: Any) -> np.ndarray:
        v = self._start(name, node.v_reset, x)
        dv = ((f64(node.v_leak) - v) + f64(node.r) * x) / f64(node.tau)
        return self._fired(name, node, v + self.dt * dv)

    def _cubalif(self, name: str, node: Any, x: Any) -> np.ndarray:
        i = self._start(f"{name}.i", 0.0, np.zeros(np.shape(node.v_threshold)) + x)
        v = self._start(name, node.v_reset, x)
        i = i + self.dt * (-i + f64(node.w_in) * x) / f64(node.tau_syn)
        self.state[f"{name}.i"] = i
        v = v + self.dt * ((f64(node.v_leak) - v) + f64(node.r) * i) / f64(node.tau_mem)
        return self._fired(name, node, v)

    def _i(self, name: str, node: Any, x: Any) -> np.ndarray:
        v = self._start(name, np.zeros(np.shape(node.r)), x)
        self.state[name] = v + self.dt * f64(node.r) * x
        return self.state[name]

    def _li(self, name: str, node: Any, x: Any) -> np.ndarray:
        v = self._start(name, node.v_leak, x)
        self.state[name] = v + self.dt * ((f64(node.v_leak) - v) + f64(node.r) * x) / f64(node.tau)
        return self.state[name]

    def _cubali(self, name: str, node: Any, x: Any) -> np.ndarray:
        i = self._start(f"{name}.i", 0.0, np.zeros(np.shape(node.v_leak)) + x)
        v = self._start(name, node.v_leak, x)
        i = i + self.dt * (-i + f64(node.w_in) * x) / f64(node.tau_syn)
        self.state[f"{name}.i"] = i
        self.state[name] = v + self.dt * ((f64(node.v_leak) - v) + f64(node.r) * i) / f64(node.tau_mem)
        return self.state[name]

    # ---------------------------------------------------------------------------------------------- layers

    def _linear(self, name: str, node: Any, x: Any) -> np.ndarray:
        weight = f64(node.weight)
        x = np.zeros(weight.shape[1]) + np.ravel(x)  # nothing has arrived: one 0
        return np.array([sum(w * v for w, v in zip(row, x, strict=True)) for row in weight])

    def _affine(self, name: str, node: Any, x: Any) -> np.ndarray:
        return self._linear(name, node, x) + f64(node.bias)

    def _scale(self, name: str, node: Any, x: Any) -> np.ndarray:
        return x * f64(node.scale)

    def _threshold(self, name: str, node: Any, x: Any) -> np.ndarray:
        return (x > f64(node.threshold)).astype(np.float64)

    def _flatten(self, name: str, node: Any, x: Any) -> np.ndarray:
        end = int(node.end_dim) % x.ndim
        return x.reshape(*x.shape[: int(node.start_dim)], -1, *x.shape[end + 1 :])

    def _delay(self, name: str, node: Any, x: Any) -> np.ndarray:
        past = self.state.setdefault(name, [])
        past.append(np.asarray(x) + np.zeros(np.shape(node.delay)))
        out = np.zeros(past[-1].shape)
        steps = np.broadcast_to(np.rint(f64(node.delay) / self.dt).astype(int), out.shape)
        for at in np.ndindex(out.shape):
            if steps[at] < len(past):
                out[at] = past[-1 - steps[at]][at]
        return out

    def _conv1d(self, name: str, node: Any, x: Any) -> np.ndarray:
        weight = f64(node.weight)[:, :, None]
        pads = same_padding(node, 1) or (0, int(node.padding))
        return conv(x[:, None], weight, f64(node.bias), (1, int(node.stride)), pads, (1, int(node.dilation)),
                    int(node.groups))[:, 0]  # fmt: skip

    def _conv2d(self, name: str, node: Any, x: Any) -> np.ndarray:
        pads = same_padding(node, 2) or pair(node.padding)
        return conv(x, f64(node.weight), f64(node.bias), pair(node.stride), pads, pair(node.dilation),
                    int(node.groups))  # fmt: skip

    def _sumpool2d(self, name: str, node: Any, x: Any) -> np.ndarray:
        ones = np.ones((x.shape[0], 1, *pair(node.kernel_size)))
        return conv(x, ones, np.zeros(len(x)), pair(node.stride), pair(node.padding), (1, 1), len(x))

    def _avgpool2d(self, name: str, node: Any, x: Any) -> np.ndarray:
        return self._sumpool2d(name, node, x) / np.prod(pair(node.kernel_size))


def f64(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)


def pair(value: Any) -> tuple[int, int]:
    a, b = np.broadcast_to(np.asarray(value), (2,))
    return int(a), int(b)


def same_padding(node: Any, axes: int) -> tuple[int, int] | None:
    """What "same" and "valid" mean for odd kernels and a stride of 1."""
    if not isinstance(node.padding, str):
        return None
    if node.padding == "valid":
        return 0, 0
    reach = [
        int(d) * (k - 1) // 2
        for d, k in zip(np.broadcast_to(node.dilation, (axes,)), node.weight.shape[2:], strict=False)
    ]
    return tuple(([0, *reach])[-2:])


def conv(x, weight, bias, stride, padding, dilation, groups) -> np.ndarray:
    """(C, H, W) -> (O, H', W'), every product of it by itself."""
    outputs, per_group, kh, kw = weight.shape
    x = np.pad(x, [(0, 0), *((p, p) for p in padding)])
    sizes = [
        (n - d * (k - 1) - 1) // s + 1
        for n, d, k, s in zip(x.shape[1:], dilation, (kh, kw), stride, strict=False)
    ]
    out = np.zeros((outputs, *sizes))
    for o, i, j in np.ndindex(out.shape):
        first = o // (outputs // groups) * per_group
        total = bias[o]
        for c, a, b in np.ndindex(per_group, kh, kw):
            total += (
                weight[o, c, a, b]
                * x[first + c, i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1]]
            )
        out[o, i, j] = total
    return out
