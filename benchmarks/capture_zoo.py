"""Which models capture: our registry and SpikingJelly's zoo, T = 4, small images.

    python benchmarks/capture_zoo.py [NAME ...]

Prints one row per model: nodes and neurons of its Graph, the largest difference of the interpreter's outputs
from the model's, the steps that a streaming call takes; or why it does not capture.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model import (
    masnn,
    maxformer,
    ms_resnet,
    parametric_lif_net,
    qkformer,
    sew_resnet,
    spike_driven_transformer,
    spikformer,
    spiking_resnet,
    spiking_vgg,
    spiking_vggws_ottt,
)
from torch import nn

from snn_energy.errors import SnnEnergyError
from snn_energy.graph.capture import capture
from snn_energy.graph.interpret import run
from snn_energy.graph.streaming import steps_per_call
from snn_energy.models.zoo import create_model

STEPS = 4


class Shown(nn.Module):
    """A model that wants (T, B, C, H, W), shown an image at every step; its outputs averaged over steps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        functional.set_step_mode(model, "m")
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self.model)
        y = self.model(x.unsqueeze(0).repeat(STEPS, 1, 1, 1, 1))
        return y.mean(0) if y.dim() == 3 else y


def shown(
    build: Callable[..., nn.Module], node: Any = neuron.LIFNode, **settings: Any
) -> Callable[[], nn.Module]:
    fields = {"spiking_neuron": node, "surrogate_function": surrogate.ATan(), **settings}
    return lambda: Shown(build(**fields))


ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "SEW-ResNet-18": (shown(sew_resnet.sew_resnet18, cnf="ADD"), (3, 64, 64)),
    "SEW-ResNet-50": (shown(sew_resnet.sew_resnet50, cnf="IAND"), (3, 64, 64)),
    "Spiking ResNet-18": (shown(spiking_resnet.spiking_resnet18), (3, 64, 64)),
    "MS-ResNet-18": (shown(ms_resnet.ms_resnet18), (3, 64, 64)),
    "Spiking VGG-11-BN": (shown(spiking_vgg.spiking_vgg11_bn), (3, 64, 64)),
    "PLIF-Net CIFAR-10": (
        lambda: Shown(parametric_lif_net.CIFAR10Net(16, neuron.ParametricLIFNode)),
        (3, 32, 32),
    ),
    "PLIF-Net DVS Gesture": (
        lambda: Shown(parametric_lif_net.DVSGestureNet(8, neuron.ParametricLIFNode)),
        (2, 128, 128),
    ),
    "Spikformer-Ti": (lambda: spikformer.spikformer_cifar10(T=STEPS), (3, 32, 32)),
    "Spike-driven Transformer": (
        lambda: spike_driven_transformer.SpikeDrivenTransformer(T=STEPS, embed_dims=64, depths=1),
        (3, 64, 64),
    ),
    "QKFormer": (lambda: qkformer.qkformer_10_384(T=STEPS), (3, 64, 64)),
    "Max-Former CIFAR": (lambda: maxformer.maxformer_cifar(T=STEPS), (3, 32, 32)),
    "MA-SNN": (lambda: masnn.masnn_dvs128_gesture(), (2, 64, 64)),
    "Att-MS-ResNet-18": (shown(masnn.att_ms_resnet18), (3, 64, 64)),
    "OTTT VGG-11": (lambda: Shown(spiking_vggws_ottt.ottt_spiking_vgg11()), (3, 32, 32)),
    "ours: decoupled": (lambda: create_model("decoupled", width=0.25), (3, 32, 32)),
    "ours: decoupled, not causal": (lambda: create_model("decoupled", width=0.25, causal=False), (3, 32, 32)),
    "ours: staa-resnet20": (lambda: create_model("staa-resnet20", width=0.25), (3, 32, 32)),
    "ours: statten-spikformer": (lambda: create_model("statten-spikformer"), (3, 32, 32)),
    "ours: statten-cifar10dvs-t16": (lambda: create_model("statten-cifar10dvs-t16"), (2, 64, 64)),
}


def fitted(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Norms that know their inputs, so that neurons fire."""
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.reset_running_stats()
            norm.momentum = None
    with torch.no_grad():
        functional.reset_net(model)
        model.train()(x)
        functional.reset_net(model)
    return model.eval()


def row(name: str) -> str:
    build, size = ZOO[name]
    torch.manual_seed(0)
    try:
        model = fitted(build(), torch.rand(4, *size))
        x = torch.rand(2, *size)
        graph = capture(model, x)
        held = run(graph, x)
        functional.reset_net(model)
        with torch.no_grad():
            difference = float((held[graph.outputs[0]] - model(x)).abs().max())
        rates = [float(held[node.name].mean()) for node in graph.neurons]
        try:
            steps = str(steps_per_call(graph))
        except SnnEnergyError as error:
            steps = f"no: `{str(error).split(';')[0]}`"
        alive = f"{min(rates):.3f}–{max(rates):.3f}" if rates else "no neuron found"
        return f"| {name} | yes | {len(graph)} | {len(rates)} | {alive} | {difference:.0e} | {steps} |"
    except Exception as error:  # a model of another library that does not run here is a row too
        return f"| {name} | no: `{str(error).split(';')[0][:160]}` | | | | | |"


def main() -> None:
    print("| model | captures | nodes | neurons | firing rates | difference | steps per call |")
    print("|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or ZOO:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
