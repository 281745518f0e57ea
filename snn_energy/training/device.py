"""Which device a command runs on."""

from __future__ import annotations

import torch

from snn_energy.errors import ConfigError


def choose_device(name: str = "auto") -> torch.device:
    """`auto`: the first accelerator that torch sees, else the CPU; otherwise the device of that name.

    Raises `ConfigError` for a name that torch does not know or a device that is not there.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device = {name!r}: cannot be used here ({reason}); use auto, cpu or cuda"
        ) from error
    return device
