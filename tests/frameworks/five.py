"""One network in five frameworks: conv - LIF - linear - LIF, with the same weights, spike for spike.

The frameworks write an LIF differently.  All of these are the same neuron where β = 1/2, a spike puts the
membrane to zero, and no membrane ever lies exactly on its threshold:

    SpikingJelly        v = v + (x - v) / 2                   v ≥ θ
    Norse, LIFBoxCell   v = v + Δt/τ (x - v), Δt/τ = 1/2      v > θ
    Norse, LIF          i = i + x, v = v + Δt/τ (i - v), i = (1 - Δt/τ_s) i = 0 where τ_s = Δt
    sinabs              v = α v + (1 - α) x, α = 1/2          v ≥ θ
    snnTorch            u = β u + x, u = 2 v                  u > 2 θ; the reset comes before the next leak

Weights are multiples of 2^-6, inputs of 2^-4, and halving makes membranes multiples of 2^-(11 + t): exact in
float32 in whatever order a library adds.  θ is an odd multiple of 2^-20, which no membrane is.
"""

from __future__ import annotations

from typing import Any

import torch
from exact import STEP, exact_images, on_grid
from torch import Tensor, nn

T, B, C, H, W, MAPS, K = 5, 3, 2, 6, 7, 4, 9
FLAT = MAPS * (H - 2) * (W - 2)
THRESHOLD = 0.5 + 2.0**-20
"""Of a membrane that takes half of its input."""


def weights(seed: int = 0) -> dict[str, Tensor]:
    """Of the convolution and the linear layer, on their grid."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "conv.weight": (MAPS, C, 3, 3),
        "conv.bias": (MAPS,),
        "fc.weight": (K, FLAT),
        "fc.bias": (K,),
    }
    spread = {"conv.weight": 0.5, "conv.bias": 0.3, "fc.weight": 0.4, "fc.bias": 0.3}
    return {
        name: on_grid(spread[name] * torch.randn(shape, generator=generator), STEP)
        for name, shape in shapes.items()
    }


def frames(seed: int = 1) -> Tensor:
    """(T, B, C, H, W), sixteenths."""
    return exact_images(T, B, C, H, W, seed=seed)


def loaded(net: nn.Module) -> nn.Module:
    """The network with the weights above, whatever its layers are called."""
    with torch.no_grad():
        layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        for layer, name in zip(layers, ("conv", "fc"), strict=True):
            layer.weight.copy_(weights()[f"{name}.weight"])
            layer.bias.copy_(weights()[f"{name}.bias"])
    return net.eval()


def by_hand(x: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes (T, B, …) of both layers, by the equation and a loop."""
    w, v1, v2, first, second = weights(), 0.0, 0.0, [], []
    for now in x:
        v1 = 0.5 * v1 + 0.5 * nn.functional.conv2d(now, w["conv.weight"], w["conv.bias"])
        first.append((v1 > THRESHOLD).float())
        v1 = v1 * (1 - first[-1])
        v2 = 0.5 * v2 + 0.5 * nn.functional.linear(first[-1].flatten(1), w["fc.weight"], w["fc.bias"])
        second.append((v2 > THRESHOLD).float())
        v2 = v2 * (1 - second[-1])
    return torch.stack(first), torch.stack(second)


class Folded(nn.Module):
    """Layers on (T·B, …), neurons on (T, B, …)."""

    def __init__(self, *neurons: nn.Module) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(C, MAPS, 3), nn.Linear(FLAT, K)
        self.lif1, self.lif2 = neurons

    def forward(self, x: Tensor) -> Tensor:  # (T, B, C, H, W)
        drive = self.conv(x.flatten(0, 1))
        spikes = self.lif1(drive.view(*x.shape[:2], *drive.shape[1:]))
        drive = self.fc(spikes.flatten(0, 1).flatten(1))
        return self.lif2(drive.view(*x.shape[:2], K))


def spikingjelly() -> nn.Module:
    from spikingjelly.activation_based import neuron

    def lif() -> nn.Module:
        return neuron.LIFNode(tau=2.0, v_threshold=THRESHOLD, v_reset=0.0, step_mode="m")

    return loaded(Folded(lif(), lif()))


class SnnTorchStep(nn.Module):
    """A step per call: the user's script loops, as in snnTorch's tutorials, with hidden state."""

    def __init__(self) -> None:
        import snntorch

        super().__init__()
        self.conv, self.fc = nn.Conv2d(C, MAPS, 3), nn.Linear(FLAT, K)
        given: dict[str, Any] = {"beta": 0.5, "threshold": 2 * THRESHOLD, "reset_mechanism": "zero"}
        self.lif1 = snntorch.Leaky(init_hidden=True, **given)
        self.lif2 = snntorch.Leaky(init_hidden=True, output=True, **given)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return self.lif2(self.fc(self.lif1(self.conv(x)).flatten(1)))[0]


class SnnTorchLoop(nn.Module):
    """The loop inside, state passed by hand."""

    def __init__(self) -> None:
        import snntorch

        super().__init__()
        self.conv, self.fc = nn.Conv2d(C, MAPS, 3), nn.Linear(FLAT, K)
        given: dict[str, Any] = {"beta": 0.5, "threshold": 2 * THRESHOLD, "reset_mechanism": "zero"}
        self.lif1, self.lif2 = snntorch.Leaky(**given), snntorch.Leaky(**given)

    def forward(self, x: Tensor) -> Tensor:  # (T, B, C, H, W)
        mem1, mem2, out = self.lif1.reset_mem(), self.lif2.reset_mem(), []
        for now in x:
            spikes, mem1 = self.lif1(self.conv(now), mem1)
            spikes, mem2 = self.lif2(self.fc(spikes.flatten(1)), mem2)
            out.append(spikes)
        return torch.stack(out)


def norse(*, current: bool = False) -> nn.Module:
    """A step of all layers, lifted over time; or `LIF` over (T, B, …), its current gone after a step."""
    import norse.torch as norse

    half: dict[str, Any] = {"tau_mem_inv": torch.tensor(512.0), "v_th": torch.tensor(THRESHOLD)}
    dt = 2.0**-10
    if current:
        p = norse.LIFParameters(tau_syn_inv=torch.tensor(1024.0), **half)
        conv, fc = norse.Lift(nn.Conv2d(C, MAPS, 3)), norse.Lift(nn.Linear(FLAT, K))
        layers = conv, norse.LIF(p, dt=dt), nn.Flatten(2), fc, norse.LIF(p, dt=dt)
        return loaded(norse.SequentialState(*layers))
    p = norse.LIFBoxParameters(**half)
    layers = (
        nn.Conv2d(C, MAPS, 3),
        norse.LIFBoxCell(p, dt=dt),
        nn.Flatten(),
        nn.Linear(FLAT, K),
        norse.LIFBoxCell(p, dt=dt),
    )
    return loaded(norse.Lift(norse.SequentialState(*layers)))


def sinabs_lif(kind: Any, **given: Any) -> nn.Module:
    from sinabs.activation import MembraneReset, SingleSpike

    lif = kind(
        tau_mem=2.0,
        train_alphas=True,
        spike_threshold=torch.tensor(THRESHOLD),
        spike_fn=SingleSpike,
        reset_fn=MembraneReset(),
        norm_input=True,
        **given,
    )
    lif.alpha_mem.data.fill_(0.5)  # exp(-1/τ) is no power of two
    return lif


def sinabs_squeezed() -> nn.Module:
    """(B·T, …) all along, as sinabs' networks from torch are."""
    from sinabs.layers import LIFSqueeze

    return loaded(
        nn.Sequential(
            nn.Conv2d(C, MAPS, 3),
            sinabs_lif(LIFSqueeze, num_timesteps=T),
            nn.Flatten(),
            nn.Linear(FLAT, K),
            sinabs_lif(LIFSqueeze, num_timesteps=T),
        )
    )


class SinabsBatchFirst(Folded):
    """(B, T, …)."""

    def __init__(self) -> None:
        from sinabs.layers import LIF

        super().__init__(sinabs_lif(LIF), sinabs_lif(LIF))
        loaded(self)


class PlainLIF(nn.Module):
    """Hand-written, (T, B, …)."""

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros_like(x[0]), []
        for now in x:
            v = v + (now - v) / 2
            out.append((v > THRESHOLD).float())
            v = v * (1 - out[-1])
        return torch.stack(out)


def plain() -> nn.Module:
    return loaded(Folded(PlainLIF(), PlainLIF()))
