"""For every name of `operations.OPERATIONS` calls to be written in all spellings: small, sizes distinct."""

from __future__ import annotations

import math
from typing import Any

import torch
from spellings import Activation as A
from spellings import Constant, Example

i32, i64, boolean = torch.int32, torch.int64, torch.bool


def weight(*shape: int) -> Constant:
    """Some real numbers, none of them zero."""
    return Constant(torch.linspace(-1.3, 1.7, math.prod(shape)).reshape(shape))


def scalar(value: float) -> Constant:
    """A tensor without dimensions."""
    return Constant(torch.tensor(value))


X = A((2, 3, 5))
EXAMPLES: dict[str, list[Example]] = {}


def example(names: str, rule: str, makes: str = "keeps", /, *, forms: Any = None, varied: bool = True,
            valueless: bool = False, positional: int = 99, only: str = "",
            **arguments: Any) -> None:  # fmt: skip
    """Add one example for each of `names`; the first's operands are drawn in other ways, too, if `varied`."""
    for number, name in enumerate(names.split()):
        vary = varied and not number
        found = Example(name, arguments, rule, makes, vary, valueless, forms or {}, only, positional)
        EXAMPLES.setdefault(name, []).append(found)


# two operands: equal shapes, broadcast, a number, a tensor without dimensions, a weight; on either side
OTHERS: list[Any] = [A((2, 3, 5)), A((3, 1)), 0.75, scalar(0.75), weight(3, 5), A(())]
for other in OTHERS:
    example("add sub subtract", "add", input=X, other=other)
    example("iadd isub", "add", input=X, other=other)
    example("mul multiply imul", "mul", input=X, other=other)
    over = A(other.shape, "positive") if isinstance(other, A) else other
    example("div divide true_divide truediv itruediv", "div", input=X, other=over, varied=False)
    example("floor_divide floordiv ifloordiv", "div", "events", input=X, other=over, varied=False)
for constant in (scalar(0.75), weight(3, 5), weight(2, 1, 1)):
    example("add sub subtract", "add", input=constant, other=A((2, 3, 5)))
    example("mul multiply", "mul", input=constant, other=A((2, 3, 5)))
    example(
        "div divide true_divide truediv", "div", input=constant, other=A((2, 3, 5), "positive"), varied=False
    )
example("add sub subtract", "add", input=A((3, 1)), other=A((2, 3, 5)), alpha=2)
example(
    "add",
    "add",
    input=X,
    other=A((3, 5)),
    alpha=2,
    forms={"alpha in the middle": lambda x, y, a: torch.add(x, a, y)},
)
example(
    "sub",
    "add",
    input=X,
    other=A((3, 5)),
    alpha=2,
    forms={"method, alpha in the middle": lambda x, y, a: x.sub(a, y)},
)
example("rsub", "radd", input=X, other=A((3, 5)))
example("rsub", "radd", input=X, other=0.75, alpha=2)
for number in (2, 0.75):
    example("radd rsub", "radd", input=X, other=number)
    example("rmul", "mul", input=X, other=number)
example("rtruediv rdiv", "rdiv", input=A((2, 3, 5), "positive"), other=2, varied=False)
example("rsub", "radd", input=X, other=A((3, 1)))
example("add sub iadd isub", "free", input=X, other=0)
example("radd", "free", input=X, other=0.0)
example("rmul", "mul", input=X, other=weight(3, 5))
example("div divide", "div", "events", input=X, other=0.75, rounding_mode="floor")
example("div", "div", "events", input=X, other=A((3, 5), "positive"), rounding_mode="trunc", varied=False)
example(
    "div divide true_divide truediv",
    "div",
    input=A((2, 3, 5), "real"),
    other=A((3, 5), "positive"),
    varied=False,
)
example("div truediv", "div", input=A((2, 3, 5), "current"), other=A((3, 5), "positive"), varied=False)
example("rfloordiv", "rdiv", "events", input=A((2, 3, 5), "positive"), other=2, varied=False)
example("neg negative", "scale", input=X)
for exponent in (2, 2.0, 3, scalar(2.0), A((3, 5), "positive")):
    of_numbers = not isinstance(exponent, A)
    example("pow float_power", "power", input=X, exponent=exponent, varied=of_numbers)
    example("ipow", "power", input=X, other=exponent, varied=of_numbers)
example("square", "power", input=X)
example("deg2rad rad2deg", "scale", input=X)
example("pow float_power", "power", input=weight(3, 1), exponent=A((2, 3, 5), "graded"), varied=False)
example("pow", "power", input=2, exponent=X)
example("rpow", "rpower", input=X, other=2)

BITS = A((2, 3, 5), "spikes", boolean)
for bits in (BITS, A((3, 1), "spikes", boolean), Constant(torch.tensor([[True], [False], [True]]))):
    example(
        "and iand or ior xor ixor bitwise_and bitwise_or bitwise_xor",
        "logic",
        input=BITS,
        other=bits,
        varied=False,
    )
example("rand ror rxor", "logic", input=A((2, 3, 5), "graded", i32), other=3, varied=False)
example(
    "and or xor bitwise_and",
    "logic",
    input=A((2, 3, 5), "graded", i32),
    other=A((3, 5), "graded", i32),
    varied=False,
)
for other in (A((2, 3, 5)), A((3, 1)), weight(3, 5)):
    example("logical_and logical_or logical_xor", "logic", "events", input=X, other=other)
example("invert bitwise_not", "free", input=BITS, varied=False)
example("logical_not", "free", "events", input=X)

example("sum mean", "reduce", input=X)
for dim in (1, -1, (0, 2), [1]):
    example("sum mean", "reduce", input=X, dim=dim)
    example("sum mean", "reduce", input=X, dim=dim, keepdim=True)
example("nansum nanmean", "reduce", input=X)
example("nansum nanmean", "reduce", input=X, dim=1, keepdim=True)
example("sum", "reduce", input=A((2, 3, 5), "spikes", boolean), varied=False)

# products
for a, b in (
    ((2, 3, 5), (2, 5, 4)),
    ((2, 3, 5), (5, 4)),
    ((3, 5), (2, 5, 4)),
    ((4, 5), (5,)),
    ((5,), (5, 3)),
    ((5,), (5,)),
):
    example("matmul", "matmul", "current", input=A(a), other=A(b))
    example("rmatmul", "reversed_matmul", "current", input=A(b), other=A(a))
example("matmul", "matmul", "current", input=X, other=weight(5, 4))
example("matmul", "matmul", "current", input=weight(4, 3), other=A((2, 3, 5)))
for a, b in (((3, 5), (4, 5)), ((5, 5), (5, 5)), ((2, 3, 5), (5,)), ((2, 3, 5), (4, 5)), ((5,), (5,))):
    example("inner", "inner", "current", input=A(a), other=A(b))
example("mm", "matmul", "current", input=A((3, 5)), mat2=A((5, 4)))
example("bmm", "matmul", "current", input=A((2, 3, 5)), mat2=A((2, 5, 4)))
example("mv", "matmul", "current", input=A((3, 5)), vec=A((5,)))
example("dot", "matmul", "current", input=A((5,)), tensor=A((5,)))
for more in ({}, {"alpha": 2}, {"beta": 0}, {"beta": 2, "alpha": 3}):
    example("addmm", "matmul_add", "current", input=weight(3, 4), mat1=A((3, 5)), mat2=A((5, 4)), **more)
    example(
        "baddbmm",
        "matmul_add",
        "current",
        input=A((2, 3, 4)),
        batch1=A((2, 3, 5)),
        batch2=A((2, 5, 4)),
        **more,
    )
    example("addmv", "matmul_add", "current", input=A((3,)), mat=A((3, 5)), vec=weight(5), **more)
for equation, b in (
    ("bmk,bkn->bmn", (2, 5, 4)),
    ("bmk,bnk", (2, 4, 5)),
    ("...mk,...kn->...mn", (2, 5, 4)),
    ("bmk,kn->bnm", (5, 4)),
):
    forms = {"operands one by one": lambda e, two: torch.einsum(e, *two)}
    example("einsum", "einsum", "current", equation=equation, operands=(A((2, 3, 5)), A(b)), forms=forms)
QKV = {"query": A((2, 3, 4, 5)), "key": A((2, 3, 6, 5)), "value": A((2, 3, 6, 7))}
example("scaled_dot_product_attention", "attention", "current", **QKV)
example("scaled_dot_product_attention", "attention", "current", **QKV, is_causal=True, positional=3)
MASK = torch.arange(24).reshape(4, 6) % 5 > 1
example(
    "scaled_dot_product_attention", "attention", "current", **QKV, attn_mask=Constant(MASK), dropout_p=0.0
)
SEQUENCE = A((5, 2, 6))
example(
    "multi_head_attention_forward", "heads", "current", query=SEQUENCE, key=A((4, 2, 6)), value=A((4, 2, 6)),
    embed_dim_to_check=6, num_heads=3, in_proj_weight=weight(18, 6), in_proj_bias=weight(18), bias_k=None,
    bias_v=None, add_zero_attn=False, dropout_p=0.0, out_proj_weight=weight(6, 6), out_proj_bias=weight(6),
    training=False, need_weights=False, positional=14,
)  # fmt: skip

example(
    "linalg_matmul",
    "matmul",
    "current",
    input=X,
    other=A((5, 4)),
    forms={"torch.linalg": torch.linalg.matmul},
)
for transposed in ("", "_transpose"):
    kernel = {1: (3,), 2: (3, 2), 3: (2, 3, 1)}
    for axes, size in ((1, (7,)), (2, (5, 6)), (3, (3, 4, 2))):
        x, k, name = A((2, 4, *size)), kernel[axes], f"conv{transposed}{axes}d"
        plain = weight(*((4, 6, *k) if transposed else (6, 4, *k)))
        grouped = weight(*((4, 3, *k) if transposed else (6, 2, *k)))
        example(name, "conv", "current", input=x, weight=plain)
        example(name, "conv", "current", input=A(x.shape[1:]), weight=plain, bias=weight(6), varied=False)
        rest: dict[str, Any] = {"stride": 2, "padding": (1,) * axes}
        rest |= {"output_padding": 1} if transposed else {"dilation": 1}
        example(name, "conv", "current", input=x, weight=grouped, bias=weight(6), **rest, groups=2)
        if not transposed:
            example(name, "conv", "current", input=x, weight=plain, padding="same", dilation=(2,) * axes)
            example(name, "conv", "current", input=x, weight=plain, padding="valid")
        else:
            example(
                name,
                "conv",
                "current",
                input=x,
                weight=plain,
                bias=None,
                stride=[1] * axes,
                dilation=2,
                positional=4,
            )
example("linear", "linear", "current", input=X, weight=weight(4, 5))
example("linear", "linear", "current", input=A((2, 5)), weight=weight(4, 5), bias=weight(4))
example("linear", "linear", "current", input=A((5,)), weight=weight(4, 5), bias=None)
example("linear", "linear", "current", input=A((2, 5)), weight=A((4, 5)), bias=weight(4))
example(
    "bilinear",
    "bilinear",
    "current",
    input1=A((2, 3)),
    input2=A((2, 5)),
    weight=weight(4, 3, 5),
    bias=weight(4),
)


def states(kind: str, *shape: int) -> Any:
    """h, or (h, c), at rest."""
    rest = Constant(torch.zeros(*shape))
    return (rest, Constant(torch.zeros(*shape))) if kind == "lstm" else rest


for kind, gates in (("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1)):
    sets = (weight(4 * gates, 3), weight(4 * gates, 4), weight(4 * gates), weight(4 * gates))
    example(
        kind, "recurrent", "fresh", input=A((2, 5, 3)), hx=states(kind, 1, 2, 4), params=sets,
        has_biases=True, num_layers=1, dropout=0.0, train=False, bidirectional=False, batch_first=True,
    )  # fmt: skip
    cell = dict(zip(("w_ih", "w_hh", "b_ih", "b_hh"), sets, strict=True))
    example(f"{kind}_cell", "recurrent_cell", "fresh", input=A((2, 3)), hx=states(kind, 2, 4), **cell)

# pooling and norms
for axes, size in ((1, (7,)), (2, (5, 7)), (3, (3, 4, 5))):
    x = A((2, 3, *size))
    for kernel_size, more in (
        (2, {}),
        ((3, 2, 2)[:axes], {"stride": (2, 1, 2)[:axes]}),
        ([3] * axes, {"stride": 2, "padding": 1}),
    ):
        example(f"avg_pool{axes}d", "avg_pool", input=x, kernel_size=kernel_size, **more)
        for name in (f"max_pool{axes}d", f"max_pool{axes}d_with_indices"):
            example(name, "max_pool", "keeps", input=x, kernel_size=kernel_size, **more)
    example(
        f"max_pool{axes}d",
        "max_pool",
        input=x,
        kernel_size=2,
        stride=1,
        padding=0,
        dilation=2,
        ceil_mode=True,
    )
    example(f"avg_pool{axes}d", "avg_pool", input=x, kernel_size=2, stride=None, padding=0, ceil_mode=True)
    target: Any = (2, 3, 2)[:axes] if axes > 1 else 3
    example(f"adaptive_avg_pool{axes}d", "adaptive", input=x, output_size=target)
    example(f"adaptive_max_pool{axes}d", "adaptive", input=x, output_size=target, only="F.")
    example(
        f"adaptive_max_pool{axes}d", "adaptive", input=x, output_size=target, only="torch."
    )  # with places
    example(f"adaptive_max_pool{axes}d_with_indices", "adaptive", input=x, output_size=target)
STATS = {"running_mean": weight(3), "running_var": Constant(torch.tensor([0.5, 1.5, 2.0]))}
AFFINE = {"weight": weight(3), "bias": weight(3)}
example("batch_norm", "norm", input=X, **STATS)
example("batch_norm", "norm", input=X, **STATS, **AFFINE, training=False)
example("batch_norm", "norm", input=X, running_mean=None, running_var=None, training=True)
example(
    "batch_norm",
    "norm",
    input=X,
    **AFFINE,
    **STATS,
    training=False,
    momentum=0.1,
    eps=1e-5,
    cudnn_enabled=False,
)
example("instance_norm", "norm", input=X)
example("instance_norm", "norm", input=X, running_mean=None, running_var=None, **AFFINE)
example("layer_norm", "norm", input=X, normalized_shape=(5,))
example(
    "layer_norm native_layer_norm",
    "norm",
    input=X,
    normalized_shape=[3, 5],
    weight=weight(3, 5),
    bias=weight(3, 5),
    eps=1e-3,
)
example("rms_norm", "norm", input=X, normalized_shape=(5,), weight=weight(5))
example("group_norm", "norm", input=A((2, 4, 5)), num_groups=2)
example("group_norm", "norm", input=A((2, 4, 5)), num_groups=2, weight=weight(4), bias=weight(4), eps=1e-3)

# comparisons, roundings, special functions
example(
    "relu relu6 leaky_relu hardtanh abs absolute nan_to_num hardshrink softshrink aminmax", "compare", input=X
)
example("leaky_relu", "compare", input=X, negative_slope=0.2)
example("hardtanh", "compare", input=X, min_val=-0.5, max_val=0.75)
example("prelu", "compare", input=X, weight=weight(3))
example("clamp clip", "compare", input=X, min=-0.5, max=0.75)
example("clamp clip", "compare", input=X, min=weight(3, 5), max=None)
example("clamp clip", "compare", input=X, max=0.5, positional=1)
example("clamp_min", "compare", input=X, min=0.5)
example("clamp_max", "compare", input=X, max=0.5)
example("threshold", "compare", input=X, threshold=0.5, value=0.0)
for other in (*OTHERS, A((4, 1, 3, 5))):
    example(
        "gt ge lt le eq ne greater greater_equal less less_equal not_equal",
        "compare",
        "events",
        input=X,
        other=other,
    )
for other in (A((2, 3, 5)), weight(3, 5), A((4, 1, 3, 5))):
    example("fmax fmin", "compare", input=X, other=other)
    example("isclose", "compare", "events", input=X, other=other)
for other in (A((2, 3, 5)), A((3, 1)), weight(3, 5), scalar(0.75), A((4, 1, 3, 5))):
    example("maximum minimum max min", "compare", input=X, other=other)
example("maximum minimum gt", "compare", input=weight(3, 5), other=A((2, 3, 1)), varied=False)
example("max min argmax argmin amax amin", "compare", input=X)
example("max min argmax argmin amax amin", "compare", input=X, dim=1)
example("max min argmax argmin amax amin", "compare", input=X, dim=2, keepdim=True)
example("amax amin", "compare", input=X, dim=(0, 2))
example("heaviside", "compare", "events", input=X, values=scalar(1.0))
example("heaviside", "compare", "events", input=X, values=Constant(torch.tensor([[0.0], [1.0], [0.5]])))
example("sign sgn signbit round floor ceil trunc fix", "compare", "events", input=X)
example("special_round", "compare", "events", input=X, forms={"torch.special": torch.special.round})
example("round", "compare", "keeps", input=A((2, 3, 5), "real"), decimals=1, varied=False)
example("exp sigmoid tanh gelu silu elu softplus mish erf sin cos hardsigmoid hardswish", "special", input=X)
example(
    "log sqrt rsqrt reciprocal log2 log10 log1p acosh arccosh",
    "special",
    input=A((2, 3, 5), "above"),
    varied=False,
)
example(
    "exp2 expm1 erfc tan sinh cosh atan asinh arctan arcsinh selu celu softsign softmin sinc",
    "special",
    input=X,
)
example("logit asin acos atanh arcsin arccos arctanh", "special", input=A((2, 3, 5), "within"), varied=False)
example("log_sigmoid", "special", input=X, forms={"F.logsigmoid": torch.nn.functional.logsigmoid})
for name in ("erf", "exp2", "expm1", "log1p", "expit", "erfc", "sinc", "logit"):
    example(f"special_{name}", "special", input=A((2, 3, 5), "within"), varied=False,
            forms={"torch.special": getattr(torch.special, name)})  # fmt: skip
for name in ("softmax", "log_softmax"):
    example(
        f"special_{name}", "special", input=X, dim=1, forms={"torch.special": getattr(torch.special, name)}
    )
for other in (A((2, 3, 5), "positive"), A((3, 1), "positive"), weight(3, 5)):
    example("atan2 arctan2 hypot logaddexp logaddexp2", "special", input=X, other=other, varied=False)
example("atan2 hypot", "special", input=A((3, 1)), other=A((2, 3, 5), "positive"), varied=False)
example("xlogy", "special", input=X, other=A((3, 5), "positive"), varied=False)
example(
    "special_xlogy",
    "special",
    input=X,
    other=A((3, 5), "positive"),
    varied=False,
    forms={"torch.special": torch.special.xlogy},
)
example("softmax log_softmax", "special", input=X, dim=1)
example("gelu", "special", input=X, approximate="tanh")
example("elu", "special", input=X, alpha=0.5)
example("softplus", "special", input=X, beta=2, threshold=15)
