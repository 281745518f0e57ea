"""STAtten in SpikingJelly's transformers: the same layer where it must be, another where it should."""

from __future__ import annotations

import pytest
import statten_reference as reference
import torch
from spikingjelly.activation_based import functional, layer
from spikingjelly.activation_based import model as zoo
from torch import nn

from snn_energy.errors import ConfigError, DataError
from snn_energy.graph.capture import capture
from snn_energy.graph.interpret import run as run_graph
from snn_energy.models.plug_in import SpatialTemporal, replace_attention
from snn_energy.models.rewire import Connector
from snn_energy.models.statten import STAtten, STAttenConfig
from snn_energy.models.zoo import create_model
from snn_energy.profiling import profile

T, B, C, H, W, K = 6, 4, 3, 32, 48, 5

BACKBONES = {
    "Spikformer": lambda: zoo.Spikformer(
        T=T,
        img_size_h=H,
        img_size_w=W,
        patch_size=4,
        in_channels=C,
        num_classes=K,
        embed_dims=48,
        num_heads=3,
        depths=2,
    ),
    "SpikeDrivenTransformer": lambda: zoo.SpikeDrivenTransformer(
        T, C, K, embed_dims=48, num_heads=3, depths=2, pooling_stat="0011"
    ),
    "QKFormer": lambda: zoo.QKFormer(T, C, K, embed_dims=48, num_heads=(3, 2, 1), depths=(1, 1, 2)),
    "MaxFormer": lambda: zoo.MaxFormer(T, C, K, embed_dims=128, depths=(1, 1, 2)),
    "MaxFormer (CIFAR)": lambda: zoo.MaxFormer(T, C, K, embed_dims=64, depths=(1, 1, 2), cifar=True),
}
REPLACED = {
    "Spikformer": ["blocks.0.attn", "blocks.1.attn"],
    "SpikeDrivenTransformer": ["blocks.0.attn", "blocks.1.attn"],
    "QKFormer": ["stage3.0.attn", "stage3.1.attn"],
    "MaxFormer": ["stage3.0.attn", "stage3.1.attn"],
    "MaxFormer (CIFAR)": ["stage3.0.attn", "stage3.1.attn"],
}


def lively(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Batch norms that make every neuron fire, calibrated on `x`."""
    torch.manual_seed(6)
    for path, module in model.named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 1.0, 2.0)
            nn.init.uniform_(module.bias, 0.2, 1.0)
            if "qkv" in path:
                module.bias.data += 0.3  # products of sparse spikes would leave the attention silent
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    functional.reset_net(model)
    return model.eval()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(8))


def run(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    functional.reset_net(model)
    with torch.no_grad():
        return model(x)


@pytest.mark.parametrize("name", BACKBONES)
def test_what_is_replaced_and_that_the_state_dict_stays(name: str) -> None:
    model = BACKBONES[name]()
    before = {key: value.shape for key, value in model.state_dict().items()}
    assert replace_attention(model, chunk=2) is model
    replaced = [path for path, module in model.named_modules() if isinstance(module, Connector)]
    assert replaced == REPLACED[name]
    assert {key: value.shape for key, value in model.state_dict().items()} == before


@pytest.mark.parametrize("name", [n for n in BACKBONES if n != "SpikeDrivenTransformer"])
def test_a_chunk_of_one_step_is_the_layer_it_replaces(name: str) -> None:
    x = noise(T, B, C, H, W)
    model = lively(BACKBONES[name](), x)
    expected = run(model, x)
    assert torch.equal(run(replace_attention(model, chunk=1), x), expected)


@pytest.mark.parametrize("name", BACKBONES)
def test_attention_sees_the_other_steps_of_its_chunk_and_no_others(name: str) -> None:
    """Chunks of 3 steps in 6: a value changed at step 1 moves the product at steps 0, 1, 2 and no others."""
    model = replace_attention(BACKBONES[name](), chunk=3)
    product = model.get_submodule(REPLACED[name][0]).product
    q, k, v = torch.ones(3, T, 1, product.heads * 4, 2, 5).unbind(0)
    changed = v.clone()
    changed[1] = 0
    moved = (product(q, k, v) != product(q, k, changed)).flatten(1).any(1)
    assert moved.tolist() == [True, True, True, False, False, False]


@pytest.mark.parametrize(("name", "scale"), [("SpikeDrivenTransformer", 1 / 2), ("Spikformer", 1 / 16)])
def test_values_of_the_product(name: str, scale: float) -> None:
    """Against the plain equation, on 2×5 tokens, 3 heads of 4 channels, chunks of 2."""
    product = replace_attention(BACKBONES[name](), chunk=2).get_submodule("blocks.0.attn").product
    assert (product.heads, product.chunk) == (3, 2)
    generator = torch.Generator().manual_seed(7)
    q, k, v = torch.randint(0, 2, (3, T, 1, 12, 2, 5), generator=generator).double().unbind(0)
    expected = torch.from_numpy(reference.statten(*(s[:, 0].numpy() for s in (q, k, v)), 3, 2, dvs=False))
    ours = product(q, k, v)[:, 0]
    torch.testing.assert_close(ours, expected * 2 * scale)  # the reference has 1/H = 1/2
    flat = SpatialTemporal(3, 2, scale)(*(s.flatten(3) for s in (q, k, v)))[:, 0]
    torch.testing.assert_close(flat, ours.flatten(2))


@pytest.mark.parametrize("attention", ["SDT", "STAtten"])
def test_spikingjellys_spike_driven_transformer_is_ours(attention: str) -> None:
    """The same weights give the same spikes, from two implementations; converted to STAtten, too."""
    x = noise(B, C, H, W)
    sizes = {"in_channels": C, "num_classes": K, "embed_dims": 48, "num_heads": 3, "depths": 2, "T": T}
    theirs = zoo.SpikeDrivenTransformer(**sizes, pooling_stat="0011")
    for module in theirs.patch_embed.modules():
        if isinstance(module, layer.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)  # ours has none there
    lively(replace_attention(theirs, chunk=3) if attention == "STAtten" else theirs, x)
    ours = STAtten(STAttenConfig(**sizes, chunk_size=3, pooling_stat="0011", attention_mode=attention)).eval()
    missing, unexpected = ours.load_state_dict(renamed(theirs.state_dict()), strict=False)
    assert missing == [f"block.{i}.attn.talking_heads.weight" for i in range(2)]
    assert unexpected == []
    spikes: list[torch.Tensor] = []
    for model, last in ((theirs, "blocks.1.mlp.lif2"), (ours, "block.1.mlp.fc2_lif")):
        blocks = last.split(".")[0]
        inner = "attn_lif" if model is theirs or attention == "STAtten" else "talking_heads_lif"
        for path in (f"{blocks}.0.attn.{inner}", f"{blocks}.1.attn.{inner}", last):
            model.get_submodule(path).register_forward_hook(lambda module, args, out: spikes.append(out))
    torch.testing.assert_close(run(ours, x), run(theirs, x))
    for first, second in zip(spikes[3:], spikes[:3], strict=True):
        assert 0.05 < first.mean() < 0.95
        assert torch.equal(first.flatten(), second.flatten())


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """SpikingJelly's names of the Spike-driven Transformer -> the official ones."""
    table = {"blocks.": "block.", "mlp.fc1.": "mlp.fc1_conv.", "mlp.fc2.": "mlp.fc2_conv."}
    table |= {"mlp.bn1.": "mlp.fc1_bn.", "mlp.bn2.": "mlp.fc2_bn."}
    for i, suffix in enumerate(("", "1", "2")):
        table |= {f"stages.{i}.0.": f"proj_conv{suffix}.", f"stages.{i}.1.": f"proj_bn{suffix}."}
    table |= {"final_stage.0.": "proj_conv3.", "final_stage.1.": "proj_bn3."}
    out = {}
    for name, value in state.items():
        if name.endswith("bias") and ("stages." in name or "final_stage.0" in name) and not value.any():
            continue
        for old, new in table.items():
            name = name.replace(old, new)
        out[name] = value
    return out


@pytest.mark.parametrize("name", BACKBONES)
def test_one_step_changes_every_parameter(name: str) -> None:
    x = noise(T, B, C, H, W)
    model = lively(replace_attention(BACKBONES[name](), chunk=2), x).train()
    before = {key: value.clone() for key, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    logits = model(x)
    logits = logits.mean(0) if logits.dim() == 3 else logits
    nn.functional.cross_entropy(logits, torch.arange(B)).backward()
    optimizer.step()
    for key, value in model.named_parameters():
        assert value.grad is not None, key
        if value.dim() > 1 or not key.endswith("bias"):  # a bias before a batch norm has no effect
            assert not torch.equal(value, before[key]), key


def test_what_cannot_be_replaced_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="STAtten holds no self-attention to replace; replaced are: SpikingSelf"
    ):
        replace_attention(create_model("statten", embed_dims=16, num_heads=2, depths=1))
    with pytest.raises(ConfigError, match="MSResNet holds no self-attention"):
        replace_attention(zoo.ms_resnet18(num_classes=3))
    with pytest.raises(ConfigError, match="must be 'STAtten'"):
        replace_attention(BACKBONES["Spikformer"](), mode="softmax")
    with pytest.raises(ConfigError, match="chunk = 0"):
        replace_attention(BACKBONES["Spikformer"](), chunk=0)
    with pytest.raises(DataError, match="input of 6 time steps: chunk = 4 must divide them"):
        replace_attention(BACKBONES["Spikformer"](), chunk=4)(torch.randn(1, C, H, W))


SMALL = {
    "spikformer": {"embed_dims": 48, "num_heads": 3, "depths": 2},
    "qkformer": {"embed_dims": 48, "num_heads": (3, 2, 1), "depths": (1, 1, 2)},
    "maxformer": {"embed_dims": 64, "depths": (1, 1, 2)},
}


@pytest.mark.parametrize("prefix", ["", "statten-"])
@pytest.mark.parametrize("name", SMALL)
def test_registered_variants_keep_our_conventions(name: str, prefix: str) -> None:
    """Batch first, an image is its repetition, a call starts fresh, logits (B, K); STAtten where asked."""
    x = noise(B, C, H, W)
    model = lively(create_model(prefix + name, T=T, num_classes=K, chunk_size=3, **SMALL[name]), x)
    with torch.no_grad():
        logits = model(x)
        assert logits.shape == (B, K)
        assert torch.equal(model(x), logits)
        assert torch.equal(model(x.unsqueeze(1).expand(B, T, C, H, W)), logits)
    assert any(isinstance(m, Connector) for m in model.modules()) == bool(prefix)


@pytest.mark.parametrize("name", SMALL)
def test_impossible_fields_of_a_library_model_are_refused(name: str) -> None:
    bad = {"spikformer": {"patch_size": 8}, "qkformer": {"depths": (1, 2)}, "maxformer": {"embed_dims": 10}}
    with pytest.raises(ConfigError, match=f"{name}: "):
        create_model(name, **bad[name])
    with pytest.raises(ConfigError, match="must divide T = 4"):
        create_model(f"statten-{name}", chunk_size=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["statten-spikformer", "statten-qkformer", "statten-maxformer"])
def test_variants_profile_and_export(name: str) -> None:
    """Nothing uncounted, products over the tokens of a chunk; the captured graph computes the same logits."""
    x = noise(B, C, H, W)
    fields = SMALL[name.removeprefix("statten-")]
    depths = 1 if isinstance(fields["depths"], int) else (1, 1, 1)
    model = lively(create_model(name, T=T, num_classes=K, chunk_size=3, **fields | {"depths": depths}), x)
    counted = profile(model, [x])
    assert not [row.name for row in counted.rows if row.op == "uncounted"]
    products = [row for row in counted.rows if row.op == "matmul" and row.role == "attention"]
    assert len(products) == 2 * sum(isinstance(m, Connector) for m in model.modules())
    side = {"statten-spikformer": 4, "statten-qkformer": 16, "statten-maxformer": 4}[name]
    assert products[0].input_shape[-1] == 3 * (H // side) * (W // side)
    assert all(product.input_kind == product.right_kind == "binary" for product in products[::2])
    graph = capture(model, x)
    with torch.no_grad():
        torch.testing.assert_close(run_graph(graph, x)[graph.outputs[0]], model(x))
