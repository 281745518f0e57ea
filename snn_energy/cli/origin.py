"""What a profile says of how it was made: the command, the device, hashes of what was read."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_energy.files import sha256
from snn_energy.text import plain

if TYPE_CHECKING:
    import torch


class Fingerprint:
    """SHA-256 of samples, in order, as they are handed to a network: batches of any size give the same.

    `axis`: that of the samples.
    """

    def __init__(self, axis: int = 0) -> None:
        self.axis = axis
        self._digests: dict[str, Any] = {}

    def passing(self, batches: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        """The same batches; what passes is taken down."""
        for x, y in batches:
            entries = (
                x if isinstance(x, Mapping) else dict(enumerate(x if isinstance(x, tuple | list) else [x]))
            )
            for name, entry in entries.items():
                self._take(str(name), entry)
            yield x, y

    def _take(self, name: str, x: torch.Tensor) -> None:
        kept = x.movedim(self.axis, 0) if x.dim() > self.axis else x
        head = f"{name} {x.dtype} {tuple(kept.shape[1:])}"
        digest = self._digests.setdefault(name, hashlib.sha256(head.encode()))
        digest.update(kept.detach().cpu().contiguous().numpy().tobytes())

    def hexdigest(self) -> str:
        """Of all that passed; of several entries, of their digests in order."""
        found = [digest.hexdigest() for digest in self._digests.values()]
        return found[0] if len(found) == 1 else hashlib.sha256(" ".join(found).encode()).hexdigest()


def origin(
    device: object, samples: Fingerprint, input_file: Path | None, recipe: Mapping[str, Any] | None
) -> dict[str, str]:
    """Entries for `Profile.environment`, which the report prints under "Reproduce this page"."""
    found = {"command": plain(shlex.join(["snn-energy", *sys.argv[1:]])), "device": str(device)}
    found["samples_sha256"] = samples.hexdigest()
    if input_file is not None:
        found |= {"input": input_file.name, "input_sha256": sha256(input_file)}
    if recipe:
        text = json.dumps(recipe, sort_keys=True, default=str)
        found["recipe_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return found
