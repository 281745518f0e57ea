"""Commands wait for what they need, and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "tests" / "checkpoints" / "trained-statten.pth"
NOT_NEEDED = (
    "timm",
    "torchvision",
    "matplotlib",
    "scipy",
    "torch._dynamo",
    "torch._inductor",
    "sympy",
    "pandas",
)
SCRIPT = f"""
import sys
from unittest.mock import patch
sys.modules["fvcore"] = None  # the cross-check, where that is installed, traces the network once more
from snn_energy.__main__ import main
with patch.object(sys, "argv", ["snn-energy", "profile", *sys.argv[1:]]):
    try:
        main()
    except SystemExit as done:
        assert done.code == 0
print("LOADED", [name for name in {NOT_NEEDED} if name in sys.modules])
"""


def test_a_profile_needs_none_of_the_slow_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(CHECKPOINT), "--samples", "2", "--out", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "LOADED []" in done.stdout, done.stdout[-300:]
