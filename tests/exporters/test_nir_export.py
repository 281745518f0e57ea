"""NIR: read back by the nir package and SpikingJelly's importer; refused by name where NIR has no word."""

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from snn_energy.errors import ConfigError, UnsupportedOp
from snn_energy.exporters.nir.export import NIR_FILE, NirPart, export_nir, verify_dir
from snn_energy.exporters.nir.write import key
from snn_energy.models.neurons import reset
from snn_energy.models.statten import STAtten, STAttenConfig

nir = pytest.importorskip("nir")


class Residual(nn.Module):
    """Convolutions, batch norm, LIF and IF, a shortcut of currents, a pool of spikes, a linear head."""

    def __init__(self, spike_pool: bool, groups: int = 1) -> None:
        super().__init__()
        lif = lambda **o: neuron.LIFNode(v_reset=0.0, step_mode="m", **o)  # noqa: E731
        self.conv1, self.bn1, self.lif1 = (
            nn.Conv2d(3, 8, (3, 5), padding=(1, 2), bias=False),
            nn.BatchNorm2d(8),
            lif(),
        )
        self.conv2, self.bn2 = nn.Conv2d(8, 6, 3, stride=2, padding=1, groups=groups), nn.BatchNorm2d(6)
        self.lif2 = lif(tau=1.6, decay_input=False, v_threshold=0.7)
        self.conv3, self.bn3 = nn.Conv2d(6, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.lif3 = neuron.IFNode(v_reset=0.0, step_mode="m")
        self.pool = nn.MaxPool2d(2) if spike_pool else nn.AvgPool2d(2)
        self.head = nn.Linear(6 * 2 * 3, 4)

    def forward(self, x):
        reset(self)
        x = x.unsqueeze(0).expand(5, *x.shape)
        each = lambda f, z: f(z.flatten(0, 1)).unflatten(0, z.shape[:2])  # noqa: E731
        x = self.lif1(each(lambda z: self.bn1(self.conv1(z)), x))
        current = each(lambda z: self.bn2(self.conv2(z)), x)
        x = current + each(lambda z: self.bn3(self.conv3(z)), self.lif2(current))
        return self.head(each(self.pool, self.lif3(x)).flatten(2)).mean(0)


def lively(model: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.05, 0.3)
            module.bias.data.uniform_(-0.1, 0.4)
    return model.eval()


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_residual_network_runs_in_spikingjelly(tmp_path):
    verdict = export_nir(lively(Residual(False)), tmp_path, images(7, 3, 8, 12))
    assert verdict.ok and verdict.mismatches == 0 and verdict.logits_difference < 1e-5
    assert all(0 < c.spikes < c.compared for c in verdict.neurons) and len(verdict.neurons) == 3
    assert verdict.part(NirPart).spikingjelly.startswith("7 of 7 predictions equal, logits within")
    assert verdict.part(NirPart).not_compared == ()


def test_spike_pool_and_groups_are_kept_though_spikingjelly_cannot_read_them(tmp_path):
    verdict = export_nir(lively(Residual(True, groups=2)), tmp_path, images(5, 3, 8, 12))
    assert verdict.ok and verdict.mismatches == 0
    assert verdict.part(NirPart).spikingjelly.startswith("not run:")
    file = nir.read(str(tmp_path / NIR_FILE))
    assert type(file.nodes["pool"]).__name__ == "Threshold" and file.nodes["conv2"].weight.shape == (
        6,
        8,
        3,
        3,
    )


def test_a_changed_weight_is_noticed(tmp_path):
    x = images(7, 3, 8, 12)
    export_nir(lively(Residual(True)), tmp_path, x)
    file = nir.read(str(tmp_path / NIR_FILE))
    file.nodes["conv1"].weight = file.nodes["conv1"].weight * 1.5
    nir.write(str(tmp_path / NIR_FILE), file)
    assert verify_dir(tmp_path, x).mismatches > 0


def transformer(**fields) -> STAtten:
    config = {"in_channels": 1, "num_classes": 5, "embed_dims": 16, "num_heads": 2, "mlp_ratios": 2}
    config |= {"depths": 1, "T": 4, "chunk_size": 2, "pooling_stat": "0010"}
    return lively(STAtten(STAttenConfig(**(config | fields))))


@pytest.mark.parametrize(
    ("fields", "node", "what"),
    [
        ({}, "block_0_attn_matmul_1", "spike attention"),
        ({"pooling_stat": "0011"}, "patch_embed_maxpool_1", "a max pool of currents"),
        ({"attention_mode": "SDT"}, "block_0_attn_reduce", "a sum over tokens"),
    ],
)
def test_what_nir_cannot_say_is_refused_by_name(fields, node, what, tmp_path):
    with pytest.raises(UnsupportedOp, match=f"{node}: cannot lower {what}"):
        export_nir(transformer(**fields), tmp_path, images(2, 1, 8, 12))
    assert not (tmp_path / NIR_FILE).exists()


def test_attention_can_be_marked(tmp_path):
    verdict = export_nir(transformer(), tmp_path, images(3, 1, 8, 12), unsupported="mark")
    file = nir.read(str(tmp_path / NIR_FILE))
    assert type(file.nodes["block_0_attn_matmul_1"]).__name__ == "NIRGraph"
    compared = {key(c.name) for c in verdict.neurons}
    assert "block_0_attn_q_lif" in compared and "block_0_attn_attn_lif" not in compared
    assert "output" in verdict.part(NirPart).not_compared and verdict.mismatches == 0
    assert verdict.form == "model.nir up to the marked parts"


def test_bad_option(tmp_path):
    with pytest.raises(ConfigError, match="must be refuse or mark"):
        export_nir(lively(Residual(False)), tmp_path, images(1, 3, 8, 12), unsupported="ignore")
