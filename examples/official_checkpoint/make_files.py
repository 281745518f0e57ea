"""Stands in for an official training run: a checkpoint as the STAtten release writes it, and samples.

The network is small and not trained; its norms are set so that every layer fires.
"""

import argparse

import numpy as np
import torch

import snn_energy

torch.manual_seed(0)
fields = {
    "embed_dims": 32,
    "num_heads": 4,
    "depths": 1,
    "pooling_stat": "0011",
    "num_classes": 10,
    "in_channels": 3,
}
model = snn_energy.create_model("statten-cifar10-256", T=4, chunk_size=2, **fields)
for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        torch.nn.init.constant_(module.weight, 1.5)
        torch.nn.init.constant_(module.bias, 0.3)
        module.momentum = None  # the statistics of the whole of the next pass
x = torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(1))
model.train()(x)

args = {
    "model": "sdt", "dataset": "torch/cifar10", "attention_mode": "STAtten", "spike_mode": "lif",
    "dvs_mode": False, "in_channels": 3, "num_classes": 10, "img_size": 32, "dim": 32, "num_heads": 4,
    "layer": 1, "mlp_ratio": 4, "time_steps": 4, "chunk_size": 2, "pooling_stat": "0011", "TET": False,
}  # fmt: skip
checkpoint = {"epoch": 0, "arch": "sdt", "state_dict": model.state_dict(), "version": 2, "metric": 10.0}
torch.save(checkpoint | {"args": argparse.Namespace(**args)}, "checkpoint-0.pth.tar")
np.savez("samples.npz", x=x[:6].numpy(), y=np.arange(6) % 10)
