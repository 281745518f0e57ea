"""docs/frameworks says what works: the blocks of each page are run, in order, as one script."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from needed import needed

from snn_energy import frameworks
from snn_energy.profiling import neurons

PAGES = Path(__file__).resolve().parents[2] / "docs" / "frameworks"
# page -> the packages that it needs
NEEDS = {
    "spikingjelly": (),
    "snntorch": ("snntorch",),
    "norse": ("norse",),
    "sinabs": ("sinabs",),
    "braincog": ("braincog", "einops"),
    "plain-torch": (),
}
NOT_HERE = {"lava-dl": "lava.lib.dl.slayer"}  # run where it can be imported, which is nowhere by pip


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Nothing that a page registers outlives it."""
    yield
    neurons._REGISTERED.clear()
    neurons._NEAREST.clear()


def script(page: str) -> str:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    blocks = [part.partition("\n") for part in text.split("\n```")[1::2]]
    return "\n\n".join(block for language, _, block in blocks if language == "python")


def run(page: str) -> None:
    source = script(page)
    assert source.count("assert ") >= 2
    exec(compile(source, f"{page}.md", "exec"), {"__name__": page})


@pytest.mark.parametrize("page", NEEDS)
def test_a_page_runs_as_it_stands(page: str, request: pytest.FixtureRequest) -> None:
    needed(*NEEDS[page])
    if page == "braincog":
        request.getfixturevalue("braincog_node")
    run(page)


@pytest.mark.parametrize("page", NOT_HERE)
def test_a_page_of_what_pip_cannot_install(page: str) -> None:
    found: Any = None
    with contextlib.suppress(ImportError):
        found = import_module(NOT_HERE[page])
    if found is None:
        pytest.skip(f"needs {NOT_HERE[page]}, which is not on PyPI")
    run(page)


def test_every_framework_has_a_page() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} - {"index"} == NEEDS.keys() | NOT_HERE.keys()
    pages = {"slayer": "lava-dl"}
    ours = {pages.get(adapter, adapter) for adapter in frameworks.OURS.values()} - {"nir"}  # no framework's
    assert ours == (NEEDS.keys() | NOT_HERE.keys()) - {"plain-torch"}
