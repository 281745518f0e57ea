"""Energy and firing rates after each epoch of a training loop: plain, or Lightning's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from snn_energy.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from snn_energy.profiling.profile import Profile

LIGHTNING = ("lightning.pytorch", "pytorch_lightning")
PREFIX = "snn/"

Values = dict[str, float]


class EnergyLogger:
    """Profiles a model on the same few samples after each epoch, and writes what it found beside the losses.

        logger = EnergyLogger(batches, to=SummaryWriter("runs/a"))
        for epoch in range(epochs):
            ...
            logger(model, epoch)

    `batches`: what `snn_energy.profile` takes, here all held in memory: a few samples are enough to see a
    trend.  `to`: where values go: something with `add_scalar` (TensorBoard), with `log` (a run of Weights &
    Biases), a function of (values, epoch), or a list of those; None: the active run of Weights & Biases, if
    there is one.  `every`: each how many epochs, counted from the first.  `module`: the path of the network
    inside the model, where that is a wrapper with a loss.  Other keywords are those of `snn_energy.profile`.

    The values: `energy_mj`, `ac` and `mac` of one inference under `convention` at the prices of `costs`,
    `firing_rate` of all spiking neurons, `rate/NAME` of each layer, and `accuracy` where samples have labels.
    `history` keeps them with their epochs, `profile` the last profile.  In logs names begin with `snn/`.

    Made after Lightning (`lightning.pytorch`, `pytorch_lightning`) was imported, it is one of its callbacks:
    it runs after each validation, or after each epoch of training where nothing is validated, and logs
    through the LightningModule, so that `ModelCheckpoint(monitor="snn/energy_mj")` can read it.

    Raises `ConfigError` for an `every` below 1, a `module` that is not there, and a `to` that takes nothing.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> EnergyLogger:
        bases = tuple(dict.fromkeys(_lightning_callbacks()))
        missing = tuple(base for base in bases if not issubclass(cls, base))
        made = type(cls.__name__, (cls, *missing), {"__module__": cls.__module__}) if missing else cls
        return object.__new__(made)

    def __init__(
        self,
        batches: Iterable[Any],
        *,
        to: Any = None,
        every: int = 1,
        convention: str = "exact",
        costs: str = "45nm-fp32",
        module: str = "",
        **options: Any,
    ) -> None:
        from snn_energy.energy import load_convention, load_costs

        if every < 1:
            raise ConfigError(f"every = {every}: must be at least 1")
        load_convention(convention)
        load_costs(costs)
        self.batches = list(batches)
        self.writers = [
            _writer(one) for one in (to if isinstance(to, list | tuple) else [to]) if one is not None
        ]
        self.every, self.convention, self.costs = every, convention, costs
        self.module, self.options = module, options
        self.history: list[Values] = []
        self.profile: Profile | None = None

    def __call__(self, model: nn.Module, epoch: int) -> Values:
        """Profile, keep and write: the values, or none in an epoch that is left out."""
        if epoch % self.every:
            return {}
        values = self.measure(model)
        self.history.append({"epoch": float(epoch), **values})
        for write in self.writers or _active_run():
            write({PREFIX + name: value for name, value in values.items()}, epoch)
        return values

    def measure(self, model: nn.Module) -> Values:
        """The values of the model as it is now, written nowhere."""
        import torch

        from snn_energy.profiling.session import profile

        network = _inside(model, self.module)
        with torch.inference_mode(False):
            self.profile = found = profile(network, self.batches, **self.options)
        energy = found.energy(self.convention, self.costs)
        neurons = found.neurons
        values = {"energy_mj": energy.mj, "ac": energy.ac, "mac": energy.mac}
        if found.mean_rate is not None:
            values["firing_rate"] = found.mean_rate
        if found.accuracy is not None:
            values["accuracy"] = found.accuracy
        return values | {f"rate/{row.name or 'model'}": row.output_rate for row in neurons}

    # --- Lightning's hooks ------------------------------------------------------------------------------

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """After each validation but the sanity check before training."""
        if not getattr(trainer, "sanity_checking", False):
            self._in_lightning(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """After each epoch of training that no validation has followed."""
        if not self.history or self.history[-1]["epoch"] < trainer.current_epoch:
            self._in_lightning(trainer, pl_module)

    def _in_lightning(self, trainer: Any, pl_module: Any) -> None:
        values = self(pl_module, trainer.current_epoch)
        if values:
            pl_module.log_dict({PREFIX + name: value for name, value in values.items()})


def _lightning_callbacks() -> Iterable[type]:
    """The base classes of callbacks of the Lightnings that are imported."""
    for name in LIGHTNING:
        if name in sys.modules and (base := getattr(importlib.import_module(name), "Callback", None)):
            yield base


def _writer(to: Any) -> Callable[[Values, int], None]:
    if hasattr(to, "add_scalar"):

        def write(values: Mapping[str, float], epoch: int) -> None:
            for name, value in values.items():
                to.add_scalar(name, value, epoch)

        return write
    if hasattr(to, "log"):
        return lambda values, epoch: to.log({**values, "epoch": epoch})
    if callable(to):
        return to
    raise ConfigError(
        f"to = {type(to).__name__}: must have add_scalar (TensorBoard) or log (W&B), or be a function"
    )


def _active_run() -> list[Callable[[Values, int], None]]:
    """The run of Weights & Biases that was begun in this process, if there is one."""
    run = getattr(sys.modules.get("wandb"), "run", None)
    return [] if run is None else [_writer(run)]


def _inside(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        known = ", ".join(name for name, _ in model.named_children())
        raise ConfigError(f"module = {path!r}: {type(model).__name__} has {known or 'no modules'}") from None
