"""The table: for each torch function its counting rule, torch's names of its parameters, and its rows.

How a row is decided stands in `resolve.ROWS`; importing this module fails where one of the two names a row
that the other does not.  Functions go by their names without the underscores that mark in-place and operator
forms.  A function that is in no table and touches activations becomes a row `uncounted`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snn_energy.profiling.resolve import ROWS


@dataclass(frozen=True)
class Operation:
    """`rule`: module and function in this package; `rows`: what it may count in; `parameters`: in order."""

    rule: str
    rows: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ("input",)


def _names(text: str) -> list[str]:
    """The words of a text, so that tables below read as text."""
    return text.split()


_CONV = "input weight bias stride padding dilation groups"
_TRANSPOSED = "input weight bias stride padding output_padding groups dilation"
_POOL = "input kernel_size stride padding"
_HEADS = """query key value embed_dim_to_check num_heads in_proj_weight in_proj_bias bias_k bias_v
    add_zero_attn dropout_p out_proj_weight out_proj_bias training key_padding_mask need_weights attn_mask
    use_separate_proj_weight q_proj_weight k_proj_weight v_proj_weight"""
_GATES = "linear special mul add"

# rule | rows | parameters | functions
_TABLE: tuple[tuple[str, str, str, str], ...] = (
    ("synapses.conv", "conv1d conv2d conv3d", _CONV, "conv1d conv2d conv3d"),
    (
        "synapses.conv_transpose",
        "conv_transpose1d conv_transpose2d conv_transpose3d",
        _TRANSPOSED,
        "conv_transpose1d conv_transpose2d conv_transpose3d",
    ),
    ("synapses.linear", "linear matmul", "input weight bias", "linear"),
    ("products.matmul", "matmul", "input other", "matmul rmatmul linalg_matmul"),
    ("products.inner", "matmul", "input other", "inner"),
    ("products.matmul", "matmul", "input mat2", "mm bmm"),
    ("products.matmul", "matmul", "input vec", "mv"),
    ("products.matmul", "matmul", "input tensor", "dot"),
    ("products.matmul_add", "matmul", "input mat1 mat2", "addmm"),
    ("products.matmul_add", "matmul", "input batch1 batch2", "baddbmm"),
    ("products.matmul_add", "matmul", "input mat vec", "addmv"),
    ("products.einsum", "matmul", "equation operands", "einsum"),
    (
        "products.attention",
        "matmul",
        "query key value attn_mask dropout_p is_causal scale enable_gqa",
        "scaled_dot_product_attention",
    ),
    ("composites.multi_head_attention", "linear matmul", _HEADS, "multi_head_attention_forward"),
    (
        "composites.recurrent",
        _GATES,
        "input hx params has_biases num_layers dropout train bidirectional batch_first",
        "lstm gru rnn_tanh rnn_relu",
    ),
    (
        "composites.recurrent_cell",
        _GATES,
        "input hx w_ih w_hh b_ih b_hh",
        "lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
    ),
    ("composites.bilinear", "matmul", "input1 input2 weight bias", "bilinear"),
    ("elementwise.add", "add", "input other alpha", "add radd iadd sub rsub isub subtract"),
    ("elementwise.mul", "mul scale", "input other", "mul rmul imul multiply"),
    (
        "elementwise.div",
        "mul scale special compare",
        "input other",
        """div truediv rdiv rtruediv itruediv divide true_divide
        floor_divide floordiv rfloordiv ifloordiv""",
    ),
    ("elementwise.negate", "scale", "input", "neg negative deg2rad rad2deg"),
    ("elementwise.power", "mul special", "input exponent", "pow float_power"),
    ("elementwise.power", "mul special", "input", "square"),
    ("elementwise.power", "mul special", "input other", "rpow ipow"),
    (
        "elementwise.logic",
        "mul",
        "input other",
        """and rand iand or ror ior xor rxor ixor logical_and logical_or logical_xor
        bitwise_and bitwise_or bitwise_xor""",
    ),
    ("elementwise.invert", "", "input", "invert logical_not bitwise_not"),
    ("elementwise.reduce", "sum mean", "input dim keepdim", "sum mean nansum nanmean"),
    (
        "pooling.avg_pool",
        "avg_pool",
        _POOL,
        "avg_pool1d",
    ),
    (
        "pooling.avg_pool",
        "avg_pool",
        f"{_POOL} ceil_mode count_include_pad divisor_override",
        "avg_pool2d avg_pool3d",
    ),
    (
        "pooling.avg_pool",
        "avg_pool",
        "input output_size",
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d",
    ),
    (
        "pooling.max_pool",
        "max_pool",
        _POOL + " dilation",
        """max_pool1d max_pool2d max_pool3d
        max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices""",
    ),
    (
        "pooling.max_pool",
        "max_pool",
        "input output_size",
        """adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
        adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices""",
    ),
    (
        "elementwise.norm",
        "norm",
        "input running_mean running_var weight bias training",
        "batch_norm instance_norm",
    ),
    ("elementwise.norm", "norm", "input normalized_shape weight bias eps", "layer_norm native_layer_norm"),
    ("elementwise.norm", "norm", "input num_groups weight bias eps", "group_norm"),
    ("elementwise.norm", "norm", "input normalized_shape weight eps", "rms_norm"),
    (
        "elementwise.compare",
        "compare",
        "input other",
        """gt ge lt le eq ne greater greater_equal less less_equal not_equal isclose
        maximum minimum max min fmax fmin""",
    ),
    ("elementwise.compare", "compare", "input", "relu relu6 abs absolute aminmax"),
    ("elementwise.compare", "compare", "input dim keepdim", "amax amin argmax argmin"),
    ("elementwise.compare", "compare", "input min max", "clamp clip"),
    ("elementwise.compare", "compare", "input min", "clamp_min"),
    ("elementwise.compare", "compare", "input max", "clamp_max"),
    ("elementwise.compare", "compare", "input min_val max_val", "hardtanh"),
    ("elementwise.compare", "compare", "input threshold value", "threshold"),
    ("elementwise.compare", "compare", "input negative_slope", "leaky_relu"),
    ("elementwise.compare", "compare", "input weight", "prelu"),
    ("elementwise.compare", "compare", "input lambd", "hardshrink softshrink"),
    ("elementwise.compare", "compare", "input nan posinf neginf", "nan_to_num"),
    (
        "elementwise.quantise",
        "compare",
        "input",
        "heaviside sign sgn signbit round floor ceil trunc fix special_round",
    ),
    (
        "elementwise.special",
        "special",
        "input",
        """exp log sqrt rsqrt sigmoid tanh softmax log_softmax gelu silu elu softplus mish erf sin cos
        reciprocal hardsigmoid hardswish special_erf special_softmax special_log_softmax
        exp2 expm1 log1p log2 log10 logit erfc tan sinh cosh asin acos atan asinh acosh atanh
        arcsin arccos arctan arcsinh arccosh arctanh selu celu softsign softmin log_sigmoid sinc
        special_expit special_exp2 special_expm1 special_log1p special_logit special_erfc special_sinc
        atan2 arctan2 hypot logaddexp logaddexp2 xlogy special_xlogy""",
    ),
    (
        "movement.view",
        "",
        "input",
        """view reshape flatten unflatten contiguous clone detach view_as reshape_as flip roll ravel
        squeeze positive fliplr flipud rot90 reversed conj resolve_conj resolve_neg""",
    ),
    ("movement.transpose", "", "input dim0 dim1", "transpose swapaxes swapdims"),
    ("movement.transpose", "", "input", "t adjoint"),
    ("movement.permute", "", "input dims", "permute"),
    ("movement.movedim", "", "input source destination", "movedim moveaxis"),
    ("movement.unsqueeze", "", "input dim", "unsqueeze"),
    (
        "movement.dropout",
        "scale",
        "input p training",
        "dropout dropout1d dropout2d dropout3d feature_dropout",
    ),
    ("movement.alpha_dropout", "uncounted", "input p training", "alpha_dropout feature_alpha_dropout"),
    (
        "movement.part",
        "",
        "input",
        """getitem select narrow chunk split split_with_sizes tensor_split unbind iter index_select gather
        unsafe_chunk unsafe_split hsplit vsplit dsplit take_along_dim tril triu diag diag_embed
        channel_shuffle diagonal linalg_diagonal masked_select take unfold as_strided
        pixel_shuffle pixel_unshuffle""",
    ),
    ("movement.widen", "", "input", "expand expand_as broadcast_to repeat tile"),
    ("movement.broadcast_together", "", "", "broadcast_tensors meshgrid atleast_1d atleast_2d atleast_3d"),
    ("movement.repeat_interleave", "", "input repeats dim", "repeat_interleave"),
    ("movement.masked_fill", "", "input mask value", "masked_fill"),
    ("movement.pad", "", "input pad mode value", "pad"),
    ("movement.join", "", "tensors dim", "cat concat concatenate"),
    ("movement.join", "", "tensors", "hstack vstack dstack column_stack row_stack"),
    ("movement.stack", "", "tensors dim", "stack"),
    ("movement.where", "", "condition input other", "where"),
    (
        "movement.fresh",
        "",
        "input",
        "embedding one_hot nonzero argsort isnan isfinite isinf any all argwhere isposinf isneginf",
    ),
    ("movement.noise", "", "input", "rand_like randn_like randint_like"),
    ("movement.draw", "", "input", "bernoulli poisson"),
    (
        "movement.blank",
        "",
        "input",
        "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty new_tensor",
    ),
    (
        "movement.write",
        "",
        "input",
        "setitem masked_scatter index_copy index_fill select_scatter slice_scatter",
    ),
    ("movement.write_at", "uncounted", "input indices values accumulate", "index_put"),
    ("movement.write_at", "uncounted", "input dim index src", "scatter"),
    ("movement.write", "", "input src", "copy"),
    ("movement.write", "", "input value", "fill"),
    ("movement.write", "", "input", "zero"),
    (
        "movement.convert",
        "",
        "input",
        "to float double half bfloat16 type type_as cpu cuda bool int long short char byte",
    ),
    (
        "movement.interpolate",
        "uncounted",
        "input size scale_factor mode",
        "interpolate upsample",
    ),
)
OPERATIONS: Mapping[str, Operation] = {
    name: Operation(rule, tuple(rows.split()), tuple(parameters.split()))
    for rule, rows, parameters, names in _TABLE
    for name in names.split()
}
# functions whose operands stand in the reverse of their arithmetic
REVERSED = frozenset(_names("radd rsub rmul rdiv rtruediv rfloordiv rpow rmatmul rand ror rxor"))
# torch's other orders of parameters: (function, arguments by position) -> their names
OTHERWISE: Mapping[tuple[str, int], tuple[str, ...]] = {
    (name, len(names.split())): tuple(names.split())
    for functions, names in (
        ("add sub subtract", "input alpha other"),  # deprecated, and taken all the same
        ("addmm", "beta input mat1 mat2"),
        ("addmm", "beta input alpha mat1 mat2"),
        ("addmv", "beta input mat vec"),
        ("addmv", "beta input alpha mat vec"),
        ("baddbmm", "beta input batch1 batch2"),
        ("baddbmm", "beta input alpha batch1 batch2"),
        # torch's own, as functional has another order
        ("batch_norm", "input weight bias running_mean running_var training momentum eps cudnn_enabled"),
        (
            "instance_norm",
            "input weight bias running_mean running_var use_input_stats momentum eps cudnn_enabled",
        ),
    )
    for name in functions.split()
}
# other names that torch takes for a parameter
ALIASES: Mapping[str, str] = {
    "x": "input", "a": "input", "x1": "input", "self": "input", "x2": "other", "axis": "dim", "axis0": "dim0",
    "axis1": "dim1", "use_input_stats": "training", "keepdims": "keepdim", "train": "training",
    "matrices": "tensors",
}  # fmt: skip

ASIDE = frozenset(  # questions about a tensor, not work on it
    _names("""
    size dim numel nelement stride storage_offset is_contiguous is_floating_point is_complex ndimension
    get_device data_ptr untyped_storage storage element_size len hash repr str format index
    backward register_hook is_same_size has_names is_nonzero result_type can_cast is_tensor
    is_conj is_neg is_signed is_inference is_shared is_coalesced dim_order
    is_storage is_pinned retain_grad deepcopy reduce_ex equal allclose
    has_torch_function get_default_dtype finfo iinfo promote_types broadcast_shapes requires_grad
    is_grad_enabled is_inference_mode_enabled is_autocast_enabled contains
    """)
)
TAKES_OUT = frozenset(_names("tolist numpy array dlpack dlpack_device item float int"))  # values leave torch
# functions that make a tensor from numbers, or put numbers into one: where the first of these stands
MAKES: Mapping[str, int] = {
    **dict.fromkeys(_names("tensor as_tensor asarray scalar_tensor frombuffer"), 0),
    **dict.fromkeys(_names("full full_like new_tensor fill where add radd iadd sub rsub isub subtract"), 1),
    **dict.fromkeys(
        _names("mul rmul imul multiply div truediv rdiv rtruediv itruediv divide pow rpow ipow"), 1
    ),
    **dict.fromkeys(_names("true_divide floor_divide floordiv rfloordiv ifloordiv"), 1),
    **dict.fromkeys(_names("new_full setitem masked_fill"), 2),
}
# their keywords
NUMBERS = tuple(_names("data obj s buffer fill_value value input other exponent"))
# made by chance: no constants, though nothing of the input is in them
DRAWS = frozenset(
    _names("""
    rand randn randint normal bernoulli poisson binomial multinomial rand_like randn_like randint_like
    uniform random exponential cauchy geometric log_normal
    """)
)


def check() -> None:
    """Raise `ImportError` unless the rows that rules make and those that can be decided are the same."""
    made = {row for operation in OPERATIONS.values() for row in operation.rows} | {"uncounted"}
    if made != ROWS.keys():
        one, other = sorted(made - ROWS.keys()), sorted(ROWS.keys() - made)
        raise ImportError(f"rows that no decision is for: {one}; rows that no rule makes: {other}")


check()
