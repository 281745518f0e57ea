"""Published architectures, described from their constructor parameters: shapes only, for `reproduce`.

Each function returns a `Net`; `build` makes one from a mapping such as `{build: spikformer, depth: 8,
dim: 512}`.  What a description must get right is checked in the tests against published parameter counts
and MAC counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from snn_energy.energy.hierarchical import max_former, meta_spikeformer, qkformer, spikingresformer
from snn_energy.energy.shapes import Net, Shape
from snn_energy.energy.vision import pvt_large, swin_base, vit
from snn_energy.errors import ConfigError, suggest
from snn_energy.records import short


def spikformer(
    depth: int = 8,
    dim: int = 512,
    time_steps: int = 4,
    size: int = 224,
    classes: int = 1000,
    heads: int = 8,
    pools: str = "1111",
    qkv_bias: bool = True,
    name: str = "Spikformer",
) -> Net:
    """Spikformer (arXiv:2209.15425): SPS with a relative position convolution, softmax-free attention.

    The head reads the mean over tokens and steps.  Two layer norms per block exist and never run.
    """
    net = Net(f"{name}-{depth}-{dim}", time_steps)
    shape = _patches(net, "patch_embed", dim, 3, size, pools)
    for i in range(depth):
        block = f"block.{i}"
        net.unused(4 * dim)
        for part in "qkv":
            net.linear(f"{block}.attn.{part}", shape, dim, bias=qkv_bias, norm=True, role="attention")
        tokens, width = shape[1] * shape[2], dim // heads
        scores = net.product(f"{block}.attn", (heads, tokens, width), (heads, width, tokens))
        net.product(f"{block}.attn", scores, (heads, tokens, width), fed=("real", "spikes"), site=1)
        net.linear(f"{block}.attn.proj", shape, dim, norm=True, role="attention")
        hidden = net.linear(f"{block}.mlp.fc1", shape, 4 * dim, norm=True)
        net.linear(f"{block}.mlp.fc2", hidden, dim, norm=True)
    net.linear("head", (dim,), classes, fed="real", steps=1, role="head")
    return net


def spikingformer(depth: int = 8, dim: int = 512, **given: Any) -> Net:
    """Spikingformer (arXiv:2304.11954): the shapes of Spikformer, its Q, K and V without bias."""
    return spikformer(depth, dim, qkv_bias=False, name="Spikingformer", **given)


def spike_driven(
    depth: int = 8,
    dim: int = 512,
    time_steps: int = 4,
    size: int = 224,
    classes: int = 1000,
    heads: int = 8,
    pools: str = "1111",
    channels: int = 3,
    mask: bool = True,
) -> Net:
    """Spike-driven Transformer (arXiv:2307.01694), or with `mask=False` STAtten's products Kᵀ V and Q (Kᵀ V).

    The head reads spikes at every step.  `talking_heads` exists and never runs.
    """
    net = Net(f"SDT-{depth}-{dim}" if mask else f"STAtten-{depth}-{dim}", time_steps)
    shape = _patches(net, "patch_embed", dim, channels, size, pools)
    tokens, width = shape[1] * shape[2], dim // heads
    for i in range(depth):
        block = f"block.{i}"
        net.unused(heads * heads)
        for part in "qkv":
            net.conv(f"{block}.attn.{part}_conv", shape, dim, role="attention")
        if not mask:
            state = net.product(f"{block}.attn", (heads, width, tokens), (heads, tokens, width))
            net.product(f"{block}.attn", (heads, tokens, width), state, fed=("spikes", "real"), site=1)
        net.conv(f"{block}.attn.proj_conv", shape, dim, bias=True, role="attention")
        hidden = net.conv(f"{block}.mlp.fc1_conv", shape, 4 * dim, bias=True)
        net.conv(f"{block}.mlp.fc2_conv", hidden, dim, bias=True)
    net.linear("head", (dim,), classes, role="head")
    return net


def statten(depth: int = 8, dim: int = 512, **given: Any) -> Net:
    """STAtten (arXiv:2409.19764) on the spike-driven backbone.

    The tokens of a chunk of steps attend jointly, Kᵀ V before Q: nothing here depends on the chunk.
    """
    return spike_driven(depth, dim, mask=False, **given)


def _patches(net: Net, block: str, dim: int, channels: int, size: int, pools: str) -> Shape:
    """Four 3×3 convolutions of widths E/8, E/4, E/2, E, each with an optional 3×3/2 pool, and a fifth."""
    shape: Shape = (channels, size, size)
    for i, (share, pooled) in enumerate(zip((8, 4, 2, 1), pools, strict=True)):
        shape = net.conv(f"{block}.conv{i}", shape, dim // share, 3, 1, 1, fed="spikes" if i else "image")
        if pooled == "1":
            half = (shape[0], (shape[1] + 1) // 2, (shape[2] + 1) // 2)
            shape = net.pool(f"{block}.pool{i}", shape, half)
    return net.conv(f"{block}.rpe", shape, dim, 3, 1, 1)


RESNETS: Mapping[int, tuple[bool, tuple[int, int, int, int]]] = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}


def resnet(
    depth: int = 18, kind: str = "spiking", time_steps: int = 4, size: int = 224, classes: int = 1000
) -> Net:
    """ImageNet ResNets: `ann`, `spiking` (LIF; the sum enters a neuron), `sew` (IF; the sum of spikes 0, 1,
    2 … goes on: Fang et al., 2021), `dual` (IF; logical sums and an accumulation pathway that runs beside
    them: DSNN, Chen et al., 2023).

    The spiking ones run the first convolution and its norm once and the head on the mean over steps.
    """
    bottleneck, counts = _resnet_plan(depth, kind)
    net = Net(f"{kind}-ResNet-{depth}", 1 if kind == "ann" else time_steps)
    shape = net.conv("conv1", (3, size, size), 64, 7, 2, 3, fed="image", steps=1)
    shape = _fire(net, "sn1", shape, kind)
    fed: Any = "real" if kind == "ann" else "spikes"
    shape = net.pool("maxpool", shape, (64, (shape[1] + 1) // 2, (shape[2] + 1) // 2), fed=fed)
    for stage, (width, count) in enumerate(zip((64, 128, 256, 512), counts, strict=True), 1):
        for i in range(count):
            stride = 2 if stage > 1 and i == 0 else 1
            shape = _residual(net, f"layer{stage}.{i}", shape, width, stride, bottleneck, kind, fed)
            fed = {"ann": "real", "sew": "integer"}.get(kind, "spikes")
    shape = net.pool("avgpool", shape, (shape[0], 1, 1), fed=fed, op="avg_pool")
    net.linear("fc", (shape[0],), classes, fed="real", steps=1, role="head")
    if kind == "dual":
        net.pool("avgpool_acc", (shape[0], size // 32, size // 32), shape, fed="real", op="avg_pool")
        before = net.parameters
        net.linear("fc_acc", (shape[0],), classes, fed="real", steps=1, role="head")
        net.parameters = before  # the same weights
    return net


def _resnet_plan(depth: int, kind: str) -> tuple[bool, tuple[int, int, int, int]]:
    if depth not in RESNETS:
        raise ConfigError(f"resnet: depth {depth!r} is not one of {', '.join(map(str, RESNETS))}")
    if kind not in ("ann", "spiking", "sew", "dual"):
        raise ConfigError(f"resnet: kind {kind!r}; {suggest(kind, ('ann', 'spiking', 'sew', 'dual'))}")
    return RESNETS[depth]


def _residual(
    net: Net, name: str, shape: Shape, width: int, stride: int, bottleneck: bool, kind: str, fed: Any
) -> Shape:
    inner: Any = "real" if kind == "ann" else "spikes"
    out_width = 4 * width if bottleneck else width
    plan = [(width, 1, 1), (width, 3, stride), (out_width, 1, 1)] if bottleneck else None
    plan = plan or [(width, 3, stride), (width, 3, 1)]
    out = shape
    for i, (channels, kernel, step) in enumerate(plan, 1):
        entering = fed if i == 1 else inner
        out = net.conv(f"{name}.conv{i}", out, channels, kernel, step, kernel // 2, fed=entering)
        out = _fire(net, f"{name}.sn{i}", out, kind)
    if stride != 1 or shape[0] != out_width:
        net.conv(f"{name}.downsample", shape, out_width, 1, stride, fed=fed)
        if kind in ("sew", "dual"):
            _fire(net, f"{name}.downsample_sn", out, kind)
        if kind == "dual":
            half = net.conv(
                f"{name}.pool.0", shape, shape[0], 3, stride, 1, groups=shape[0], norm=False, fed="real"
            )
            net.conv(f"{name}.pool.1", half, out_width, fed="real")
    return out


def _fire(net: Net, name: str, shape: Shape, kind: str) -> Shape:
    return shape if kind == "ann" else net.neuron(name, shape, leaky=kind == "spiking")


def staa_resnet20(time_steps: int = 4, size: int = 32, classes: int = 10, reduction: int = 4) -> Net:
    """STAA-SNN's CIFAR network as reconstructed from its printed figures: no code is public.

    A stem of three convolutions of width 64, 2×2 average pooling, four stages of two basic blocks, average
    pooling in the shortcuts; every neuron aggregates two global-context blocks and a position embedding.
    """
    net = Net("STAA-ResNet-20", time_steps)
    shape: Shape = (3, size, size)
    for i in range(3):
        shape = net.conv(f"stem.{i}", shape, 64, 3, 1, 1, fed="spikes" if i else "image")
        _aggregate(net, f"stem.{i}", shape, reduction)
    shape = net.pool("stem.pool", shape, (64, size // 2, size // 2), op="avg_pool")
    fed: Any = "real"
    for stage, width in enumerate((64, 128, 256, 512)):
        for i in range(2):
            name, stride = f"layer{stage + 1}.{i}", 2 if stage and not i else 1
            if stride == 2:
                half = (shape[0], shape[1] // 2, shape[2] // 2)
                net.pool(f"{name}.shortcut_pool", shape, half, op="avg_pool")
                net.conv(f"{name}.shortcut", half, width, fed="real")
            shape = net.conv(f"{name}.conv1", shape, width, 3, stride, 1, fed=fed)
            _aggregate(net, f"{name}.sn1", shape, reduction)
            shape = net.conv(f"{name}.conv2", shape, width, 3, 1, 1)
            _aggregate(net, f"{name}.sn2", shape, reduction)
            fed = "spikes"
    net.pool("avgpool", shape, (512, 1, 1), op="avg_pool")
    net.linear("fc", (512,), classes, fed="real", role="head")
    return net


def _aggregate(net: Net, name: str, shape: Shape, reduction: int) -> None:
    """STAA-LIF: two GC blocks (Conv_k, the weighted sum, Conv_q, LN, Conv_v), PE, and the neuron."""
    channels, positions = shape[0], shape[1] * shape[2]
    for gc in ("gc1", "gc2"):
        net.linear(f"{name}.{gc}.k", (channels, positions), 1, fed="real")
        net.product(f"{name}.{gc}.sum", (channels, positions), (positions, 1), fed=("real", "real"))
        small = net.linear(f"{name}.{gc}.q", (channels,), channels // reduction, fed="real")
        net.norm(f"{name}.{gc}.ln", small, folded=False)
        net.linear(f"{name}.{gc}.v", small, channels, fed="real")
    net.unused(net.time_steps * channels)
    net.neuron(f"{name}.lif", shape)


LARGEST_SIZE = 100_000  # of an image, a width, a number of classes

BUILDERS: Mapping[str, Callable[..., Net]] = {
    "spikformer": spikformer,
    "spikingformer": spikingformer,
    "spike-driven": spike_driven,
    "statten": statten,
    "qkformer": qkformer,
    "max-former": max_former,
    "spikingresformer": spikingresformer,
    "meta-spikeformer": meta_spikeformer,
    "resnet": resnet,
    "staa-resnet20": staa_resnet20,
    "vit": vit,
    "swin-base": swin_base,
    "pvt-large": pvt_large,
}


def build(record: Mapping[str, Any]) -> Net:
    """The network that `{build: NAME, parameter: value, …}` describes.  Raises `ConfigError`."""
    name = str(record.get("build", ""))
    if name not in BUILDERS:
        raise ConfigError(f"architecture {name!r} is not described; {suggest(name, BUILDERS)}")
    try:
        return BUILDERS[name](**{k: _size(k, v, name) for k, v in record.items() if k != "build"})
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise ConfigError(f"architecture {name!r}: {error}") from None


def _size(key: Any, value: Any, name: str) -> Any:
    """A parameter as it is: a name, a truth value, or numbers from 0 to `LARGEST_SIZE`, perhaps in lists."""
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, list | tuple):
            _size(key, item, name)
        elif not isinstance(item, str | bool | int | float) or (
            not isinstance(item, str) and not 0 <= item <= LARGEST_SIZE
        ):
            raise ConfigError(
                f"architecture {name!r}: {key} = {short(item)}: must be 0 to {LARGEST_SIZE:,}, or a name"
            )
    return value
