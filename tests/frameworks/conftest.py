"""BrainCog, as far as it can be imported."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def braincog_node() -> Iterator[Any]:
    """`braincog.base.node.node`, without what its parent packages import."""
    spec = importlib.util.find_spec("braincog")
    assert spec is not None and spec.submodule_search_locations
    (root,) = spec.submodule_search_locations
    with pytest.MonkeyPatch.context() as patch:
        for name in ("braincog", "braincog.base", "braincog.base.node", "braincog.base.strategy"):
            parent = ModuleType(name)
            parent.__path__ = ["/".join((root, *name.split(".")[1:]))]
            patch.setitem(sys.modules, name, parent)
        yield importlib.import_module("braincog.base.node.node")
        for name in [name for name in sys.modules if name.startswith("braincog.")]:
            patch.delitem(sys.modules, name)
