"""Functions that hold several products, against the same arithmetic written out in plain modules."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from snn_energy.errors import UncountedError
from snn_energy.profiling import Profile, profile

B, L, F_IN, H = 3, 5, 6, 4


def spikes(*shape: int) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.4).float()


def totals(measured: Profile, *ops: str) -> Counter:
    rows = [row for row in measured.rows if row.op in ops]
    names = ("ac", "mac", "dense_macs", "bias_adds", "mac_nonzero")
    return Counter({name: sum(getattr(row, name) for row in rows) for name in names})


class WrittenOut(nn.Module):
    """nn.MultiheadAttention with batch_first, as linear layers and matmuls."""

    def __init__(self, fused: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = fused.num_heads
        self.q, self.k, self.v = (nn.Linear(w.shape[1], w.shape[0]) for w in fused.in_proj_weight.chunk(3))
        layers = zip(
            (self.q, self.k, self.v), fused.in_proj_weight.chunk(3), fused.in_proj_bias.chunk(3), strict=True
        )
        for layer, weight, bias in layers:
            layer.weight, layer.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        self.out = fused.out_proj

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        weights = ((q @ k.mT) / q.shape[-1] ** 0.5).softmax(-1)
        return nn.functional.linear((weights @ v).transpose(1, 2).flatten(2), self.out.weight, self.out.bias)


class Own(nn.Module):
    """Self-attention of one input."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(F_IN, 2, batch_first=True, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x)[0]


@pytest.mark.parametrize("events", [True, False])
def test_multi_head_attention_is_its_parts(events: bool) -> None:
    torch.manual_seed(0)
    fused, x = Own().eval(), spikes(B, L, F_IN) if events else torch.randn(B, L, F_IN)
    plain = WrittenOut(fused.attention).eval()
    with torch.no_grad():
        assert torch.allclose(fused(x), plain(x), atol=1e-6)
    measured, expected = profile(fused, [x], strict=True), profile(plain, [x], strict=True)
    assert totals(measured, "linear") == totals(expected, "linear")
    assert totals(measured, "matmul") == totals(expected, "matmul")
    assert sum(r.special_evals for r in measured.rows) == sum(r.special_evals for r in expected.rows) > 0
    assert measured.uncalled == ()
    assert (totals(measured, "linear")["ac"] > 0) == events
    assert all(row.ac_square_sum is not None for row in measured.rows)


def test_masks_leave_pairs_out_of_the_nonzero_count_only() -> None:
    torch.manual_seed(0)

    class Masked(Own):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            later = torch.ones(L, L, dtype=torch.bool).triu(1)
            padding = torch.zeros(len(x), L, dtype=torch.bool)
            padding[:, -1] = True
            return self.attention(x, x, x, attn_mask=later, key_padding_mask=padding)[0]

    measured = profile(Masked(), [torch.randn(B, L, F_IN)], strict=True)
    scores, values = (row for row in measured.rows if row.op == "matmul")
    assert scores.mac == values.mac == B * L * L * F_IN
    allowed = sum(min(i + 1, L - 1) for i in range(L))
    assert scores.mac_nonzero == B * L * L * F_IN and values.mac_nonzero == B * allowed * F_IN


def test_keys_of_another_width_and_options_without_a_rule() -> None:
    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(F_IN, 3, kdim=2, vdim=5, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, L, F) taken as (L, B, F): tokens first
            q = x.transpose(0, 1)
            return self.attention(q, q[..., :2], q[..., :5])[0].transpose(0, 1)

    measured = profile(Cross(), [spikes(B, L, F_IN)], strict=True)
    assert totals(measured, "linear")["dense_macs"] == B * L * F_IN * (F_IN + 2 + 5 + F_IN)
    with pytest.raises(UncountedError, match="add_zero_attn"):
        profile(Own(add_zero_attn=True), [torch.randn(B, L, F_IN)], strict=True)


class Unrolled(nn.Module):
    """A recurrent layer stepped through with its cell, layer by layer, direction by direction."""

    def __init__(self, fused: nn.RNNBase, cell: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.fused_hidden, self.cells = fused.hidden_size, nn.ModuleList()
        for layer in range(fused.num_layers):
            ways = nn.ModuleList()
            for suffix in ("", "_reverse")[: 2 if fused.bidirectional else 1]:
                wide = getattr(fused, f"weight_ih_l{layer}{suffix}").shape[1]
                ways.append(cell(wide, fused.hidden_size))
                for name, value in ways[-1].named_parameters():
                    value.data.copy_(getattr(fused, f"{name}_l{layer}{suffix}").data)
            self.cells.append(ways)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, L, F)
        for ways in self.cells:
            x = torch.cat([self.run(cell, x, way == 1) for way, cell in enumerate(ways)], -1)
        return x

    def run(self, cell: nn.RNNCellBase, x: torch.Tensor, backwards: bool) -> torch.Tensor:
        h, outs = None, []
        for t in reversed(range(L)) if backwards else range(L):
            h = cell(x[:, t], h)
            outs.append(h[0] if isinstance(h, tuple) else h)
        return torch.stack(outs[::-1] if backwards else outs, 1)


class First(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


@pytest.mark.parametrize(
    ("fused", "cell"), [(nn.LSTM, nn.LSTMCell), (nn.GRU, nn.GRUCell), (nn.RNN, nn.RNNCell)]
)
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, True)])
def test_recurrent_layers_are_their_cells(fused: type, cell: type, layers: int, both: bool) -> None:
    torch.manual_seed(0)
    layer, x = fused(F_IN, H, num_layers=layers, bidirectional=both, batch_first=True), spikes(B, L, F_IN)
    unrolled = Unrolled(layer, cell)
    with torch.no_grad():
        assert torch.allclose(layer(x)[0], unrolled(x), atol=1e-6)
    measured = profile(First(layer), [x], strict=True)
    expected = profile(unrolled, [x], strict=True)
    for op in ("linear", "mul", "add", "special"):
        assert totals(measured, op) == totals(expected, op)
    assert sum(r.special_evals for r in measured.rows) == sum(r.special_evals for r in expected.rows) > 0
    first = next(r for r in measured.rows if r.op == "linear")
    gates = layer.weight_ih_l0.shape[0]
    assert first.input_kind == "binary" and first.ac == int(x.sum()) * gates
    assert first.ac_square_sum == sum((int(sample.sum()) * gates) ** 2 for sample in x)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_tokens_first_counts_the_same_and_packed_sequences_are_named() -> None:
    torch.manual_seed(0)
    layer, x = nn.GRU(F_IN, H, batch_first=True), spikes(B, L, F_IN)

    class TokensFirst(First):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.transpose(0, 1))[0].transpose(0, 1)

    other = nn.GRU(F_IN, H)
    other.load_state_dict(layer.state_dict())
    a, b = profile(First(layer), [x]), profile(TokensFirst(other), [x])
    assert [(r.op, r.ac, r.mac, r.counts) for r in a.rows] == [(r.op, r.ac, r.mac, r.counts) for r in b.rows]

    class Packed(First):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, [L] * len(x), batch_first=True)
            return self.layer(packed)[0].data

    assert any("packed" in row.note for row in profile(Packed(layer), [x]).uncounted)
    projected = First(nn.LSTM(F_IN, H, proj_size=2, batch_first=True))
    assert [row.note for row in profile(projected, [x]).uncounted] == ["lstm with proj_size"]


def test_bilinear_is_two_products() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Bilinear(2, 4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x[..., :2], x[..., 2:])

    x = spikes(B, 6)
    first, second = (r for r in profile(Two(), [x], strict=True).rows if r.op == "matmul")
    assert first.ac == sum(int(v) * 4 * 5 for v in x[:, :2].flatten())
    assert second.ac == sum(int(v) * 5 for v in x[:, 2:].flatten())
    assert second.bias_adds == B * 5 and first.dense_macs == B * 2 * 4 * 5


def test_an_embedding_is_a_lookup() -> None:
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 3))
    measured = profile(model, [torch.tensor([[1, 2], [0, 6]])], strict=True)
    (row,) = (r for r in measured.rows if r.op == "linear")
    assert row.mac == 2 * 2 * 4 * 3 and row.input_kind == "real"
