"""Whole model files in the style of 2022 and 2023 run as they are inside the context."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from users_files import TRANSFORMER, run

from snn_energy.compat import old_names


class ByHand(nn.Module):
    """The same network, its neurons as loops; the names of the weights are shared."""

    def __init__(self, theirs: nn.Module) -> None:
        super().__init__()
        self.net = theirs

    @staticmethod
    def fire(x: torch.Tensor, threshold: float = 1.0) -> torch.Tensor:
        v, out = torch.zeros_like(x[0]), []
        for step in x:
            v = v + (step - v) / 2
            out.append((v >= threshold).to(x.dtype))
            v = v * (1 - out[-1])
        return torch.stack(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        net = self.net
        current = net.tokens.norm(net.tokens.conv(x))
        x = self.fire(torch.stack([current] * net.T))
        x = x + self.fire(torch.stack([net.mix(step) for step in x]), 0.5)
        return net.head(self.fire(x).flatten(3).mean(3)).mean(0)


def test_a_transformer_in_the_style_of_2022(tmp_path: Path) -> None:
    import snn_energy
    from snn_energy.graph.capture import capture

    with old_names():
        net = run(tmp_path, TRANSFORMER).build(T=5).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim():
                parameter.copy_((torch.randn_like(parameter) * 32).round() / 64)
        net.tokens.norm.eps, net.head.bias[:] = 0.0, 0
        x = (torch.rand(2, 3, 6, 8) * 16).round() / 4
        assert torch.equal(net(x), ByHand(net)(x))
    recorded = snn_energy.record_spikes(net, x)
    assert set(recorded) == {"tokens.fire", "gate", "last"}
    assert 0 < recorded["gate"].float().mean() < 1
    ops = snn_energy.profile(net, [x]).ops
    assert set(ops[ops["op"].isin(["lif", "plif"])]["name"]) == set(recorded)
    kinds = [type(node).__name__ for node in capture(net, x).nodes]
    assert kinds.count("Lif") == 3


RESIDUAL = """
    import torch
    from torch import nn
    from timm.models.registry import register_model
    from spikingjelly.activation_based import base, functional, layer, neuron, surrogate


    class IF(neuron.IFNode):
        def __init__(self):
            super().__init__(v_threshold=1.0, v_reset=0.0, surrogate_function=surrogate.ATan(),
                             detach_reset=True, step_mode="m", backend="cupy", store_v_seq=False)


    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = layer.Conv2d(2, 4, 3, padding=1, bias=False, step_mode="m")
            self.fire = IF()
            self.head = layer.Linear(4 * 5 * 7, 3, step_mode="m")

        def forward(self, x):
            functional.reset_net(self)
            return self.head(self.fire(self.conv(x)).flatten(2)).mean(0)


    @register_model
    def residual(**kwargs):
        net = Net(**kwargs)
        functional.set_backend(net, "cupy", instance=IF)
        return net
"""


def test_a_network_in_the_style_of_2023(tmp_path: Path) -> None:
    with old_names():
        net = run(tmp_path, RESIDUAL).residual().eval()
    with torch.no_grad():
        net.conv.weight.copy_((net.conv.weight * 64).round() / 16)
        x = torch.randint(0, 3, (4, 2, 2, 5, 7)).float()
        current, v, spikes = net.conv(x), torch.zeros(2, 4, 5, 7), []
        for step in current:
            v = v + step
            spikes.append((v >= 1).float())
            v = v * (1 - spikes[-1])
        assert 0 < torch.stack(spikes).mean() < 1
        assert torch.equal(net(x), net.head(torch.stack(spikes).flatten(2)).mean(0))
        assert torch.equal(net(x), net(x))
