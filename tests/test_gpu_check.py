"""`scripts/gpu_check` without a GPU: a dry run of all it does, and one line where a GPU is asked for."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_check.py"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["gpu_check"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_dry_run_does_everything(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_this_process(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = program.main(command[2:])
        return subprocess.CompletedProcess(command, code, printed.getvalue(), "")

    monkeypatch.setattr(subprocess, "run", in_this_process)
    assert program.main(["--device", "cpu", "--out", str(tmp_path), "--families", "spikformer"]) == 0
    written = json.loads((tmp_path / "gpu-check.json").read_text())
    assert written["where"]["GPU"].startswith("none")
    parts = [row["part"] for row in written["rows"]]
    steps = [f"a step, {mode}" for mode in program.MODES]
    assert parts == ["agrees with the CPU", *steps, "simulator", *["step time"] * 4, "a step, compiled"]
    assert all(row["ok"] is True for row in written["rows"])
    assert written["rows"][0]["spikes"] > 0
    table = (tmp_path / "gpu-check.md").read_text()
    assert table.count("\n| ") == len(parts) + 2


def test_differences_and_failures_are_found(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A device that computes otherwise: here one whose weights are another's."""
    to = torch.nn.Module.to

    def disturbed(self: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        for name, p in self.named_parameters():
            if name.endswith("conv_bn.block.0.weight"):
                p.data.mul_(2)
        return to(self, *args, **kwargs)

    monkeypatch.setattr(torch.nn.Module, "to", disturbed)
    check = program.Check(torch.device("cpu"), ["spikformer"], end=float("inf"))
    check.run("agrees", "spikformer", lambda: program.agreement("spikformer", check.device))
    check.run("breaks", "it", lambda: 1 / 0)
    check.end = 0
    check.run("late", "it", lambda: 1 / 0)
    assert [row["ok"] for row in check.rows] == [False, False, None]
    assert check.rows[0]["spikes that differ"] > 0
    assert "division by zero" in check.rows[1]["reason"]
    assert check.rows[2]["reason"] == "time is up"
    assert "**failed**" in program.as_markdown({"GPU": "x"}, check.rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_one_line_and_exit_code_2(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["--out", str(tmp_path / "x")]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err == "gpu_check: no GPU that torch can use here; --device cpu is a dry run\n"
    assert not (tmp_path / "x").exists()
