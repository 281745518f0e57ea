"""The table: which rule counts which torch function.

Keys are function names without the underscores that mark in-place and operator forms.  A function that is
in none of these tables and touches activations becomes a row `uncounted`.
"""

from __future__ import annotations

from typing import Any

import torch

from snn_energy.profiling import composites, elementwise, products, provenance, synapses
from snn_energy.profiling.provenance import Tag, replace, union
from snn_energy.profiling.recorder import Handler, Recorder


def tensors_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """Every tensor among the arguments, one level of lists deep."""
    found: list[torch.Tensor] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(v for v in value if isinstance(v, torch.Tensor))
    return found


def view(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same elements in another shape or order: everything known of them stays known."""
    out = func(*args, **kwargs)
    tag = rec.tag(args[0] if args else kwargs["input"])
    rec.mark(out, tag if tag is not None else Tag(rec.epoch, constant=True))
    return out


def part(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Some of the elements, perhaps repeated: of their values only zeros and ones stay known."""
    out = func(*args, **kwargs)
    tag = rec.tag(args[0] if args else kwargs["input"])
    if tag is None:
        rec.mark(
            out,
            rec.plain if any(rec.tag(t) for t in tensors_in(args, kwargs)) else Tag(rec.epoch, constant=True),
        )
        return out
    if tag.values is not None and tag.values.values not in elementwise.MASKS:
        tag = replace(tag, values=None)
    rec.mark(out, tag)
    return out


def join(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """cat, stack, where: elements of several tensors; their values together."""
    out = func(*args, **kwargs)
    tags = [rec.tag(t) for t in tensors_in(args, kwargs)]
    live = [tag for tag in tags if tag is not None]
    values = live[0].values
    for tag in live[1:]:
        values = values.join(tag.values) if values is not None and tag.values is not None else None
    if len(live) < len(tags):
        values = None
    rec.mark(
        out,
        Tag(
            rec.epoch,
            sources=union(*(tag.sources for tag in live)),
            drivers=union(*(tag.drivers for tag in live)),
            values=values,
            static=all(tag.static for tag in live),
        ),
    )
    return out


def fresh(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Made from activations without arithmetic that an inference needs: shapes, random numbers, indices."""
    out = func(*args, **kwargs)
    rec.mark(out, rec.plain)
    return out


def blank(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """zeros_like and the like: constants that only borrow a shape."""
    out = func(*args, **kwargs)
    rec.mark(out, Tag(rec.epoch, constant=True))
    return out


def write(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """x[...] = y, copy_, fill_: `x` now also holds y."""
    known = [tag for tag in (rec.tag(t) for t in tensors_in(args, kwargs)) if tag is not None]
    out = func(*args, **kwargs)
    sources = union((), *(tag.sources for tag in known))
    provenance.attach(
        args[0], Tag(rec.epoch, sources=sources, drivers=union((), *(t.drivers for t in known)))
    )
    return out


def to(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Conversions: spikes stay spikes; other values may be rounded and are read again."""
    out = func(*args, **kwargs)
    tag = rec.tag(args[0])
    if tag is None:
        rec.mark(out, Tag(rec.epoch, constant=True))
    else:
        keep = out is args[0] or (tag.values is not None and tag.values.values in elementwise.MASKS)
        rec.mark(out, tag if keep else replace(tag, values=None))
    return out


def interpolate(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Nearest-neighbour resizing copies elements; any other mode is arithmetic that no rule covers."""
    mode = kwargs.get("mode", args[3] if len(args) > 3 else "nearest")
    if mode.startswith("nearest"):
        return part(rec, func, args, kwargs)
    out = func(*args, **kwargs)
    rec.uncounted(f"interpolate ({mode})", out)
    return out


def power(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """x² is a product; other powers are special functions."""
    exponent = args[1] if len(args) > 1 else kwargs.get("exponent", 2)
    return (elementwise.square if exponent == 2 else elementwise.special)(rec, func, args, kwargs)


def names(text: str) -> list[str]:
    """Words, so that the table below reads as one."""
    return text.split()


_TABLE: tuple[tuple[Handler, str], ...] = (
    (synapses.conv, "conv1d conv2d conv3d"),
    (synapses.conv_transpose, "conv_transpose1d conv_transpose2d conv_transpose3d"),
    (synapses.linear, "linear"),
    (products.matmul, "matmul rmatmul mm bmm mv dot inner"),
    (products.matmul_add, "addmm baddbmm addmv"),
    (products.einsum, "einsum"),
    (products.attention, "scaled_dot_product_attention"),
    (composites.multi_head_attention, "multi_head_attention_forward"),
    (composites.recurrent, "lstm gru rnn_tanh rnn_relu"),
    (composites.recurrent_cell, "lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell"),
    (composites.bilinear, "bilinear"),
    (elementwise.add, "add radd iadd sub rsub isub subtract"),
    (elementwise.mul, "mul rmul imul multiply div truediv rtruediv itruediv divide"),
    (elementwise.scale, "neg negative"),
    (power, "pow square"),
    (
        elementwise.mask,
        """and rand iand or ror ior xor rxor ixor logical_and logical_or logical_xor
        bitwise_and bitwise_or bitwise_xor""",
    ),
    (elementwise.reduce, "sum mean"),
    (
        elementwise.avg_pool,
        """avg_pool1d avg_pool2d avg_pool3d
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d""",
    ),
    (
        elementwise.max_pool,
        """max_pool1d max_pool2d max_pool3d
        max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
        adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
        adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices""",
    ),
    (elementwise.norm, "batch_norm layer_norm group_norm instance_norm native_layer_norm rms_norm"),
    (
        elementwise.compare,
        """relu relu6 leaky_relu prelu hardtanh clamp clip clamp_min clamp_max threshold heaviside sign abs
        gt ge lt le eq ne greater greater_equal less less_equal
        maximum minimum max min amax amin argmax argmin round floor ceil""",
    ),
    (
        elementwise.special,
        """exp log sqrt rsqrt sigmoid tanh softmax log_softmax gelu silu elu softplus mish erf sin cos
        reciprocal hardsigmoid hardswish""",
    ),
    (
        view,  # dropout among them: it is the identity at inference
        """view reshape flatten unflatten transpose permute movedim moveaxis swapaxes swapdims t
        squeeze unsqueeze contiguous clone detach view_as reshape_as flip roll ravel
        dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout""",
    ),
    (
        part,
        """getitem select narrow chunk split split_with_sizes tensor_split unbind iter index_select gather
        diagonal masked_select take unfold as_strided expand expand_as broadcast_to broadcast_tensors repeat
        repeat_interleave tile pad masked_fill pixel_shuffle pixel_unshuffle""",
    ),
    (join, "cat concat concatenate stack hstack vstack where"),
    (
        fresh,
        """rand_like randn_like bernoulli poisson embedding one_hot nonzero argsort
        invert logical_not bitwise_not isnan isfinite isinf any all""",
    ),
    (blank, "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty new_tensor"),
    (write, "setitem copy fill zero index_put scatter masked_scatter"),
    (to, "to float double half bfloat16 type type_as cpu cuda bool int long short char byte"),
    (interpolate, "interpolate upsample"),
)
RULES: dict[str, Handler] = {name: handler for handler, text in _TABLE for name in names(text)}

ASIDE = frozenset(  # questions about a tensor, not work on it
    names("""
    size dim numel nelement stride storage_offset is_contiguous is_floating_point is_complex ndimension
    get_device data_ptr untyped_storage storage element_size len item tolist hash repr str format index
    backward numpy array register_hook is_same_size has_names is_nonzero result_type can_cast is_tensor
    is_storage is_pinned retain_grad set deepcopy reduce_ex dlpack dlpack_device equal allclose
    has_torch_function get_default_dtype finfo iinfo promote_types broadcast_shapes requires_grad
    is_grad_enabled is_inference_mode_enabled is_autocast_enabled contains
    """)
)
