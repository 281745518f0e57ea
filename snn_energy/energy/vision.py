"""Dense vision transformers that spiking papers compare with, described by their shapes."""

from __future__ import annotations

from snn_energy.energy.shapes import Net, Shape


def vit(
    size: int = 224, patch: int = 16, dim: int = 768, depth: int = 12, heads: int = 12, classes: int = 1000
) -> Net:
    """ViT and DeiT (arXiv:2010.11929, 2012.12877): a class token, one pass, everything real."""
    net = Net(f"ViT-{depth}-{dim}/{patch}@{size}")
    tokens = (size // patch) ** 2 + 1
    net.conv("patch_embed", (3, size, size), dim, patch, patch, bias=True, norm=False, fed="image")
    net.unused(dim + tokens * dim)
    for i in range(depth):
        _block(net, f"block.{i}", dim, tokens, heads, 4)
    net.norm("norm", (dim, tokens), folded=False)
    net.linear("head", (dim,), classes, fed="real", role="head")
    return net


def swin_base(size: int = 224, classes: int = 1000) -> Net:
    """Swin-B (arXiv:2103.14030): windows of 7×7, a table of relative positions per block."""
    net, window = Net(f"Swin-B@{size}"), 7
    side, dim = size // 4, 128
    net.conv("patch_embed", (3, size, size), dim, 4, 4, bias=True, norm=False, fed="image")
    net.norm("patch_norm", (dim, side * side), folded=False)
    for stage, (depth, heads) in enumerate(zip((2, 2, 18, 2), (4, 8, 16, 32), strict=True)):
        if stage:
            side //= 2
            net.norm(f"merge.{stage}.norm", (4 * dim, side * side), folded=False)
            net.linear(f"merge.{stage}", (4 * dim, side * side), 2 * dim, bias=False, fed="real")
            dim *= 2
        for i in range(depth):
            net.unused((2 * window - 1) ** 2 * heads)
            _block(net, f"stage{stage}.{i}", dim, side * side, heads, 4, window * window)
    net.norm("norm", (dim, side * side), folded=False)
    net.linear("head", (dim,), classes, fed="real", role="head")
    return net


def pvt_large(size: int = 224, classes: int = 1000) -> Net:
    """PVT-Large (arXiv:2102.12122): keys and values from tokens that a strided convolution has reduced."""
    net = Net(f"PVT-Large@{size}")
    shape: Shape = (3, size, size)
    plan = zip((64, 128, 320, 512), (3, 8, 27, 3), (1, 2, 5, 8), (8, 4, 2, 1), (8, 8, 4, 4), strict=True)
    for stage, (dim, depth, heads, reduction, ratio) in enumerate(plan):
        patch, fed = (2, "real") if stage else (4, "image")
        name = f"patch_embed{stage}"
        shape = net.conv(name, shape, dim, patch, patch, bias=True, norm=False, fed=fed)  # type: ignore[arg-type]
        tokens, last = shape[1] * shape[2], stage == 3
        net.norm(f"{name}_norm", (dim, tokens), folded=False)
        tokens += last  # the class token
        net.unused(tokens * dim + dim * last)
        for i in range(depth):
            _reduced_block(net, f"stage{stage}.{i}", shape, tokens, heads, reduction, ratio)
    net.norm("norm", (shape[0], tokens), folded=False)
    net.linear("head", (shape[0],), classes, fed="real", role="head")
    return net


def _block(net: Net, name: str, dim: int, tokens: int, heads: int, ratio: int, window: int = 0) -> None:
    """Attention within windows of `window` tokens (0: all), then an MLP."""
    window = window or tokens
    groups, width = tokens // window * heads, dim // heads
    net.norm(f"{name}.norm1", (dim, tokens), folded=False)
    net.linear(f"{name}.attn.qkv", (dim, tokens), 3 * dim, fed="real", role="attention")
    _products(net, name, groups, window, window, width)
    _rest(net, name, dim, tokens, ratio)


def _reduced_block(
    net: Net, name: str, shape: Shape, tokens: int, heads: int, reduction: int, ratio: int
) -> None:
    """Attention to the tokens of a map reduced `reduction` times per axis, then an MLP."""
    dim, kept = shape[0], tokens
    net.norm(f"{name}.norm1", (dim, tokens), folded=False)
    net.linear(f"{name}.attn.q", (dim, tokens), dim, fed="real", role="attention")
    if reduction > 1:
        small = net.conv(
            f"{name}.attn.sr", shape, dim, reduction, reduction, bias=True, norm=False, fed="real"
        )
        kept = small[1] * small[2]
        net.norm(f"{name}.attn.norm", (dim, kept), folded=False)
    net.linear(f"{name}.attn.kv", (dim, kept), 2 * dim, fed="real", role="attention")
    _products(net, name, heads, tokens, kept, dim // heads)
    _rest(net, name, dim, tokens, ratio)


def _products(net: Net, name: str, groups: int, queries: int, keys: int, width: int) -> None:
    both = ("real", "real")
    scores = net.product(f"{name}.attn", (groups, queries, width), (groups, width, keys), fed=both)  # type: ignore[arg-type]
    net.product(f"{name}.attn", scores, (groups, keys, width), fed=both, site=1)  # type: ignore[arg-type]


def _rest(net: Net, name: str, dim: int, tokens: int, ratio: int) -> None:
    net.linear(f"{name}.attn.proj", (dim, tokens), dim, fed="real", role="attention")
    net.norm(f"{name}.norm2", (dim, tokens), folded=False)
    net.linear(f"{name}.mlp.fc1", (dim, tokens), ratio * dim, fed="real")
    net.linear(f"{name}.mlp.fc2", (ratio * dim, tokens), dim, fed="real")
