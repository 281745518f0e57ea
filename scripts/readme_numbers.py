"""The numbers of README's table: one measurement of a trained network with fixed weights, every convention.

    python scripts/readme_numbers.py

Prints the table as it stands in README.  The network is tests/checkpoints/trained-statten.pth, STAtten of 16
channels trained on the embedded digits, profiled on all 360 test images; prices are 45nm-fp32.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from snn_energy.cli.app import app
from snn_energy.energy import conventions
from snn_energy.profiling import Profile
from snn_energy.text import markdown

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "tests" / "checkpoints" / "trained-statten.pth"


def measured() -> Profile:
    """The profile, through the command line."""
    with tempfile.TemporaryDirectory() as out:
        app(["profile", str(CHECKPOINT), "--out", out, "--quiet"], standalone_mode=False)
        return Profile.load(Path(out) / "profile.json")


def table(profile: Profile) -> str:
    """A row for each convention: nJ of one inference, and how much that is of `exact`."""
    first = profile.energy("exact").total_pj
    rows = []
    for name, convention in conventions().items():
        total = profile.energy(name).total_pj
        rows.append(
            f"| `{name}` | {total / 1e3:.1f} | {total / first:.2f} | {markdown(convention.differs)} |"
        )
    return "\n".join(
        ["| convention | nJ | / exact | what makes it differ |", "| --- | ---: | ---: | --- |", *rows]
    )


if __name__ == "__main__":
    profile = measured()
    print(table(profile))
    print(f"\n{profile.samples} samples of {profile.data}, T = {profile.time_steps}, {profile.accuracy:.2%}")
