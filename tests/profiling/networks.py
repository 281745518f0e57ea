"""SpikingJelly's zoo in small: every architecture family, with an input that it takes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

import torch
from spikingjelly.activation_based import functional, layer, model, neuron, surrogate
from spikingjelly.activation_based.model import (
    parametric_lif_net,
    sew_resnet,
    snas_net,
    spike_dhs,
    spiking_resnet,
    spiking_vgg,
    spiking_vggws_ottt,
)
from torch import nn

Case = tuple[nn.Module, torch.Tensor]
TINY_VGG = [8, "M", 16, "M", 24, "M", 24, "M", 512, "M"]


def image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def sequence(net: nn.Module, *shape: int) -> Case:
    """A network without time of its own, in multi-step mode, with a (T, B, …) input."""
    functional.set_step_mode(net, "m")
    return net, image(*shape)


def lively(net: nn.Module) -> nn.Module:
    """Random weights fire little: spread the norms so that deep layers see spikes."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            nn.init.constant_(module.bias, 1.2)
    return net


def resnet(package: object, block: type, **kwargs: object) -> nn.Module:
    cls = package.SEWResNet if hasattr(package, "SEWResNet") else package.SpikingResNet
    kwargs = {"spiking_neuron": neuron.IFNode, "surrogate_function": surrogate.ATan(), **kwargs}
    return cls(block, [1, 1, 1, 1], num_classes=7, width_per_group=64, **kwargs)


def sew(join: str, block: type) -> nn.Module:
    return resnet(sew_resnet, block, cnf=join)


def vgg(batch_norm: bool) -> nn.Module:
    norm = layer.BatchNorm2d if batch_norm else None
    return spiking_vgg.SpikingVGG(
        TINY_VGG,
        batch_norm=batch_norm,
        norm_layer=norm,
        num_classes=7,
        spiking_neuron=neuron.LIFNode,
        v_threshold=0.02,
    )


def snas(direction: str = "forward") -> Case:
    args = Namespace(
        timestep=3, second_avgpooling=2, dataset="cifar10", celltype=direction, threshold=1.0, tau=4 / 3
    )
    connections = torch.tensor([[0, 1, 2, 3], [0, 0, 4, 0], [0, 0, 0, 2], [0, 0, 0, 0]])
    if direction == "backward":
        connections = connections + torch.tensor([[0, 0, 0, 0], [2, 0, 0, 0], [1, 4, 0, 0], [0, 3, 1, 0]])
    return snas_net.SNASNet(args, connections), image(2, 3, 32, 32)


def ottt(standardised: bool) -> Case:
    net = spiking_vggws_ottt.OTTTSpikingVGG(
        TINY_VGG, standardised, num_classes=7, spiking_neuron=neuron.OTTTLIFNode, v_threshold=0.2
    )
    return net, image(2, 3, 32, 48)


def dhs() -> Case:
    args = Namespace(fea_step=3, fea_num_layers=8, fea_block_multiplier=3, fea_filter_multiplier=48)
    net = spike_dhs.SpikeDHS(args=args)
    functional.set_step_mode(net, "m")
    return net, image(1, 3, 16, 16)


def plif(cls: type[nn.Module], *shape: int) -> Case:
    return sequence(cls(channels=8, spiking_neuron=neuron.ParametricLIFNode), *shape)


ZOO: dict[str, Callable[[], Case]] = {
    "spikformer": lambda: (
        model.Spikformer(T=3, img_size_h=32, img_size_w=48, patch_size=16, num_classes=7, embed_dims=32,
                         num_heads=4, depths=2),
        image(2, 3, 32, 48),
    ),
    "spikformer_cifar10": lambda: (model.spikformer_cifar10(T=2), image(1, 3, 32, 32)),
    "qkformer": lambda: (
        model.QKFormer(T=3, num_classes=7, embed_dims=64, num_heads=(1, 2, 4), depths=(1, 1, 1)),
        image(2, 3, 64, 96),
    ),
    "maxformer": lambda: (
        model.MaxFormer(T=3, num_classes=7, embed_dims=64, depths=(1, 1, 1)), image(2, 3, 64, 96)
    ),
    "maxformer_cifar": lambda: (
        model.MaxFormer(T=3, num_classes=7, embed_dims=64, depths=(1, 1, 1), cifar=True), image(2, 3, 32, 32)
    ),
    "sdt": lambda: (
        model.SpikeDrivenTransformer(T=3, num_classes=7, embed_dims=32, num_heads=4, depths=2),
        image(2, 3, 32, 48),
    ),
    "masnn": lambda: (
        model.MASNN(T=6, num_classes=7, input_size=(16, 16), channels=(8, 16, 16), fc_hidden=24,
                    reduction_t=2, reduction_c=4),
        image(6, 2, 2, 16, 16),
    ),
    "att_ms_resnet": lambda: (
        model.AttMSResNet(T=2, num_classes=7, layers=(1, 1, 1, 1), base_channels=16), image(3, 3, 32, 48)
    ),
    "ms_resnet": lambda: (
        model.MSResNet(T=2, num_classes=7, layers=(1, 1, 1, 1), base_channels=8), image(3, 3, 32, 48)
    ),
    "max_resnet": lambda: (
        model.MaxResNet(T=2, num_classes=7, layers=(1, 1, 1, 1), base_channels=8), image(3, 3, 32, 48)
    ),
    "sew_resnet_add": lambda: sequence(sew("ADD", sew_resnet.BasicBlock), 2, 3, 3, 32, 48),
    "sew_resnet_and": lambda: sequence(sew("AND", sew_resnet.BasicBlock), 2, 3, 3, 32, 32),
    "sew_resnet_iand": lambda: sequence(sew("IAND", sew_resnet.Bottleneck), 2, 3, 3, 32, 32),
    "spiking_resnet": lambda: sequence(resnet(spiking_resnet, spiking_resnet.BasicBlock), 2, 3, 3, 32, 48),
    "spiking_resnext": lambda: sequence(
        resnet(spiking_resnet, spiking_resnet.Bottleneck, groups=4), 2, 1, 3, 32, 32
    ),
    "spiking_vgg": lambda: sequence(vgg(False), 2, 1, 3, 32, 48),
    "spiking_vgg_bn": lambda: sequence(vgg(True), 2, 1, 3, 32, 48),
    "ottt_vgg": lambda: ottt(False),
    "ottt_vggws": lambda: ottt(True),
    "spike_dhs": dhs,
    "snas_net": snas,
    "snas_net_backward": lambda: snas("backward"),
    "plif_mnist": lambda: plif(parametric_lif_net.MNISTNet, 3, 2, 1, 28, 28),
    "plif_fashion": lambda: plif(parametric_lif_net.FashionMNISTNet, 3, 2, 1, 28, 28),
    "plif_nmnist": lambda: plif(parametric_lif_net.NMNISTNet, 3, 2, 2, 34, 34),
    "plif_cifar10": lambda: plif(parametric_lif_net.CIFAR10Net, 3, 2, 3, 32, 32),
    "plif_cifar10dvs": lambda: plif(parametric_lif_net.CIFAR10DVSNet, 3, 2, 2, 128, 128),
    "plif_gesture": lambda: plif(parametric_lif_net.DVSGestureNet, 3, 2, 2, 128, 128),
}  # fmt: skip
