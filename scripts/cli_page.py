"""The page of the command line, from typer's own tree: every command, argument and flag.

`python scripts/cli_page.py` prints it; mkdocs loads this file as a hook and adds it to the site as cli.md.
"""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Any

import typer

from snn_energy.cli.app import app
from snn_energy.cli.examples import EXAMPLES, EXIT_CODES
from snn_energy.text import markdown


def page() -> str:
    """Markdown: a section for each command, with its examples and a table of its parameters."""
    tree: Any = typer.main.get_command(app)
    parts = [
        "# The command line\n",
        "Made from the program itself; `snn-energy COMMAND --help` prints the same.\n",
        f"{EXIT_CODES}\n",
        "`snn-energy --install-completion` teaches your shell the commands and flags.\n",
        "## snn-energy\n",
        _table(tree.params),
    ]
    for name, command in tree.commands.items():
        parts += [f"## {name}\n", _words(command.help), _examples(name), _table(command.params)]
    return "\n".join(parts)


def _words(text: str | None) -> str:
    """Help text as it stands, without the indentation of the source."""
    paragraphs = re.split(r"\n\s*\n", (text or "").strip())
    return "\n\n".join(markdown(" ".join(paragraph.split())) for paragraph in paragraphs) + "\n"


def _examples(name: str) -> str:
    lines = [f"{line}  # {words}" for line, words in EXAMPLES.get(name, ())]
    return "\n".join(["```sh", *lines, "```", ""]) if lines else ""


def _table(params: list[Any]) -> str:
    rows = ["| flag | value | |", "| --- | --- | --- |"]
    for param in params:
        if getattr(param, "hidden", False):
            continue
        names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
        if param.param_type_name == "argument":
            names = f"`{param.name.upper()}`"
        rows.append(f"| {names} | {_values(param)} | {_help(param)} |")
    return "\n".join(rows) + "\n"


def _values(param: Any) -> str:
    """The choices, or the kind of value; nothing for a flag.  Older typer keeps a click type instead."""
    if getattr(param, "is_flag", False):
        return ""
    descriptor = getattr(param, "type_descriptor", None)
    if descriptor is None:
        choices, name = getattr(param.type, "choices", ()), param.type.name
    else:
        literal = typing.get_origin(descriptor.annotation) is typing.Literal
        choices = typing.get_args(descriptor.annotation) if literal else ()
        name = getattr(descriptor.annotation, "__name__", "")
    words = {"str": "text", "int": "number", "integer": "number", "float": "number", "list": "text"}
    return ", ".join(f"`{choice}`" for choice in choices) or words.get(name, name.lower())


def _help(param: Any) -> str:
    default = param.default
    shown = "" if default in (None, False, True, ()) or callable(default) else f" Default: `{default}`."
    return markdown(" ".join((getattr(param, "help", None) or "").split())) + shown


def on_config(config: Any) -> Any:
    """Called by mkdocs: pages that mkdocs.yml does not name stand under "More", so none is out of reach."""
    listed = set(re.findall(r"[\w./-]+\.md", str(config.nav)))
    folder = Path(config.docs_dir)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")}
    if unlisted := sorted(there - listed):
        config.nav.append({"More": unlisted})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Called by mkdocs: the page stands among the others, and no copy of it is kept that could be old."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "cli.md", content=page()))
    return files


if __name__ == "__main__":
    print(page())
