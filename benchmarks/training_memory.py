"""How much memory one step of training takes, counted without computing it: STAtten 8-768 on ImageNet.

    python benchmarks/training_memory.py [--device cuda] [MODEL [FIELD=VALUE ...]]

Forward and loss run on shapes alone (torch's fake tensors), in training mode; what autograd keeps for the
backward pass is added up, each storage once.  Arithmetic, not a measurement: the allocator's rounding, the
workspaces of convolutions and the gradients of activations that are alive at once come on top.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from snn_energy.models.recompute import recompute_blocks
from snn_energy.models.zoo import create_model
from snn_energy.values import parse_yaml

GIB = 2**30


@contextmanager
def kept(parameters: set[int]) -> Iterator[list[int]]:
    """Bytes of the storages that autograd keeps in the block, parameters aside."""
    seen: set[int] = set(parameters)
    sizes: list[int] = []
    alive: list[Any] = []  # or an address would be used twice

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            alive.append(storage)
            sizes.append(storage.nbytes())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield sizes


def activations(
    name: str, fields: dict[str, Any], batch: int, amp: bool, recompute: bool = False, device: str = "cpu"
) -> int:
    """Bytes kept for the backward pass of `batch` samples."""
    with torch.device("meta"):
        model = create_model(name, **fields).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device=device)
        if recompute:
            recompute_blocks(model)
        config = model.config
        x = torch.randn(batch, config.in_channels, config.img_size_h, config.img_size_w, device=device)
        y = torch.zeros(batch, dtype=torch.int64, device=device)
        with kept({p.untyped_storage()._cdata for p in model.parameters()}) as sizes:
            with torch.autocast(device, torch.bfloat16, enabled=amp):
                logits = model(x)
            F.cross_entropy(logits.float() if logits.dim() == 2 else logits.float().mean(0), y)
    return sum(sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="statten-imagenet-768")
    parser.add_argument("fields", nargs="*")
    parser.add_argument("--device", default="cpu", help="Whose way of computing; it needs not be there.")
    given = parser.parse_args()
    fields = {k: parse_yaml(v, k) for k, _, v in (item.partition("=") for item in given.fields)}
    with torch.device("meta"):
        parameters = sum(p.numel() for p in create_model(given.model, **fields).parameters())
    print(f"{given.model}: {parameters / 1e6:.2f} M parameters")
    for what, copies in (("weights", 1), ("gradients", 1), ("AdamW or LAMB: two moments", 2), ("average", 1)):
        print(f"  {what:28} {copies * 4 * parameters / GIB:6.2f} GiB")
    for amp, recompute in ((False, False), (True, False), (False, True), (True, True)):
        one, two = (activations(given.model, fields, batch, amp, recompute, given.device) for batch in (2, 4))
        what = f"kept per sample, {'bf16' if amp else 'fp32'}{', recompute' if recompute else ''}"
        print(f"  {what:32} {(two - one) / 2 / GIB:6.3f} GiB")


if __name__ == "__main__":
    main()
