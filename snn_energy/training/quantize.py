"""Quantization-aware training: forward passes use the numbers that a Loihi netlist of the network would hold.

Weights with their batch norm's running statistics folded in are rounded to the grid that the lowering chooses
for their layer, biases to whole currents, thresholds and inputs to their registers; gradients pass the
rounding straight through, except beyond the largest weight (Bengio et al., arXiv 1308.3432; folding as in
Jacob et al., CVPR 2018, arXiv 1712.05877).  In training mode a norm still normalises by its batch.

What is tested and saved is a plain network whose weights lie on the grid: it loads, profiles and exports as
any other, and the lowering keeps its grid.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from snn_energy.errors import ConfigError
from snn_energy.exporters.chip.calibrate import lower_model
from snn_energy.exporters.lowering.grids import Weights
from snn_energy.exporters.netlist.record import Readout
from snn_energy.graph import nodes as gn
from snn_energy.graph.capture import capture
from snn_energy.graph.simplify import fold_norms
from snn_energy.models.at_rest import at_rest
from snn_energy.models.neurons import reset

BIAS_LEVELS = 1 << 20
ORIGINAL = "parametrizations.{}.original"


class RoundedWeight(nn.Module):
    """Of a synapse's weight, what its registers stand for, the norm behind it unfolded again."""

    def __init__(self, norm: nn.Module | None) -> None:
        super().__init__()
        self.norm = (norm,)  # in a tuple: its parameters stay where they are
        self.grid, self.levels = 1.0, 0

    def forward(self, weight: Tensor) -> Tensor:
        if not self.levels:
            return weight
        factor = norm_factor(self.norm[0]).reshape(-1, *[1] * (weight.dim() - 1))
        folded = weight * factor
        return torch.fake_quantize_per_tensor_affine(folded, self.grid, 0, -self.levels, self.levels) / factor


class RoundedBias(nn.Module):
    """Of a bias (the norm's, where a norm follows), what together with the folded rest is whole currents."""

    def __init__(self, synapse: nn.Module, norm: nn.Module | None) -> None:
        super().__init__()
        self.synapse, self.norm = (synapse,), (norm,)
        self.grid = 0.0

    def forward(self, bias: Tensor) -> Tensor:
        if not self.grid:
            return bias
        norm: Any = self.norm[0]
        shift = torch.zeros_like(bias)
        if norm is not None:
            own = self.synapse[0].bias
            shift = ((0 if own is None else own) - norm.running_mean) * norm_factor(norm)
        total = bias + shift
        return torch.fake_quantize_per_tensor_affine(total, self.grid, 0, -BIAS_LEVELS, BIAS_LEVELS) - shift


def norm_factor(norm: Any) -> Tensor:
    """γ / σ of a batch norm's running statistics (C,), where γ is 0: 1; without a norm: 1."""
    if norm is None:
        return torch.ones(1)
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return torch.where(factor == 0, torch.ones_like(factor), factor)


class Quantization:
    """A network in training with its weights rounded as for a Loihi netlist.

    `model` is changed in place: its weights and biases are parametrized, its inputs rounded.  `x`: samples
    (N, C, H, W) or (N, T, C, H, W) that calibrate the netlist's scales.  Raises `UnsupportedOp` for a network
    that cannot be lowered, `ConfigError` for one whose weights are not modules' own.
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        reset(model)
        self.x = np.asarray(x, np.float32)
        self.plain = copy.deepcopy(model).cpu().eval()
        self.norms = _norms(self.plain, self.x)
        self.lowering = lower_model(self.plain, self.x)
        modules: dict[str, Any] = dict(model.named_modules())
        for name, node in self._synapses():
            synapse: Any = modules.get(node.module)
            known = isinstance(synapse, nn.Conv1d | nn.Conv2d | nn.Linear)
            if not known or parametrize.is_parametrized(synapse):
                raise ConfigError(f"quantize = loihi: the weights of {name} are not those of one module")
            norm = modules[self.norms[name]] if name in self.norms else None
            parametrize.register_parametrization(synapse, "weight", RoundedWeight(norm), unsafe=True)
            holder = synapse if norm is None else norm
            if getattr(holder, "bias", None) is not None:
                parametrize.register_parametrization(holder, "bias", RoundedBias(synapse, norm), unsafe=True)
        model.register_forward_pre_hook(self._round_input)
        self._set(model)

    def refresh(self, model: nn.Module, *others: nn.Module) -> None:
        """Choose scales again for the weights of `model`; use them there and in `others`, copies of it."""
        self.lowering = lower_model(self._filled(model, rounded=False), self.x)
        for network in (model, *others):
            self._set(network)

    def rounded(self, model: nn.Module) -> nn.Module:
        """A plain network with the rounded weights of `model`, in evaluation mode, on the same device."""
        device = next(model.parameters()).device
        return self._filled(model, rounded=True).to(device)

    def _synapses(self) -> list[tuple[str, Any]]:
        kinds = (gn.Conv, gn.Linear)
        weights = self.lowering.registers.weights
        return [(n.name, n) for n in self.lowering.dequantized if isinstance(n, kinds) and n.name in weights]

    def _set(self, model: nn.Module) -> None:
        """Write the grids and thresholds of the present lowering into `model`."""
        modules: dict[str, Any] = dict(model.named_modules())
        registers, netlist = self.lowering.registers, self.lowering.netlist
        outputs = {e.source for readout in netlist.named(Readout) for e in netlist.inputs_of(readout)}
        for name, node in self._synapses():
            synapse = modules[node.module]
            weights, rounding = registers.weights[name], synapse.parametrizations.weight[0]
            rounding.grid, rounding.levels = _grid(weights, node.weight), weights.levels
            holder = modules[self.norms[name]] if name in self.norms else synapse
            if parametrize.is_parametrized(holder, "bias") and name not in outputs:
                even = 2 if not np.any(registers.biases[name] % 2) else 1
                holder.parametrizations.bias[0].grid = even / registers.scales[name]
        for node in self.lowering.dequantized.neurons:
            if isinstance(node, gn.Lif | gn.If):
                modules[node.module].v_threshold = node.v_threshold

    def _filled(self, model: nn.Module, *, rounded: bool) -> nn.Module:
        """`self.plain` with the weights of `model`, as they are trained or as they are rounded."""
        values = {}
        with at_rest(model):
            state = model.state_dict()
            for name in self.plain.state_dict():
                path, _, leaf = name.rpartition(".")
                original = f"{path}.{ORIGINAL.format(leaf)}"
                if original in state and rounded:
                    values[name] = getattr(model.get_submodule(path), leaf).detach()
                else:
                    values[name] = state.get(original, state.get(name))
        self.plain.cpu().load_state_dict(values)
        return self.plain

    def _round_input(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        scale = self.lowering.registers.input
        if not scale.message_bits:
            return args
        half = 1 << (scale.message_bits - 1)
        return (
            torch.fake_quantize_per_tensor_affine(args[0], 1 / scale.scale, 0, -half, half - 1),
            *args[1:],
        )


def _norms(model: nn.Module, x: np.ndarray) -> dict[str, str]:
    """Synapse -> path of the norm that is folded into it."""
    graph = capture(model, x[:1])
    left = {node.name for node in fold_norms(graph)}
    return {n.inputs[0]: n.module for n in graph if isinstance(n, gn.Norm) and n.name not in left}


def _grid(registers: Weights, weight: np.ndarray) -> float:
    """The distance between neighbouring weights of a layer, also where an average pool was folded into it."""
    return registers.grid * (registers.values.size // weight.size)
