"""What one inference of a spiking network costs, whether that is right, and whether it runs on a chip.

    import snn_energy

    model = snn_energy.load("checkpoint.pth")
    profile = snn_energy.profile(model, batches)
    print(profile.ops, profile.energy(convention="exact").mj)
    snn_energy.export(model, "onnx", "out", x=images)

Names are imported when first used, so that `import snn_energy` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn_energy.checkpoints import load
    from snn_energy.data import register_dataset
    from snn_energy.energy.estimate import estimate
    from snn_energy.errors import SnnEnergyError
    from snn_energy.evaluation import evaluate
    from snn_energy.exporters.targets import export, register_target, verify
    from snn_energy.models.ann_twin import ann_twin
    from snn_energy.models.zoo import create_model, list_models, register_model
    from snn_energy.profiling.neurons import register_neuron
    from snn_energy.profiling.profile import Profile
    from snn_energy.profiling.session import profile
    from snn_energy.profiling.spikes import record_spikes
    from snn_energy.reports import report
    from snn_energy.training import load_recipe, train

__version__ = "0.1.0"

__all__ = [
    "Profile",
    "SnnEnergyError",
    "ann_twin",
    "create_model",
    "estimate",
    "evaluate",
    "export",
    "list_models",
    "load",
    "load_recipe",
    "profile",
    "record_spikes",
    "register_dataset",
    "register_model",
    "register_neuron",
    "register_target",
    "report",
    "train",
    "verify",
]

_HOME = {
    "Profile": "profiling",
    "SnnEnergyError": "errors",
    "ann_twin": "models.ann_twin",
    "create_model": "models.zoo",
    "estimate": "energy",
    "evaluate": "evaluation",
    "export": "exporters.targets",
    "list_models": "models.zoo",
    "load": "checkpoints",
    "load_recipe": "training",
    "profile": "profiling.session",
    "record_spikes": "profiling.spikes",
    "register_dataset": "data",
    "register_model": "models.zoo",
    "register_neuron": "profiling.neurons",
    "register_target": "exporters.targets",
    "report": "reports",
    "train": "training",
    "verify": "exporters.targets",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'snn_energy' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"snn_energy.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
