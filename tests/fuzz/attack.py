"""One changed file, and what became of it."""

from __future__ import annotations

import random
import resource
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from fuzz.mutate import change
from fuzz.targets import Target, laid_out
from snn_energy.errors import SnnEnergyError

SECONDS, BYTES = 5.0, 500 << 20


@dataclass(frozen=True)
class Outcome:
    """`kind`: "read", "refused" (an error of ours, in one line), or what must not be: "escaped", "lines",
    "slow", "large"."""

    kind: str
    said: str = ""
    seconds: float = 0.0


def attack(target: Target, folder: Path, seed: int) -> Outcome:
    """Change one file of `target` by the generator `seed`, and read it; the files stay in `folder`."""
    chance = random.Random(seed)
    laid_out(target, folder / "attacked")
    name = chance.choice(list(target.files))
    (folder / "attacked" / name).write_bytes(change(target.files[name], chance))
    target.mend(folder / "attacked")
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    kind, said = "read", ""
    try:
        target.read(folder / "attacked")
    except SnnEnergyError as error:
        kind, said = "refused", str(error)
        if "\n" in said or len(said) > 2000:
            kind = "lines"
    except Exception:
        kind, said = "escaped", traceback.format_exc()
    spent = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    if kind in ("read", "refused") and spent > SECONDS:
        kind = "slow"
    if kind in ("read", "refused") and grown > BYTES:
        kind = "large"
    return Outcome(kind, said, spent)
