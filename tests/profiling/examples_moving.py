"""Calls that move elements, cast them, make or write tensors: to be written in all spellings."""

from __future__ import annotations

from typing import Any

import torch
from examples import BITS, EXAMPLES, X, boolean, example, i64, scalar, weight
from spellings import Activation as A
from spellings import Constant

BEFORE = set(EXAMPLES)

# moving
example("view reshape", "free", input=X, shape=(5, 2, 3))
example("view", "free", input=X, size=(6, 5))
example(
    "flatten ravel contiguous clone detach squeeze positive conj resolve_conj resolve_neg",
    "free",
    input=A((2, 1, 5)),
)
example("fliplr flipud", "free", input=X)
example("reversed", "free", input=X, forms={"reversed()": reversed})
example("rot90", "free", input=X, k=1, dims=(1, 2))
example("flatten", "free", input=X, start_dim=1, end_dim=2)
example("unflatten", "free", input=A((2, 6, 5)), dim=1, sizes=(3, 2))
example("view_as reshape_as", "free", input=X, other=weight(5, 6))
example("flip", "free", input=X, dims=(0, 2))
example("roll", "free", input=X, shifts=2, dims=1)
example("roll", "free", input=X, shifts=(1, 2), dims=(0, 2))
example("squeeze", "free", input=A((2, 1, 5)), dim=1)
example("transpose swapdims", "free", input=X, dim0=1, dim1=-1)
example("swapaxes", "free", input=X, axis0=0, axis1=2)
example("t", "free", input=A((2, 5)))
example("adjoint", "free", input=X)
example("permute", "free", input=X, dims=(2, 0, 1))
example("movedim moveaxis", "free", input=X, source=0, destination=2)
example("movedim moveaxis", "free", input=X, source=(0, 1), destination=(2, 0))
example("unsqueeze", "free", input=X, dim=1)
for kind in ("dropout", "feature_dropout", "dropout1d", "dropout2d", "dropout3d"):
    x = A({"dropout2d": (2, 3, 5, 4), "dropout3d": (2, 3, 5, 4, 2)}.get(kind, (2, 3, 5)))
    example(kind, "free", input=x, p=0.5, training=False)
    example(kind, "scale", input=x, p=0.5, training=True)
example("alpha_dropout feature_alpha_dropout", "free", input=X, p=0.5, training=False)
example(
    "alpha_dropout feature_alpha_dropout",
    "uncounted",
    input=A((2, 3, 5), "real"),
    p=0.5,
    training=True,
    varied=False,
)
INDEX = Constant(torch.tensor([2, 0]))
for at in ((slice(None), 1), 0, (..., slice(1, 4)), (None, 1), (slice(None), INDEX)):
    example("getitem", "free", input=X, index=at)
example("getitem", "free", input=X, index=A((2, 3, 5), "spikes", boolean), varied=False)
example("getitem", "free", "events", input=weight(4, 3), index=A((2, 5), "index", i64), varied=False)
example("select", "free", input=X, dim=1, index=2)
example("narrow", "free", input=X, dim=2, start=1, length=3)
example("chunk", "free", input=X, chunks=2, dim=1)
example("tensor_split", "free", input=X, indices_or_sections=2, dim=2)
example("tensor_split", "free", input=X, sections=2, dim=2)
example("split", "free", input=X, split_size_or_sections=2, dim=2)
example("split", "free", tensor=X, split_size_or_sections=[2, 3], dim=2)
example("unsafe_chunk", "free", input=X, chunks=2, dim=1)
example("unsafe_split", "free", input=X, split_size=2, dim=2)
example("hsplit vsplit dsplit", "free", input=A((2, 4, 6)), sections=2)
example("take_along_dim", "free", input=X, indices=Constant(torch.tensor([[[2], [0]], [[1], [2]]])), dim=1)
example("tril triu", "free", input=X, diagonal=1)
example("diag diag_embed", "free", input=A((5,)))
example("channel_shuffle", "free", input=A((2, 6, 4, 5)), groups=3)
example("split_with_sizes", "free", input=X, split_sizes=(2, 3), dim=2)
example("unbind", "free", input=X, dim=1)
example("iter", "free", input=X)
example("index_select", "free", input=X, dim=1, index=INDEX)
example("gather", "free", input=X, dim=1, index=Constant(torch.tensor([[[2, 0, 1, 1]], [[0, 1, 2, 2]]])))
example(
    "linalg_diagonal",
    "free",
    A=X,
    offset=1,
    dim1=1,
    dim2=2,
    forms={"torch.linalg": lambda x, o, a, b: torch.linalg.diagonal(x, offset=o, dim1=a, dim2=b)},
)
example("diagonal", "free", input=X, offset=1, dim1=1, dim2=2)
example("masked_select", "free", input=X, mask=Constant(torch.arange(15).reshape(3, 5) % 4 > 1))
example("masked_select", "free", input=X, mask=BITS)
example("take", "free", input=X, index=Constant(torch.tensor([[7, 0], [12, 29]])))
example("unfold", "free", input=X, dimension=2, size=3, step=1, only="Tensor")
example("unfold", "free", input=A((2, 3, 4, 5)), kernel_size=(2, 3), padding=1, positional=2, only="F.")
example("as_strided", "free", input=X, size=(3, 4), stride=(5, 1), storage_offset=2)
example("pixel_shuffle", "free", input=A((2, 4, 3, 5)), upscale_factor=2)
example("pixel_unshuffle", "free", input=A((2, 1, 4, 6)), downscale_factor=2)
example("expand", "free", input=A((2, 1, 5)), size=(2, 3, 5))
example("expand", "free", input=A((2, 1, 5)), size=(4, -1, 3, 5))
example("broadcast_to", "free", input=A((2, 1, 5)), size=(2, 3, 5))
example("expand_as", "free", input=A((2, 1, 5)), other=weight(2, 3, 5))
for pair in (
    (A((2, 1, 5)), A((3, 1), "real")),
    (A((3, 1), "real"), A((2, 1, 5))),
    (weight(3, 1), A((2, 1, 5))),
):
    forms = {"one by one": lambda a, b: torch.broadcast_tensors(a, b)}
    example("broadcast_tensors", "free", "each", forms=forms, first=pair[0], second=pair[1])
for name in ("atleast_1d", "atleast_2d", "atleast_3d", "meshgrid"):
    call = getattr(torch, name)
    example(
        name,
        "free",
        "each",
        first=A((4,), "real"),
        second=A((5,)),
        forms={"one by one": lambda a, b, call=call: call(a, b)},
        only="one",
    )
example("atleast_2d atleast_3d", "free", input=A((5,)))
example("repeat", "free", input=A((2, 5)), repeats=(3, 1, 2))
example("tile", "free", input=A((2, 5)), dims=(1, 2))
example("repeat_interleave", "free", input=A((2, 5)), repeats=3, dim=1)
example("repeat_interleave", "free", input=A((2, 5)), repeats=Constant(torch.tensor([2, 1])), dim=0)
for value in (0, 1, 0.5, scalar(-2.5)):
    example(
        "masked_fill", "free", input=X, mask=Constant(torch.arange(15).reshape(3, 5) % 4 > 1), value=value
    )
example("masked_fill", "free", "source:input", input=X, mask=BITS, value=0.25)
example("pad", "free", input=X, pad=(1, 2))
example("pad", "free", input=X, pad=[0, 1, 2, 0], mode="constant", value=0.3)
example("pad", "free", input=X, pad=(1, 2), mode="circular")
for second in (A((2, 3, 5)), A((2, 3, 5), "real"), weight(2, 3, 5)):
    example("cat concat concatenate hstack vstack dstack column_stack row_stack", "free", tensors=(X, second))
    example("stack", "free", tensors=[X, second])
    example("cat concat concatenate stack", "free", tensors=(second, X), dim=2)
for yes, no in (
    (A((2, 3, 5)), A((3, 1))),
    (A((2, 3, 5), "real"), 0.0),
    (0.5, A((2, 3, 5))),
    (weight(3, 5), A((2, 3, 5))),
):
    example("where", "free", condition=BITS, input=yes, other=no)
    methods = {
        "method": lambda y, c, n: y.where(c, n),
        "method, other by keyword": lambda y, c, n: y.where(c, other=n),
        "method, both by keyword": lambda y, c, n: y.where(condition=c, other=n),
    }
    example("where", "free", forms=methods, self=yes, condition=BITS, other=no)
example("where", "free", "events", condition=BITS, input=1.0, other=scalar(0.0))
example("where", "free", "fresh", condition=BITS, varied=False)
example("embedding", "free", "fresh", input=A((2, 3), "index", i64), weight=weight(4, 5), varied=False)
example("embedding", "free", "fresh", weight=weight(4, 5), indices=A((2, 3), "index", i64), varied=False)
example("one_hot", "free", "fresh", input=A((2, 3), "index", i64), num_classes=4, varied=False)
example("nonzero isnan isfinite isinf any all argsort argwhere isposinf isneginf", "free", "fresh", input=X)
example("any all", "free", "fresh", input=X, dim=1)
example("argsort", "free", "fresh", input=X, dim=1, descending=True)
example("rand_like randn_like", "free", "fresh", input=X)
example("randint_like", "free", "fresh", input=X, low=0, high=3)
for rates in ("spikes", "current", "halves"):
    example("bernoulli", "free", "events", input=A((2, 3, 5), rates), only="torch.", varied=False)
example("bernoulli", "free", "events", input=X, only="Tensor.bernoulli_")
example("bernoulli", "free", "events", input=X, p=0.25)
example("poisson", "free", "events", input=A((2, 3, 5), "positive"), varied=False)
example("zeros_like ones_like", "free", "constant", input=X)
example("empty_like", "free", "constant", input=X, valueless=True)
example("full_like", "free", "constant", input=X, fill_value=0.5)
example("new_zeros new_ones", "free", "constant", input=X, size=(3, 4))
example("new_empty", "free", "constant", input=X, size=(3, 4), valueless=True)
example("new_full", "free", "constant", input=X, size=(3, 4), fill_value=0.5)
example("new_tensor", "free", "constant", input=X, data=[0.5, 2.0])
MASK35 = Constant(torch.arange(15).reshape(3, 5) % 4 > 1)
PLACES = (Constant(torch.tensor([0, 1])), Constant(torch.tensor([2, 0])))
for written in (A((2, 5)), A((2, 5), "real"), weight(2, 5)):

    def assigned(x: Any, at: Any, y: Any) -> Any:
        """x[at] = y."""
        x[at] = y
        return x

    def set_item(x: Any, at: Any, y: Any) -> Any:
        """The same by its method."""
        x.__setitem__(at, y)
        return x

    example("setitem", "free", forms={"x[at] = y": assigned, "x.__setitem__(at, y) =": set_item},
            input=X, index=(slice(None), 1), value=written)  # fmt: skip
    example("index_put", "free", input=A((2, 3, 5)), indices=PLACES, values=written)
for source in (A((2, 3, 5)), A((2, 3, 5), "real"), weight(2, 3, 5)):
    example("copy", "free", "source:src", input=X, src=source)
    rows = Constant(torch.tensor([1, 2, 0]).reshape(1, 3, 1).expand(2, 3, 5).clone())
    example("scatter", "free", input=X, dim=1, index=rows, src=source)
    example("masked_scatter", "free", input=X, mask=MASK35, source=source)
example("scatter", "free", input=X, dim=1, index=rows, value=0.5)
example("scatter", "uncounted", input=X, dim=1, index=rows, src=A((2, 3, 5)), reduce="add", varied=False)
example("index_put", "uncounted", input=X, indices=PLACES, values=A((2, 5)), accumulate=True, varied=False)
example("index_copy", "free", input=X, dim=1, index=INDEX, source=A((2, 2, 5)))
example("index_fill", "free", input=X, dim=1, index=INDEX, value=0.5)
example("select_scatter", "free", input=X, src=A((2, 5)), dim=1, index=2)
example("slice_scatter", "free", input=X, src=A((2, 2, 5)), dim=1, start=0, end=2)
example("fill", "free", "fresh", input=X, value=0.5)
example("zero", "free", "fresh", input=X)
for kind in ("float", "double", "half", "bfloat16"):
    example(kind, "free", input=X)
example("bool int long short char byte", "free", "events", input=A((2, 3, 5), "graded"))
example("cpu cuda", "free", input=X)
example("to", "free", input=X, dtype=torch.float64)
example("to", "free", input=X, other=Constant(torch.zeros(1, dtype=torch.float64)))
example("to", "free", input=X, device="cpu", dtype=torch.float64)
example("to", "free", "events", input=A((2, 3, 5), "graded"), dtype=torch.int32)
example("type", "free", input=X, dtype=torch.float64)
example("type_as", "free", input=X, other=Constant(torch.zeros(1, dtype=torch.float64)))
example("interpolate upsample", "free", input=A((2, 3, 5)), scale_factor=2, positional=1)
example("interpolate", "free", input=A((2, 3, 5)), size=7, scale_factor=None, mode="nearest")
example(
    "interpolate", "uncounted", input=A((2, 3, 5), "real"), size=7, mode="linear", varied=False, positional=2
)

MOVING = EXAMPLES.keys() - BEFORE
