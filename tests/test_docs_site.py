"""The documentation's site: its commands and code run, nothing public is left out, every flag is named."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
import yaml
from command import run

import snn_energy
from snn_energy.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = ("tutorial.md", *sorted(f"how-to/{path.name}" for path in (DOCS / "how-to").glob("*.md")))


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """(language, text) of every fenced block."""
    for part in (DOCS / page).read_text(encoding="utf-8").split("\n```")[1::2]:
        language, _, text = part.partition("\n")
        yield language, text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the tutorial begins."""
    place = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        runpy.run_path(str(ROOT / "examples" / "official_checkpoint" / "make_files.py"))
        yield place


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_code_run_as_they_stand(page: str, folder: Path) -> None:
    for language, text in blocks(page):
        first, _, rest = text.partition("\n")
        if language in ("yaml", "csv") and first.startswith("# "):
            (folder / first[2:]).write_text(rest + "\n", encoding="utf-8")
        elif language == "python":
            exec(compile(text, page, "exec"), {"__name__": "page"})
        elif language == "sh":
            for line in text.splitlines():
                program, *args = shlex.split(line)
                if program == "python":
                    continue  # the fixture did
                assert program == "snn-energy"
                done = run(*args)
                assert done.returncode == 0, f"{line}\n{done.stderr}"


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w./-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert listed - there == {"cli.md"}  # made when the site is
    config = SimpleNamespace(nav=[{"All": sorted(listed - {"tutorial.md"})}], docs_dir=str(DOCS))
    runpy.run_path(str(ROOT / "scripts" / "cli_page.py"))["on_config"](config)
    assert {"tutorial.md", *(there - listed)} == set(config.nav[-1]["More"])  # what nobody put in its place


def test_the_reference_has_every_public_name() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    named = {line.split(".")[-1] for line in re.findall(r"^::: (\S+)", text, re.MULTILINE)} | {
        "SnnEnergyError"
    }
    assert set(snn_energy.__all__) <= named, set(snn_energy.__all__) - named
    for path in re.findall(r"^::: (\S+)", text, re.MULTILINE):
        module, _, name = path.rpartition(".")
        if path != "snn_energy.errors":
            assert hasattr(sys.modules.get(module) or __import__(module, fromlist=[name]), name), path


def test_the_page_of_the_command_line_has_every_flag() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "cli_page.py"))["page"]()
    tree = typer.main.get_command(app)
    for name, command in tree.commands.items():  # type: ignore[attr-defined]
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        for param in command.params:
            wanted = [f"`{flag}`" for flag in (*param.opts, *param.secondary_opts) if flag.startswith("-")]
            wanted = wanted or [f"`{param.name.upper()}`"]
            assert all(flag in section for flag in wanted), (name, wanted)


def test_citation() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == snn_energy.__version__ and cited["title"] == "snn-energy"
    assert cited["license"] == "MIT" and cited["cff-version"] == "1.2.0"


def test_readmes_table_is_what_its_script_prints() -> None:
    """Within 1 %: a membrane at its threshold may fire on one processor and not on another."""
    script = runpy.run_path(str(ROOT / "scripts" / "readme_numbers.py"))
    printed = script["table"](script["measured"]())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    def rows(text: str) -> dict[str, list[float]]:
        found = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) \| ([\d.]+) \|", text, re.MULTILINE)
        return {name: [float(number) for number in numbers] for name, *numbers in found}

    assert len(rows(readme)) >= 9 and set(rows(readme)) == set(rows(printed))
    for name, numbers in rows(printed).items():
        assert rows(readme)[name] == pytest.approx(numbers, rel=0.01), name


def test_every_file_that_readme_names_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = {*re.findall(r"\]\((?!http)([^)#]+)", text), *re.findall(r"(?:scripts|benchmarks)/\w+\.py", text)}
    assert len(named) > 12
    assert not [name for name in named if not (ROOT / name).exists()]
