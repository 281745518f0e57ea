"""Hierarchical spiking transformers as shapes: QKFormer, Max-Former, SpikingResformer, Meta-SpikeFormer.

Shapes are those of the authors' public code (github.com: zhouchenlin2096/QKFormer, bic-L/MaxFormer,
xyshi2000/SpikingResformer, BICLab/Spike-Driven-Transformer-V2).  Neurons have no parameters and are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from snn_energy.energy.shapes import Fed, Net, Shape, conv_output
from snn_energy.errors import ConfigError


def qkformer(
    dim: int = 384,
    depths: Sequence[int] = (1, 2, 7),
    time_steps: int = 4,
    size: int = 224,
    classes: int = 1000,
    channels: int = 3,
    ratio: int = 4,
) -> Net:
    """QKFormer (arXiv:2403.16552), HST-10-`dim`: Q-K attention in two stages, self-attention in the third.

    Sums of spikes run along the shortcuts, so that what enters a stage's layers are small integers.  Q-K
    attention masks K by a sum over Q: no product, hence no row.  The head reads the mean over steps.
    """
    _three("qkformer", "depths", depths)
    net = Net(f"QKFormer-{sum(depths)}-{dim}", time_steps)
    shape = _deformed_first(net, "patch_embed1", (channels, size, size), dim // 4)
    for stage, count in enumerate(depths, 1):
        if stage > 1:
            shape = _deformed(net, f"patch_embed{stage}", shape, dim * 2**stage // 8)
        for i in range(count):
            name, width = f"stage{stage}.{i}", shape[0]
            for part in "qk" if stage < 3 else "qkv":
                net.conv(f"{name}.attn.{part}_conv", shape, width, fed="integer", role="attention")
            if stage == 3:
                _state_products(net, f"{name}.attn", shape, heads=width // 64)
            net.conv(f"{name}.attn.proj_conv", shape, width, bias=True, role="attention")
            _mlp(net, f"{name}.mlp", shape, ratio, fed="integer")
    net.linear("head", (dim,), classes, fed="real", steps=1, role="head")
    return net


def _deformed_first(net: Net, name: str, image: Shape, width: int) -> Shape:
    """Two 3×3 convolutions, each pooled 3×3/2, a third, and a strided 1×1 shortcut from behind the first."""
    half = _pooled(net, f"{name}.proj_maxpool", _conv3(net, f"{name}.proj_conv", image, width // 2, "image"))
    out = _pooled(net, f"{name}.proj1_maxpool", _conv3(net, f"{name}.proj1_conv", half, width))
    net.conv(f"{name}.proj_res_conv", half, width, 1, 2)
    return _conv3(net, f"{name}.proj2_conv", out, width)


def _deformed(net: Net, name: str, shape: Shape, width: int) -> Shape:
    """A 3×3 convolution pooled 3×3/2, another, and a strided 1×1 shortcut around both."""
    out = _pooled(net, f"{name}.proj3_maxpool", _conv3(net, f"{name}.proj3_conv", shape, width, "integer"))
    net.conv(f"{name}.proj_res_conv", shape, width, 1, 2, fed="integer")
    return _conv3(net, f"{name}.proj4_conv", out, width)


def max_former(
    dim: int = 384,
    depths: Sequence[int] = (1, 2, 7),
    time_steps: int = 4,
    size: int = 224,
    classes: int = 1000,
    channels: int = 3,
    ratio: int = 4,
    cifar: bool = False,
) -> Net:
    """Max-Former (arXiv:2505.18608): depthwise convolutions in two stages, self-attention in the third.

    `cifar`: the form for small images, with `depths` (1, 1, 2): its first stage halves nothing and mixes
    nothing, and its head reads the mean over steps.
    """
    _three("max-former", "depths", depths)
    net = Net(f"Max-Former-{sum(depths)}-{dim}", time_steps)
    image, first = (channels, size, size), dim // 4
    stride = 1 if cifar else 2
    half = net.conv("patch_embed1.embed1", image, first // 2, 3, stride, 1, fed="image")
    shape = net.conv("patch_embed1.embed2", half, first, 3, stride, 1)
    net.conv("patch_embed1.shortcut", half, first, 1, stride)
    if not cifar:
        shape = _conv3(net, "patch_embed1.embed3", shape, first)
    for stage, (count, kernel) in enumerate(zip(depths, (0, 3, 0) if cifar else (7, 5, 0), strict=True), 1):
        if stage > 1:
            shape = _max_patches(net, f"patch_embed{stage}", shape, 2 * shape[0])
        for i in range(count):
            name, width = f"stage{stage}.{i}", shape[0]
            if kernel:
                net.conv(f"{name}.mixer", shape, width, kernel, 1, kernel // 2, groups=width, bias=True)
            if stage == 3:
                for part in "qkv":
                    net.conv(f"{name}.attn.{part}_conv", shape, width, role="attention")
                _state_products(net, f"{name}.attn", shape, heads=8 if cifar else width // 64)
                net.conv(f"{name}.attn.proj_conv", shape, width, bias=True, role="attention")
            _mlp(net, f"{name}.mlp", shape, ratio)
    head: Fed = "real" if cifar else "spikes"
    net.linear("head", (dim,), classes, fed=head, steps=1 if cifar else None, role="head")
    return net


def _max_patches(net: Net, name: str, shape: Shape, width: int) -> Shape:
    """A 3×3 convolution pooled 3×3/2, another, and a pooled 1×1 shortcut: pools follow the currents."""
    out = _conv3(net, f"{name}.max_embed1", shape, width)
    out = _pooled(net, f"{name}.max_embed1_pool", out, fed="real")
    wide = net.conv(f"{name}.shortcut", shape, width)
    _pooled(net, f"{name}.shortcut_pool", wide, fed="real")
    return _conv3(net, f"{name}.embed1", out, width)


def spikingresformer(
    planes: Sequence[int] = (64, 192, 384),
    depths: Sequence[int] = (1, 2, 3),
    patches: Sequence[int] = (4, 2, 1),
    time_steps: int = 4,
    size: int = 224,
    classes: int = 1000,
    channels: int = 3,
    group: int = 64,
    name: str = "SpikingResformer-Ti",
) -> Net:
    """SpikingResformer (arXiv:2403.14302): dual spike self-attention and a grouped feed-forward network.

    Ti as it stands; S, M, L: `planes` (64, 256, 512), (64, 384, 768), (128, 512, 1024).  The products of the
    attention have a current on one side and spikes on the other.  The head reads currents at every step.
    """
    for what, values in (("planes", planes), ("depths", depths), ("patches", patches)):
        _three("spikingresformer", what, values)
    net = Net(name, time_steps)
    shape = net.conv("prologue.0", (channels, size, size), planes[0], 7, 2, 3, fed="image")
    shape = _pooled(net, "prologue.2", shape, fed="real")
    for stage, (width, count, patch) in enumerate(zip(planes, depths, patches, strict=True)):
        if stage:
            shape = net.conv(f"downsample.{stage}", shape, width, 3, 2, 1)
        for i in range(count):
            block = f"layers{stage}.{i}"
            _dual_attention(net, f"{block}.dssa", shape, patch, heads=width // 64)
            hidden = net.conv(f"{block}.ffn.up", shape, 4 * width)
            net.conv(f"{block}.ffn.conv", hidden, 4 * width, 3, 1, 1, groups=4 * width // group)
            net.conv(f"{block}.ffn.down", hidden, width)
    net.pool("avgpool", shape, (shape[0], 1, 1), fed="real", op="avg_pool")
    net.linear("classifier", (shape[0],), classes, bias=False, fed="real", role="head")
    return net


def _dual_attention(net: Net, name: str, shape: Shape, patch: int, heads: int) -> None:
    """One patch convolution gives two currents Y₁, Y₂ of d × n per head: Y₁ᵀ X, then Y₂ (Y₁ᵀ X as spikes)."""
    width, tokens = shape[0], shape[1] * shape[2]
    coarse = net.conv(f"{name}.W", shape, 2 * width, patch, patch, role="attention")
    d, few = width // heads, coarse[1] * coarse[2]
    net.product(name, (heads, few, d), (heads, d, tokens), fed=("real", "spikes"))
    net.product(name, (heads, d, few), (heads, few, tokens), fed=("real", "spikes"), site=1)
    net.conv(f"{name}.Wproj", shape, width, role="attention")


def meta_spikeformer(
    widths: Sequence[int] = (96, 192, 384, 480),
    time_steps: int = 4,
    size: int = 224,
    classes: int = 1000,
    channels: int = 3,
    heads: int = 8,
    ratio: int = 4,
    merged: bool = False,
    name: str = "Meta-SpikeFormer",
) -> Net:
    """Meta-SpikeFormer, Spike-driven Transformer V2 (arXiv:2404.03663): the 31.3 M size as it stands;
    `widths` (128, 256, 512, 640) is the 55.4 M one.

    As the code runs it, Q, K, V and the projection are three convolutions in a row of which only the first
    reads spikes, and the last convolution of a separable one reads the currents of the depthwise one.
    `merged`: each of the first kind folded into the one 3×3 convolution, fed by spikes, that it amounts to.
    """
    if len(widths) != 4:
        raise ConfigError(f"meta-spikeformer: widths {tuple(widths)!r}: four are needed")
    net = Net(f"{name}-{widths[2]}", time_steps)
    shape: Shape = (channels, size, size)
    plan = (widths[0] // 2, 7, 2, 1), (widths[0], 3, 2, 1), (widths[1], 3, 2, 2)
    for stage, (width, kernel, stride, blocks) in enumerate(plan):
        fed: Fed = "spikes" if stage else "image"
        shape = net.conv(f"downsample{stage}", shape, width, kernel, stride, kernel // 2, bias=True, fed=fed)
        for i in range(blocks):
            _conv_block(net, f"conv_block{stage}.{i}", shape, ratio)
    for stage, (width, stride, blocks) in enumerate(((widths[2], 2, 6), (widths[3], 1, 2)), 3):
        shape = net.conv(f"downsample{stage}", shape, width, 3, stride, 1, bias=True)
        for i in range(blocks):
            block = f"block{stage}.{i}"
            for part in ("q", "k", "v"):
                _reparametrised(net, f"{block}.attn.{part}", shape, merged)
            _state_products(net, f"{block}.attn", shape, heads)
            _reparametrised(net, f"{block}.attn.proj", shape, merged)
            _mlp(net, f"{block}.mlp", shape, ratio)
    net.linear("head", (shape[0],), classes, role="head")
    return net


def _conv_block(net: Net, name: str, shape: Shape, ratio: int) -> None:
    """A separable convolution (1×1, depthwise 7×7, 1×1), then two 3×3 convolutions."""
    width = shape[0]
    middle = net.conv(f"{name}.pwconv1", shape, 2 * width)
    net.conv(f"{name}.dwconv", middle, 2 * width, 7, 1, 3, groups=2 * width, norm=False)
    net.conv(f"{name}.pwconv2", middle, width, fed="real")
    hidden = _conv3(net, f"{name}.conv1", shape, ratio * width)
    _conv3(net, f"{name}.conv2", hidden, width)


def _reparametrised(net: Net, name: str, shape: Shape, merged: bool) -> None:
    """1×1, norm, 3×3 depthwise on the map that the norm pads, 1×1, two norms; or one 3×3 convolution."""
    width = shape[0]
    if merged:
        net.conv(f"{name}.conv", shape, width, 3, 1, 1, bias=True, norm=False, role="attention")
        return
    wide = net.conv(f"{name}.conv1x1", shape, width, role="attention")
    padded = (width, wide[1] + 2, wide[2] + 2)
    net.conv(f"{name}.depthwise", padded, width, 3, groups=width, norm=False, fed="real", role="attention")
    net.conv(f"{name}.pointwise", shape, width, fed="real", role="attention")
    net.norm(f"{name}.norm", shape)


def _conv3(net: Net, name: str, shape: Shape, width: int, fed: Fed = "spikes") -> Shape:
    return net.conv(name, shape, width, 3, 1, 1, fed=fed)


def _pooled(net: Net, name: str, shape: Shape, fed: Fed = "real") -> Shape:
    """A 3×3 max pool of stride 2 and padding 1."""
    half = tuple(conv_output(side, 3, 2, 1) for side in shape[1:])
    return net.pool(name, shape, (shape[0], *half), fed=fed)


def _mlp(net: Net, name: str, shape: Shape, ratio: int, fed: Fed = "spikes") -> None:
    hidden = net.conv(f"{name}.fc1_conv", shape, ratio * shape[0], bias=True, fed=fed)
    net.conv(f"{name}.fc2_conv", hidden, shape[0], bias=True)


def _state_products(net: Net, name: str, shape: Shape, heads: int) -> None:
    """Kᵀ V, whose result is a current, then Q (Kᵀ V)."""
    tokens, d = shape[1] * shape[2], shape[0] // heads
    state = net.product(name, (heads, d, tokens), (heads, tokens, d))
    net.product(name, (heads, tokens, d), state, fed=("spikes", "real"), site=1)


def _three(build: str, what: str, values: Sequence[int]) -> None:
    if isinstance(values, str) or len(values) != 3:
        raise ConfigError(f"{build}: {what} {values!r}: three are needed, one per stage")
