"""Messages stay one line, whatever names of strangers stand in them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from checkpoint_files import small_statten
from hypothesis import given
from hypothesis import strategies as st

from snn_energy.checkpoints import load
from snn_energy.errors import CheckpointError, FileError


@given(st.text())
def test_a_message_has_no_control_characters(text: str) -> None:
    said = str(CheckpointError(text))
    assert said.isprintable() or all(c.isprintable() or not c.isascii() for c in said)
    assert len(said.splitlines()) <= 1
    said.encode("utf-8")


def test_ordinary_text_is_as_it_was_given() -> None:
    assert str(CheckpointError("Größe 3 µJ → „x“")) == "Größe 3 µJ → „x“"
    assert str(FileError.of(OSError(errno.ENOSPC, "No space left on device"), Path("a b"))) == (
        "a b: No space left on device"
    )


def test_names_in_a_checkpoint(tmp_path: Path) -> None:
    state = small_statten().state_dict()
    state["head.\nbias\x1b[2J"] = state.pop("head.bias")
    torch.save({"state_dict": state}, tmp_path / "m.pth")
    with pytest.raises(CheckpointError) as raised:
        load(tmp_path / "m.pth", T=6, chunk_size=3, pooling_stat="0110", num_heads=2)
    assert r"head.\nbias\x1b[2J" in str(raised.value)
