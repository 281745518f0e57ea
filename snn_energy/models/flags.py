"""The command-line flags of configuration fields that a user may have to give.  No torch here."""

from __future__ import annotations

from typing import NamedTuple


class Flag(NamedTuple):
    """`--name` sets the configuration field `field`."""

    field: str
    name: str
    type: type
    help: str


FLAGS = (
    Flag("T", "--time-steps", int, "Time steps."),
    Flag("chunk_size", "--chunk-size", int, "Time steps that attend jointly; divides the time steps."),
    Flag("attention_mode", "--attention-mode", str, "STAtten or SDT."),
    Flag("pooling_stat", "--pooling-stat", str, "Four characters 0 or 1: which patch-embedding stages pool."),
    Flag("spike_mode", "--spike-mode", str, "lif or plif."),
    Flag("dvs_mode", "--dvs-mode/--static-mode", bool, "Event-camera branch of the attention."),
    Flag("num_heads", "--num-heads", int, "Attention heads."),
    Flag("embed_dims", "--dim", int, "Embedding width."),
    Flag("depths", "--depths", int, "Blocks."),
    Flag("mlp_ratios", "--mlp-ratio", float, "Hidden width of the MLP over the embedding's."),
    Flag("cnf", "--cnf", str, "How a SEW-ResNet joins spikes and shortcut: ADD, AND or IAND."),
    Flag("in_channels", "--in-channels", int, "Channels of the input."),
    Flag("num_classes", "--num-classes", int, "Classes."),
)


def flag_of(field: str) -> str:
    """`T` -> `--time-steps`; a field without an entry gets its own name with hyphens."""
    for flag in FLAGS:
        if flag.field == field:
            return flag.name.split("/")[0]
    return "--" + field.replace("_", "-")
