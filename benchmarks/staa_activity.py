"""What a STAA-SNN with random weights fires, beside what its paper's energy implies.

    python benchmarks/staa_activity.py [--model staa-resnet20] [--classes 100] [--images 16] [--seeds 0,1,2]

Images are drawn from a normal distribution, and every batch norm gets the statistics of these same images,
so that membranes start with the threshold for their standard deviation.  Prints, per seed, what `syops`
charges of one image (accumulates, multiply-accumulates, dense operations, in G) and the mean firing rate,
weighted by dense operations, of the convolutions and linear layers whose input is binary.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

import snn_energy
from snn_energy.energy import estimate


def calibrated(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """`model` in evaluation, its norms with the statistics of `x`."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches: there is one
    with torch.no_grad():
        model.train()(x)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="staa-resnet20")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--seeds", default="0,1,2")
    args = parser.parse_args()
    print("seed  AC G    MAC G   dense G  binary input rate")
    for seed in map(int, args.seeds.split(",")):
        torch.manual_seed(seed)
        model = snn_energy.create_model(args.model, num_classes=args.classes)
        x = torch.randn(args.images, 3, 32, 32)
        profile = snn_energy.profile(calibrated(model, x), [x])
        energy, ops = estimate(profile, convention="syops"), profile.ops
        rows = ops[ops.op.isin(["conv2d", "linear"]) & (ops.input_kind == "binary")]
        rate = (rows.input_rate * rows.dense_macs).sum() / rows.dense_macs.sum()
        dense = ops.dense_macs.sum() / 1e9
        print(f"{seed:4}  {energy.ac / 1e9:.4f}  {energy.mac / 1e9:.4f}  {dense:.4f}   {rate:.1%}")


if __name__ == "__main__":
    main()
