"""What no rule counts is a row `uncounted`, whatever way it came about: nothing costs 0 pJ in silence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import get_testing_overrides

from snn_energy.profiling import profile
from snn_energy.profiling.operations import ASIDE, MAKES, OPERATIONS, TAKES_OUT
from snn_energy.profiling.recorder import Recorder
from snn_energy.profiling.rules import RULES
from snn_energy.profiling.watch import Watch, _pass

W = torch.linspace(-1, 1, 15).reshape(3, 5)
Two = Callable[[Tensor, Tensor], object]


class Net(nn.Module):
    """`function` of the two halves of x, (4, 12) in, and a linear layer behind."""

    def __init__(self, function: Two) -> None:
        super().__init__()
        self.function, self.w = function, nn.Parameter(W.clone())
        self.behind = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.function(x[:, :6], x[:, 6:])
        out = out if isinstance(out, Tensor) else out[0]  # type: ignore[index]
        return self.behind(out.float().reshape(-1, 1))


def spikes() -> Tensor:
    return (torch.rand(4, 12, generator=torch.Generator().manual_seed(0)) < 0.4).float()


KERNEL = W[:, :4, None]
IN_TWO = torch.tensor([0, 1, 1, 0])
UNRULED: dict[str, Two] = {
    "cumsum": lambda a, b: a.cumsum(1),
    "cumprod": lambda a, b: torch.cumprod(a, 1),
    "logcumsumexp": lambda a, b: a.logcumsumexp(1),
    "logsumexp": lambda a, b: torch.logsumexp(a, 1),
    "prod": lambda a, b: a.prod(1),
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.5),
    "addcdiv": lambda a, b: torch.addcdiv(a, a, b + 1),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3),
    "sort": lambda a, b: a.sort(1),
    "topk": lambda a, b: a.topk(2, 1),
    "kthvalue": lambda a, b: a.kthvalue(2, 1),
    "median": lambda a, b: a.median(1),
    "einsum of 3 operands": lambda a, b: torch.einsum("bi,bj,bi->bj", a, b, a),
    "einsum of 1 operands": lambda a, b: torch.einsum("bi->b", a),
    "std": lambda a, b: a.std(1),
    "var": lambda a, b: a.var(1),
    "norm": lambda a, b: a.norm(dim=1),
    "linalg_norm": lambda a, b: torch.linalg.norm(a, dim=1),
    "linalg_vector_norm": lambda a, b: torch.linalg.vector_norm(a, dim=1),
    "normalize": lambda a, b: F.normalize(a),
    "cosine_similarity": lambda a, b: F.cosine_similarity(a, b),
    "cdist": lambda a, b: torch.cdist(a, b),
    "outer": lambda a, b: torch.outer(a[0], b[0]),
    "tensordot": lambda a, b: torch.tensordot(a, b, dims=([1], [1])),
    "kron": lambda a, b: torch.kron(a, b),
    "addr": lambda a, b: torch.addr(torch.zeros(6, 6), a[0], b[0]),
    "addbmm": lambda a, b: torch.addbmm(torch.zeros(4, 4), a[None], b.T[None]),
    "trace": lambda a, b: torch.trace(a),
    "cov": lambda a, b: torch.cov(a),
    "glu": lambda a, b: F.glu(a),
    "gumbel_softmax": lambda a, b: F.gumbel_softmax(a),
    "remainder": lambda a, b: a % 2,
    "fmod": lambda a, b: torch.fmod(a, 2),
    "lshift": lambda a, b: a.int() << 1,
    "frac": lambda a, b: a.frac(),
    "index_add": lambda a, b: a.index_add(0, IN_TWO, b),
    "scatter_add": lambda a, b: a.scatter_add(0, IN_TWO[:, None].expand(4, 6), b),
    "scatter_reduce": lambda a, b: a.scatter_reduce(0, IN_TWO[:, None].expand(4, 6), b, "sum"),
    "index_put that adds up": lambda a, b: a.clone().index_put_((IN_TWO,), b, True),
    "scatter that adds up": lambda a, b: a.scatter(0, IN_TWO[:, None].expand(4, 6), b, reduce="add"),
    "count_nonzero": lambda a, b: a.count_nonzero(1),
    "fold": lambda a, b: F.fold(a.reshape(1, 4, 6), (3, 4), 2),
    "grid_sample": lambda a, b: F.grid_sample(a.reshape(1, 1, 4, 6), torch.zeros(1, 2, 3, 2)),
    "lp_pool1d": lambda a, b: F.lp_pool1d(a[None], 2.0, 2),
    "max_unpool1d": lambda a, b: F.max_unpool1d(*F.max_pool1d(a[None], 2, return_indices=True), 2),
    "local_response_norm": lambda a, b: F.local_response_norm(a[None], 2),
    "embedding_bag": lambda a, b: F.embedding_bag(a.long(), W),
    "fft_rfft": lambda a, b: torch.fft.rfft(a).real,
    "fake_quantize_per_tensor_affine": lambda a, b: torch.fake_quantize_per_tensor_affine(a, 0.1, 0, -8, 7),
    "foreach_add": lambda a, b: torch._foreach_add([a], [b]),
    "convolution": lambda a, b: torch.convolution(a[None], KERNEL, None, [1], [0], [1], False, [0], 1),
    "add.Tensor": lambda a, b: torch.ops.aten.add.Tensor(a, b),
    "sparse_mm": lambda a, b: torch.sparse.mm(a.to_sparse(), b.T),
    "map": lambda a, b: a.clone().map_(b, lambda p, q: p + q),
    "cross_entropy": lambda a, b: F.cross_entropy(a, b),
    "pairwise_distance": lambda a, b: F.pairwise_distance(a, b),
    "searchsorted": lambda a, b: torch.searchsorted(W[0], a),
    "unique": lambda a, b: torch.unique(a),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", UNRULED)
def test_a_function_without_a_rule_is_a_row_with_its_name(name: str) -> None:
    measured = profile(Net(UNRULED[name]), [spikes()])
    notes = [row.note for row in measured.uncounted]
    assert any(note.startswith(name) for note in notes), notes
    assert all(not row.ac and not row.mac for row in measured.uncounted)
    assert any(
        row.name == "behind" and row.op == "linear" for row in measured.rows
    )  # and what follows is counted


class Threshold(torch.autograd.Function):
    """A spike for whatever exceeds the threshold, with a gradient of its own."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return (x > 0.3).to(x)


def filled(x: Tensor) -> Tensor:
    """Memory that is given another content behind torch's back."""
    out = torch.empty(0)
    out.set_(x)
    return out


HIDDEN: dict[str, Two] = {
    "vmap": lambda a, b: torch.vmap(lambda p, q: p + q)(a, b),
    "vmap of a product": lambda a, b: torch.vmap(lambda p: W[:, :1] @ p[None])(a),
    "func.grad": lambda a, b: torch.func.grad(lambda t: (t * t).sum())(a),
    "func.jvp": lambda a, b: torch.func.jvp(lambda t: t * t, (a,), (b,))[1],
    "traced": lambda a, b: torch.jit.trace(lambda p, q: p + q, (a, b), check_trace=False)(a, b),
    "numpy": lambda a, b: torch.from_numpy(a.numpy() + b.numpy()),
    "set_": lambda a, b: filled(a),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HIDDEN)
def test_work_out_of_sight_is_a_row_each_time(name: str) -> None:
    for _ in range(2):  # what the first profile leaves on tensors does not hush the second
        model = Net(HIDDEN[name])
        measured = profile(model, [spikes()])
        assert measured.uncounted, measured.rows


SEEN: dict[str, tuple[Two, tuple[str, ...]]] = {  # other ways to what has rules, and the rows
    "a function with a gradient of its own": (lambda a, b: Threshold.apply(a + b), ("add", "compare")),
    "torch.ops": (lambda a, b: torch.ops.aten.add(a, b), ("add",)),
    "sum()": (lambda a, b: sum([a, b]), ("add",)),
    "no_dispatch": (lambda a, b: torch.compiler.disable(lambda t: t + b)(a), ("add",)),
    "tree_map": (lambda a, b: torch.utils._pytree.tree_map(lambda t: t + b, [a]), ("add",)),
    "iadd": (lambda a, b: a.clone().__iadd__(b), ("add",)),
}


@pytest.mark.parametrize("name", SEEN)
def test_other_ways_to_a_counted_function_are_counted(name: str) -> None:
    function, rows = SEEN[name]
    measured = profile(Net(function), [spikes()])
    assert measured.uncounted == ()
    x = spikes()
    found = {row.op: row.ac for row in measured.rows if row.name == ""}
    assert found.keys() == set(rows)
    both = sum(p and q for p, q in zip(x[:, :6].flatten().tolist(), x[:, 6:].flatten().tolist(), strict=True))
    assert found["add"] == both  # and sum(), which begins with 0 + a, no more than that


QUESTIONS: dict[str, Two] = {
    "if": lambda a, b: a if (a > 0).any() else b,
    "bool": lambda a, b: a if bool(a.sum() > 0) else b,
    "type": lambda a, b: a if a.type() == "torch.FloatTensor" else b,
    "dim_order": lambda a, b: a if a.dim_order() == (0, 1) else b,
    "is_signed": lambda a, b: a if a.is_signed() else b,
    "in": lambda a, b: a if 1.0 in a else b,
    "equal": lambda a, b: b if torch.equal(a, b) else a,
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_about_a_tensor_is_no_work(name: str) -> None:
    measured = profile(Net(QUESTIONS[name]), [spikes()])
    assert measured.uncounted == ()
    assert {row.op for row in measured.rows} - {"sum", "compare"} == {"linear"}


@pytest.mark.filterwarnings("ignore")
def test_every_function_of_torch_is_counted_or_reported_unless_it_only_asks() -> None:
    """What a call of it is sent to: only names that were looked at one by one may pass."""
    watch = Watch(Recorder(nn.Identity()), RULES)
    silent = set()
    for function in get_testing_overrides():
        if watch._handler(function) is _pass:
            silent.add(function.__name__.strip("_"))
    assert silent <= ASIDE | {"bool"}  # `if x:`
    assert not silent & (OPERATIONS.keys() | TAKES_OUT | MAKES.keys()) - {
        "float",
        "int",
        "bool",
        "new_tensor",
        "full_like",
    }
    assert "set" not in ASIDE and "copy" not in ASIDE
