"""timm 0.6's `register_model` and `create_model`, for networks that a user's file registers.

The registry is one of ours, so that nothing of the user's stays in timm's.  timm 1 hands arguments to a
registered function that the functions of the time do not know (`pretrained_cfg_overlay`, `cache_dir`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

__all__ = ["create_model", "is_model", "list_models", "model_entrypoint", "register_model"]

REGISTERED: dict[str, Callable[..., nn.Module]] = {}


def register_model(function: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Decorator: make `function` known to `create_model` by its name."""
    REGISTERED[function.__name__] = function
    return function


def create_model(
    model_name: str,
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    checkpoint_path: str = "",
    scriptable: bool | None = None,
    exportable: bool | None = None,
    no_jit: bool | None = None,
    **kwargs: Any,
) -> nn.Module:
    """The network that a registered function builds, from the arguments that are not None; else timm's."""
    if model_name not in REGISTERED:
        from timm.models import _factory

        options = {"scriptable": scriptable, "exportable": exportable, "no_jit": no_jit}
        return _factory.create_model(
            model_name, pretrained, pretrained_cfg, checkpoint_path=checkpoint_path, **options, **kwargs
        )
    given = {key: value for key, value in kwargs.items() if value is not None}
    if pretrained_cfg is not None:
        given["pretrained_cfg"] = pretrained_cfg
    model = REGISTERED[model_name](pretrained=pretrained, **given)
    if checkpoint_path:
        from timm.models import load_checkpoint

        load_checkpoint(model, checkpoint_path)
    return model


def model_entrypoint(model_name: str, module_filter: str | None = None) -> Callable[..., Any]:
    """The function that was registered as `model_name`."""
    from timm.models import _registry

    return REGISTERED.get(model_name) or _registry.model_entrypoint(model_name, module_filter)


def is_model(model_name: str) -> bool:
    """Whether `model_name` is registered here or in timm."""
    from timm.models import _registry

    return model_name in REGISTERED or _registry.is_model(model_name)


def list_models(*args: Any, **kwargs: Any) -> list[str]:
    """The names registered here, then timm's."""
    from timm.models import _registry

    return [*REGISTERED, *_registry.list_models(*args, **kwargs)]
