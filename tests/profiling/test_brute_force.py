"""Counts against plain loops over every synapse, with all dimensions distinct."""

from __future__ import annotations

import brute
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

from snn_energy.profiling import profile

T, B = 4, 3


def spikes(*shape: int, rate: float = 0.4, seed: int = 0) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def only(measured, op: str):
    (row,) = [r for r in measured.rows if r.op == op]
    return row


CONVS = {
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2), (4, 11)),
    "conv2d": (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2), (4, 5, 7)),
    "conv2d-depthwise": (nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False), (4, 5, 6)),
    "conv2d-pointwise": (nn.Conv2d(5, 3, 1, stride=2), (5, 6, 7)),
    "conv2d-same": (nn.Conv2d(2, 3, (5, 3), dilation=(1, 2), padding="same"), (2, 5, 6)),
    "conv2d-valid": (nn.Conv2d(2, 3, (4, 3), padding="valid"), (2, 5, 6)),
    "conv3d": (nn.Conv3d(2, 3, (2, 3, 1), stride=(1, 2, 1), padding=(1, 0, 0)), (2, 3, 5, 4)),
    "conv_transpose1d": (
        nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        (4, 5),
    ),
    "conv_transpose2d": (
        nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), dilation=(2, 1), groups=2),
        (4, 3, 5),
    ),
    "conv_transpose3d": (nn.ConvTranspose3d(2, 3, 2, stride=(1, 2, 1), padding=(0, 1, 1)), (2, 3, 4, 3)),
}


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("values", ["spikes", "real"])
def test_convolutions(name: str, values: str) -> None:
    conv, shape = CONVS[name]
    x = spikes(B, *shape)
    if values == "real":
        x = x * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    row = only(profile(nn.Sequential(conv), [x]), name.split("-")[0])
    out = conv(x).shape[2:]
    walk = brute.transposed_synapses if "transpose" in name else brute.conv_synapses
    axes = len(out)
    padding = conv.padding
    if isinstance(padding, str):
        same = tuple(d * (k - 1) // 2 for k, d in zip(conv.kernel_size, conv.dilation, strict=True))
        padding = same if padding == "same" else (0,) * axes
    arguments = (conv.weight.shape, conv.stride, padding, conv.dilation, conv.groups, out)
    samples = [brute.count(s, walk(shape, *arguments)) for s in x]
    events, valid = [e for e, _ in samples], [v for _, v in samples]
    if values == "spikes":
        assert (row.input_kind, row.ac, row.mac) == ("binary", sum(events), 0)
        assert row.ac_square_sum == brute.squares(events)
    else:
        assert (row.input_kind, row.ac, row.mac, row.mac_nonzero) == ("real", 0, sum(valid), sum(events))
        assert row.mac_square_sum == brute.squares(valid)
    assert row.valid_macs == sum(valid)
    assert row.bias_adds == (B * conv(x)[0].numel() if conv.bias is not None else 0)
    assert row.input_nonzero == int((x != 0).sum())


class Products(nn.Module):
    """One product of activations, written in the way `form` says, on (T, B, heads, tokens, d)."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        left, right = a[..., :5, :], a[..., 5:, :]  # (…, 5, 7), (…, 6, 7)
        flat = left.flatten(0, 2), right.flatten(0, 2).transpose(1, 2)
        return {
            "matmul": lambda: torch.matmul(left, right.mT),
            "@": lambda: left @ right.transpose(-2, -1),
            "method": lambda: left.matmul(right.transpose(-1, -2)),
            "bmm": lambda: torch.bmm(*flat),
            "baddbmm": lambda: torch.baddbmm(torch.zeros(1), *flat),
            "einsum": lambda: torch.einsum("tbhnd,tbhmd->tbhnm", left, right),
            "einsum-dots": lambda: torch.einsum("...nd,...md", left, right),
            "linear": lambda: torch.stack(
                [
                    nn.functional.linear(p, q)
                    for p, q in zip(left.flatten(0, 2), right.flatten(0, 2), strict=True)
                ]
            ),
        }[self.form]()


@pytest.mark.parametrize(
    "form", ["matmul", "@", "method", "bmm", "baddbmm", "einsum", "einsum-dots", "linear"]
)
@pytest.mark.parametrize("kinds", ["events-events", "events-real", "real-events", "real-real"])
def test_matrix_products(form: str, kinds: str) -> None:
    x = spikes(T, B, 2, 11, 7)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    left, right = kinds.split("-")
    if left == "real":
        x[..., :5, :] *= noise[..., :5, :]
    if right == "real":
        x[..., 5:, :] *= noise[..., 5:, :]
    row = only(profile(Products(form), [x], batch_dim=1), "matmul")
    pairs = [
        [brute.products(x[t, b, h, :5], x[t, b, h, 5:].T) for t in range(T) for h in range(2)]
        for b in range(B)
    ]
    total = {name: sum(p[name] for sample in pairs for p in sample) for name in pairs[0][0]}
    assert row.dense_macs == row.valid_macs == total["valid"]
    assert row.ac_coincident == total["coincident"]
    expected = {
        "events-events": ("coincident", None),
        "events-real": ("left", None),
        "real-events": ("right", None),
        "real-real": (None, "valid"),
    }[kinds]
    assert row.ac == (total[expected[0]] if expected[0] else 0)
    assert row.mac == (total[expected[1]] if expected[1] else 0)
    if form in ("matmul", "@", "method", "einsum", "einsum-dots") and expected[0]:
        per_sample = [sum(p[expected[0]] for p in sample) for sample in pairs]
        assert row.ac_square_sum == brute.squares(per_sample)
        per_step = [
            sum(
                brute.products(x[t, b, h, :5], x[t, b, h, 5:].T)[expected[0]]
                for b in range(B)
                for h in range(2)
            )
            for t in range(T)
        ]
        assert list(row.ac_by_step) == per_step


@pytest.mark.parametrize("masked", ["none", "causal", "bool"])
def test_scaled_dot_product_attention(masked: str) -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = x[..., :3], x[..., 3:6], x[..., 6:]
            mask = torch.ones(6, 6).tril(1).bool() if masked == "bool" else None
            return nn.functional.scaled_dot_product_attention(q, k, v, mask, is_causal=masked == "causal")

    x = spikes(B, 2, 6, 10)
    first, second = [r for r in profile(Attention(), [x]).rows if r.op == "matmul"]
    heads = [x[b, h] for b in range(B) for h in range(2)]
    scores = [brute.products(s[:, :3], s[:, 3:6].T) for s in heads]
    assert first.ac == sum(p["coincident"] for p in scores)
    assert first.special_evals == first.scale_muls == len(heads) * 6 * 6
    allowed = torch.ones(6, 6)
    allowed = {"none": allowed, "causal": allowed.tril(), "bool": allowed.tril(1)}[masked]
    weighted = [brute.products(allowed, s[:, 6:]) for s in heads]
    assert second.input_elements == len(heads) * 6 * 6
    assert (second.input_kind, second.right_kind) == ("real", "binary")
    assert second.ac == sum(p["right"] for p in weighted)
    assert second.ac_coincident == sum(p["coincident"] for p in weighted)


class Mixed(nn.Module):
    """Everything elementwise, in one forward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, r = x[:, 0], x[:, 1], x[:, 2]  # spikes, spikes, real: (B, C, H, W)
        mask = a * b
        tokens = mask.sum((-2, -1))
        added = a + b
        onto = r + a
        gated = r * r
        scaled = a * 0.25
        pooled = nn.functional.avg_pool2d(a, (3, 2), stride=(2, 1), padding=(1, 0))
        adaptive = nn.functional.adaptive_avg_pool2d(b, (2, 3))
        highest = nn.functional.max_pool2d(a, 3, 2, 1)
        parts = (tokens, added, onto, gated, scaled, pooled, adaptive, highest, r.mean(1))
        return torch.cat([p.reshape(len(x), -1) for p in parts], 1)


def test_elementwise_operations_and_pooling() -> None:
    x = spikes(B, 3, 2, 5, 7)
    x[:, 2] = torch.randn(B, 2, 5, 7, generator=torch.Generator().manual_seed(3))
    rows = {(r.op, r.site): r for r in profile(Mixed(), [x]).rows}
    a, b = x[:, 0].bool(), x[:, 1].bool()
    n = a.numel()
    assert (rows["mul", 0].ac, rows["mul", 0].mac) == (0, 0)  # spike × spike: an AND
    assert rows["sum", 0].ac == int((a & b).sum())
    assert rows["add", 0].ac == int((a & b).sum())  # two events meet
    assert rows["add", 1].ac == int(a.sum())  # events onto a real tensor
    assert (rows["mul", 1].ac, rows["mul", 1].mac) == (0, n)  # real × real
    assert rows["scale", 0].scale_muls == n
    assert rows["mean", 0].ac == n and rows["mean", 0].scale_muls == B * 5 * 7
    events = comparisons = 0
    for s, c, i, j in torch.stack(torch.meshgrid(*map(torch.arange, (B, 2, 3, 6)), indexing="ij"), -1).view(
        -1, 4
    ):
        for di in range(3):
            for dj in range(2):
                row, column = i * 2 - 1 + di, j + dj
                events += 0 <= row < 5 and a[s, c, row, column].item()
    assert rows["avg_pool", 0].ac == events
    events = sum(
        int(b[..., i * 5 // 2 : -(-(i + 1) * 5 // 2), j * 7 // 3 : -(-(j + 1) * 7 // 3)].sum())
        for i in range(2)
        for j in range(3)
    )
    assert rows["avg_pool", 1].ac == events
    for i in range(3):
        for j in range(4):
            taken = [(p, q) for p in range(2 * i - 1, 2 * i + 2) for q in range(2 * j - 1, 2 * j + 2)]
            comparisons += sum(0 <= p < 5 and 0 <= q < 7 for p, q in taken) - 1
    assert rows["max_pool", 0].pool_cmp == B * 2 * comparisons


class Small(nn.Module):
    """Convolutions, norms folded and not, neurons, pooling, a shared module, tuple outputs, a head."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.conv1 = layer.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=1, bias=False)
        self.norm1 = layer.BatchNorm2d(4)
        self.lif1 = neuron.LIFNode(v_threshold=0.3)
        self.pool = layer.MaxPool2d(2)
        self.shared = layer.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.alias = self.shared
        self.lif2 = neuron.IFNode(v_threshold=0.4)
        self.late = layer.BatchNorm2d(4)
        self.head = layer.Linear(4, 5)
        self.never = nn.Linear(2, 2)
        for module in self.modules():
            if hasattr(module, "step_mode"):
                module.step_mode = mode

    def branch(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.shared(x), self.alias(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.lif1(self.norm1(self.conv1(x))))
        a, b = self.branch(x)
        x = self.late(a + b)
        return self.head(self.lif2(x).flatten(-2).mean(-1))


class Looped(nn.Module):
    """The same network, called step by step."""

    def __init__(self, inner: Small) -> None:
        super().__init__()
        self.inner, self.T = inner, T

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.inner(step) for step in x])


def small_input() -> torch.Tensor:
    return torch.randn(T, B, 3, 6, 8, generator=torch.Generator().manual_seed(5))


def captured(model: nn.Module, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """The inputs of every layer with weights, by hooks of the test's own."""
    from spikingjelly.activation_based import functional

    seen: dict[str, list[torch.Tensor]] = {}
    handles = [
        m.register_forward_pre_hook(lambda _, args, name=n: seen.setdefault(name, []).append(args[0]))
        for n, m in model.named_modules()
        if isinstance(m, (nn.Conv2d, nn.Linear))
    ]
    functional.reset_net(model)
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    functional.reset_net(model)
    return {
        n: [p.flatten(0, 1) if s.dim() > 4 else p for p in [s]]
        for n, calls in seen.items()
        for s in [torch.cat(calls)]
    }


@pytest.mark.parametrize("mode", ["m", "s"])
def test_small_network_event_by_event(mode: str) -> None:
    torch.manual_seed(7)
    net = Small(mode).eval()
    nn.init.constant_(net.norm1.bias, 0.2)
    nn.init.constant_(net.late.bias, 0.15)
    model, x = (Looped(net), small_input()) if mode == "s" else (net, small_input())
    measured = profile(model, [x], batch_dim=1)
    prefix = "inner." if mode == "s" else ""
    rows = {(r.name.removeprefix("inner."), r.op): r for r in measured.rows}
    inputs = {n.removeprefix("inner."): v for n, v in captured(model, x).items()}
    for name, conv in (("conv1", net.conv1), ("shared", net.shared)):
        (frames,) = inputs[name]
        out = nn.functional.conv2d(
            frames, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups
        ).shape[2:]
        arguments = (conv.weight.shape, conv.stride, conv.padding, conv.dilation, conv.groups, out)
        counts = [brute.count(f, brute.conv_synapses(f.shape, *arguments)) for f in frames]
        row = rows[name, "conv2d"]
        events, valid = sum(e for e, _ in counts), sum(v for _, v in counts)
        if name == "conv1":
            assert (row.mac, row.mac_nonzero, row.static_repeats, row.role) == (valid, events, 1, "encoder")
        else:
            assert 0 < row.ac == events < valid
            assert row.calls == 2 * B * (T if mode == "s" else 1)
            assert sum(row.ac_by_step) == row.ac and len(row.ac_by_step) == T
    (features,) = inputs["head"]
    head = rows["head", "linear"]
    unit = features[features > 0].min()  # means of spikes over few positions: whole multiples of one
    assert head.input_kind == "integer" and head.mac == 0 and head.role == "head"
    assert head.ac == head.input_units * 5 == round(float((features.double() / unit).round().sum())) * 5
    assert head.ac_events == head.input_nonzero * 5 == int((features != 0).sum()) * 5 < head.ac
    assert rows["norm1", "norm"].norm_folded and rows["norm1", "norm"].norm_macs == 0
    late = rows["late", "norm"]
    assert not late.norm_folded and late.norm_macs == late.norm_elements > 0
    assert rows["shared", "conv2d"].feeds == (f"{prefix}lif2",)
    lif = rows["lif1", "lif"]
    assert lif.neuron_mul == lif.neuron_add == lif.neuron_cmp == lif.output_elements
    assert lif.neuron_reset == lif.output_nonzero > 0 and rows["lif2", "if"].neuron_mul == 0
    assert measured.aliases == {f"{prefix}alias": f"{prefix}shared"}
    assert f"{prefix}never" in measured.uncalled
    assert measured.time_steps == T and measured.samples == B


def test_single_and_multi_step_count_the_same() -> None:
    torch.manual_seed(7)
    net = Small("m").eval()
    nn.init.constant_(net.norm1.bias, 0.2)
    nn.init.constant_(net.late.bias, 0.15)
    stepwise = Small("s").eval()
    stepwise.load_state_dict(net.state_dict())
    a = profile(net, [small_input()], batch_dim=1)
    b = profile(Looped(stepwise), [small_input()], batch_dim=1)
    fields = (
        "ac",
        "mac",
        "ac_by_step",
        "ac_square_sum",
        "mac_square_sum",
        "input_nonzero_by_step",
        "neuron_add",
    )
    mine = {(r.name, r.op, r.site): [getattr(r, f) for f in fields] for r in a.rows}
    other = {(r.name[len("inner.") :], r.op, r.site): [getattr(r, f) for f in fields] for r in b.rows}
    assert mine == other
    c = profile(stepwise, [small_input()], time_steps=T, batch_dim=1)  # the loop is ours
    assert {(r.name, r.op, r.site): [getattr(r, f) for f in fields] for r in c.rows} == mine
