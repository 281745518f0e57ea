"""Files as users have them, imported as they import them."""

from __future__ import annotations

import importlib
import importlib.util
import textwrap
from pathlib import Path
from types import ModuleType


def run(tmp_path: Path, text: str, name: str = "users_net") -> ModuleType:
    """The module that a file of this text is, imported where the caller stands."""
    path = tmp_path / f"{name}.py"
    path.write_text(textwrap.dedent(text))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TRANSFORMER = """
    from functools import partial
    import torch
    from torch import nn
    from einops.layers.torch import Rearrange
    from spikingjelly.clock_driven.neuron import MultiStepLIFNode, MultiStepParametricLIFNode
    from spikingjelly.clock_driven import functional
    from timm.models import create_model
    from timm.models.layers import DropPath, to_2tuple, trunc_normal_
    from timm.models.registry import register_model
    from timm.models.vision_transformer import _cfg


    class Tokens(nn.Module):
        def __init__(self, channels, width, patch):
            super().__init__()
            self.conv = nn.Conv2d(channels, width, to_2tuple(patch), stride=patch, bias=False)
            self.norm = nn.BatchNorm2d(width)
            self.fire = MultiStepLIFNode(tau=2.0, detach_reset=True, backend="cupy")

        def forward(self, x):
            t, b = x.shape[:2]
            return self.fire(self.norm(self.conv(x.flatten(0, 1))).unflatten(0, (t, b)))


    class Net(nn.Module):
        def __init__(self, T=4, channels=3, width=8, patch=2, classes=5, drop_path=0.1, pretrained_cfg=None):
            super().__init__()
            self.T = T
            self.tokens = Tokens(channels, width, patch)
            self.mix = nn.Conv2d(width, width, 1)
            self.gate = MultiStepLIFNode(tau=2.0, v_threshold=0.5, detach_reset=True, backend="cupy")
            self.last = MultiStepParametricLIFNode(init_tau=2.0, detach_reset=True, backend="torch")
            self.path = DropPath(drop_path)
            self.head = nn.Linear(width, classes)
            trunc_normal_(self.head.weight, std=0.02)

        def forward(self, x):
            x = self.tokens(x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1))
            t, b = x.shape[:2]
            x = x + self.path(self.gate(self.mix(x.flatten(0, 1)).unflatten(0, (t, b))))
            return self.head(self.last(x).flatten(3).mean(3)).mean(0)


    @register_model
    def small_transformer(pretrained=False, **kwargs):
        model = Net(**kwargs)
        model.default_cfg = _cfg()
        return model


    def build(T=3):
        return create_model("small_transformer", T=T, pretrained=False, drop_path=0.0, patch_size=None)
"""
