"""The networks: STAtten, STAA-SNN, the decoupled model, and the registry that names them."""

from snn_energy.models.zoo import create_model, list_models, register_model

__all__ = ["create_model", "list_models", "register_model", "replace_attention"]


def __getattr__(name: str):
    if name == "replace_attention":  # imports torch, which a list of names must not
        from snn_energy.models.plug_in import replace_attention

        return replace_attention
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
