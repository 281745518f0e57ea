"""The front door: what `import snn_energy` offers, and how light it is."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import snn_energy

HEAVY = ("torch", "pandas", "matplotlib", "timm", "spikingjelly")


@pytest.mark.parametrize("name", snn_energy.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(snn_energy, name)
    assert inspect.getdoc(value), name


def test_public_names_are_sorted_and_an_unknown_one_is_refused() -> None:
    assert sorted(snn_energy.__all__) == snn_energy.__all__
    assert set(snn_energy.__all__) <= set(dir(snn_energy))
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = snn_energy.nothing_like_it


@pytest.mark.parametrize(
    "code",
    [
        "import snn_energy",
        "import sys; sys.argv = ['snn-energy', '--help']; import snn_energy.__main__ as m; m.main()",
    ],
    ids=["import", "help"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    check = f"print('LOADED', [m for m in {HEAVY} if m in sys.modules])"
    script = f"import sys, atexit\natexit.register(lambda: {check})\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout, done.stdout[-300:]
