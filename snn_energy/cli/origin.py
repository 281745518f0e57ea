"""What a profile says of how it was made: the command, the device, hashes of what was read."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snn_energy.files import sha256
from snn_energy.text import plain


def origin(device: object, input_file: Path | None, recipe: Mapping[str, Any] | None) -> dict[str, str]:
    """Entries for `Profile.environment`, which the report prints under "Reproduce this page"."""
    found = {"command": plain(shlex.join(["snn-energy", *sys.argv[1:]])), "device": str(device)}
    if input_file is not None:
        found |= {"input": input_file.name, "input_sha256": sha256(input_file)}
    if recipe:
        text = json.dumps(recipe, sort_keys=True, default=str)
        found["recipe_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return found
