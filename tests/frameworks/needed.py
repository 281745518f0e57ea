"""Frameworks that a test needs: absent, it is skipped; under `make test`, which installs them, it fails."""

from __future__ import annotations

import importlib.util
import os

import pytest

INSTALL = "pip install --no-deps -r tests/frameworks/requirements.txt"


def needed(*packages: str) -> None:
    """Skip the test, or the module that is just imported, where a package is missing."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if not missing:
        return
    said = f"needs {', '.join(missing)}: {INSTALL}"
    if os.environ.get("FRAMEWORKS_INSTALLED"):
        pytest.fail(said, pytrace=False)
    pytest.skip(said, allow_module_level=True)
