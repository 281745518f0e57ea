"""Code that a user names, `path/to/net.py:build` or `package.module:callable`: found, imported, looked into.

A file is imported as `python path/to/net.py` would: its folder comes first on `sys.path`, `__name__` is not
`"__main__"`, so that a script's training does not start.  A file with relative imports is imported as part of
its package.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snn_energy.errors import ConfigError, suggest

_BROUGHT: dict[str, types.ModuleType] = {}  # modules of users that an earlier import here left in sys.modules


@dataclass(frozen=True)
class Code:
    """Where the user's callable is: a `file`, or an importable `module`; and its `name` in there.

    `folders` hold the user's code; those of a file come first on `sys.path` while it is imported and builds.
    """

    spec: str
    name: str
    module: str
    file: Path | None = None
    folders: tuple[str, ...] = ()
    tree: ast.Module | None = field(default=None, repr=False)

    def resolve(self) -> Any:
        """The object behind the name, imported anew.  Raises `ConfigError` where it cannot be."""
        try:
            module = self._import()
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{self.spec}: {self._unimported(error)}") from None
        try:
            found = functools.reduce(getattr, self.name.split("."), module)
        except AttributeError:
            raise ConfigError(f"{self.spec}: {self._unnamed(module)}") from None
        if not callable(found):
            raise ConfigError(
                f"{self.spec} is of type {type(found).__name__}, must be a function, a class or a network"
            )
        return found

    def where(self, error: BaseException) -> str:
        """`net.py:14, in build`: the innermost line of the user's own code in a traceback, else the last."""
        frames = [
            f
            for f in traceback.extract_tb(error.__traceback__)
            if not Path(f.filename).is_relative_to(Path(__file__).parent)
        ]
        own = [f for f in frames if any(_inside(f.filename, folder) for folder in self.folders)]
        if not frames:
            return "no line known"
        last = (own or frames)[-1]
        function = "" if last.name == "<module>" else f", in {last.name}"
        return f"{_short(last.filename)}:{last.lineno}{function}"

    def _import(self) -> types.ModuleType:
        if self.file is None or self.tree is None or "." in self.module:
            return importlib.import_module(self.module)
        name = self.module
        if name in sys.modules or name in sys.stdlib_module_names:
            name = f"_own_{name}"
        spec = importlib.util.spec_from_file_location(name, self.file)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        exec(compile(self.tree, str(self.file), "exec", dont_inherit=True), module.__dict__)
        return module

    def _unimported(self, error: BaseException) -> str:
        if isinstance(error, SyntaxError):  # of a file that this one imports
            return syntax(error)
        where = self.where(error)
        if isinstance(error, SystemExit):
            return f"ended the program while it was imported ({where}): name a file that only defines things"
        if isinstance(error, ModuleNotFoundError) and error.name:
            top = error.name.partition(".")[0]
            if self.file is None and error.name in (self.module, self.module.partition(".")[0]):
                return f"no module {error.name!r} here or among installed packages; a file is PATH.py:NAME"
            return f"no module {error.name!r} ({where}): {self._holder(top)}"
        return f"its import raised {one_line(error)} ({where})"

    def _holder(self, top: str) -> str:
        """Where a missing module is: in a folder above the file, as in a repository, or not here."""
        for folder in self.file.parents[1:4] if self.file else ():
            if (folder / f"{top}.py").is_file() or any((folder / top).glob("*.py")):
                return f"run the command in {_short(str(folder))}, where {top} is"
        return f"pip install what holds {top}, or run the command in the folder where it is"

    def _unnamed(self, module: types.ModuleType) -> str:
        own = [
            name
            for name, value in vars(module).items()
            if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == module.__name__
        ]
        if not own:
            return f"has no {self.name!r}, and defines no function or class"
        return f"has no {self.name!r}; {suggest(self.name, own)}"


def find(spec: str) -> Code:
    """Where the code is that `spec` names; a file is parsed, nothing runs.

    Raises `ConfigError` for what is no place of a callable: no such file, no Python, a syntax error with its
    line, no name after the colon.
    """
    target, colon, name = spec.rpartition(":")
    if not colon or name.endswith(".py") or "/" in name or "\\" in name:
        target, name = spec, ""
    path = Path(target).expanduser()
    if not (target.endswith(".py") or "/" in target or os.sep in target or path.is_file()):
        if not all(part.isidentifier() for part in target.split(".")):
            raise ConfigError(f"--model {spec}: {target!r} is neither a file nor a module; {_FORM}")
        if not name:
            raise ConfigError(f"--model {spec}: say which callable of {target} builds the network; {_FORM}")
        return Code(spec, name, target, folders=(os.getcwd(),))
    tree = _parsed(spec, path)
    if not name or not all(part.isidentifier() for part in name.split(".")):
        known = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        which = f"{path.name} defines {', '.join(known)}" if known else f"{path.name} defines none"
        raise ConfigError(f"--model {spec}: say which callable builds the network, {target}:NAME; {which}")
    path = path.resolve()
    levels = [n.level for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file() or len(parts) <= max(levels, default=0):
        parts.insert(0, root.name)
        root = root.parent
    folders = dict.fromkeys((str(root), str(path.parent)) if levels else (str(path.parent), str(root)))
    return Code(spec, name, ".".join(parts) if levels else path.stem, path, tuple(folders), tree)


_FORM = "a network of your own is FILE.py:CALLABLE or PACKAGE.MODULE:CALLABLE"


def _parsed(spec: str, path: Path) -> ast.Module:
    if path.is_dir():
        files = sorted(p.name for p in path.glob("*.py"))
        raise ConfigError(
            f"--model {spec}: {path} is a folder; its files: {', '.join(files[:8]) or 'no .py'}"
        )
    if path.suffix == ".ipynb":
        raise ConfigError(f"--model {spec}: a notebook cannot be imported; put the network into a .py file")
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        folder = path.parent
        near = [p.name for p in folder.glob("*.py")] if folder.is_dir() else []
        there = suggest(path.name, near) if near else f"there is no .py file in {folder}"
        raise ConfigError(f"--model {spec}: no file {path}; {there}") from None
    except OSError as error:
        raise ConfigError(f"--model {spec}: {path}: {error.strerror or error}") from None
    try:
        return ast.parse(source, str(path))
    except SyntaxError as error:
        if path.suffix != ".py" or error.lineno is None:  # binary content has no lines
            raise ConfigError(f"--model {spec}: {path} is not a Python file") from None
        raise ConfigError(f"--model {spec}: {syntax(error)}") from None
    except (ValueError, RecursionError, MemoryError):
        raise ConfigError(f"--model {spec}: {path} is not a Python file") from None


def syntax(error: SyntaxError) -> str:
    """`net.py:3: not Python (invalid syntax): def build(:`"""
    line = f": {error.text.strip()}" if error.text and error.text.strip().isprintable() else ""
    return f"{_short(error.filename or '')}:{error.lineno}: not Python ({error.msg}){line}"


def one_line(error: BaseException) -> str:
    """`ValueError: depth must be positive`."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:300]}" if words else type(error).__name__


def _short(filename: str) -> str:
    """A path as short as it can be said from here."""
    try:
        relative = os.path.relpath(filename)
    except ValueError:  # another drive
        return filename
    return filename if relative.startswith("..") else relative


# --- the surroundings in which user's code runs ---------------------------------------------------------


@contextlib.contextmanager
def workshop(code: Code) -> Iterator[Code]:
    """The surroundings in which the user's code is imported and builds, put back afterwards.

    Its folders are first on `sys.path`, and what it imports is looked for in the current one, too; it sees no
    arguments of the command line, and what it prints goes to standard error, so that tables stay clean.
    Modules of the same names from elsewhere are out of the way; those it imported stay in `sys.modules`, for
    its classes to be found, unless it fails or others were there first.  No bytecode is written.
    """
    path, argv, here, bytecode = list(sys.path), sys.argv, os.getcwd(), sys.dont_write_bytecode
    hidden = _put_aside(code)
    before = set(sys.modules)
    sys.path[:] = [*(code.folders if code.file else ()), *path]
    lasting = _ForOwnCode((*code.folders, here), code.folders)
    first, last = (_ForOwnCode((here,), code.folders, True, only) for only in (True, False))
    finders = list(sys.meta_path)
    sys.meta_path[:] = [*(() if code.file else (first,)), *finders, last]
    sys.argv, sys.dont_write_bytecode = [str(code.file or code.module)], True
    importlib.invalidate_caches()
    done = False
    try:
        with contextlib.redirect_stdout(sys.stderr), _old_names():
            yield code
        done = True
    finally:
        sys.path[:], sys.argv, sys.dont_write_bytecode = path, argv, bytecode
        kept = [f for f in sys.meta_path if f is not first and f is not last and f != lasting]
        sys.meta_path[:] = [*kept, lasting] if done else finders
        if os.getcwd() != here:
            os.chdir(here)
        for name in set(sys.modules) - before:
            if any(_inside(_file(sys.modules[name]), folder) for folder in code.folders):
                _settle(name, hidden.pop(name, None), done)
        sys.modules.update(hidden)


@dataclass(frozen=True)
class _ForOwnCode(importlib.abc.MetaPathFinder):
    """Finds modules in `places` for the user's code alone: were the current folder on `sys.path`, whatever
    lies there would run where an installed package tries an optional import of that name.

    One of them stays, so that a `forward` that imports a file beside it finds it.
    """

    places: tuple[str, ...]
    own: tuple[str, ...]
    named: bool = False  # for the module that the user named, too
    packages_only: bool = False  # no folder that only might be one: an installed package may have its name

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """As `importlib.machinery.PathFinder` does, for whom it concerns."""
        if path is not None or not self._asked():
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, list(self.places))
        return None if spec is None or (spec.loader is None and self.packages_only) else spec

    def _asked(self) -> bool:
        """Is it the user's code that imports, or this file, what the user named?"""
        frame: types.FrameType | None = sys._getframe(2)
        while frame is not None:
            file = frame.f_code.co_filename
            if not file.startswith("<frozen importlib") and file != importlib.__file__:
                own = any(_inside(file, folder) for folder in self.own)
                return own or (self.named and file == __file__)
            frame = frame.f_back
        return False


def _settle(name: str, other: types.ModuleType | None, done: bool) -> None:
    """A module that the user's code brought stays, unless its build failed or `other` had the name first."""
    module = sys.modules.pop(name)
    if other is not None and (not done or _BROUGHT.get(name) is not other):
        sys.modules[name] = other
    elif done:
        sys.modules[name] = _BROUGHT[name] = module


def _old_names() -> contextlib.AbstractContextManager[None]:
    """The import names of older releases of frameworks, while the user's code is imported and builds."""
    from snn_energy.compat import old_names

    return old_names()


def _put_aside(code: Code) -> dict[str, types.ModuleType]:
    """Take out of `sys.modules` what is not the file that its name means in the code's folders, the file
    itself, and what an earlier import here left, so that it is imported anew; returns it."""
    aside: dict[str, types.ModuleType] = {}
    for name, module in list(sys.modules.items()):
        if not _loose(module):
            continue
        top = name.partition(".")[0]
        there = (f for f in code.folders if os.path.isdir(f"{f}/{top}") or os.path.isfile(f"{f}/{top}.py"))
        folder = next(there, None)
        elsewhere = folder is not None and not Path(_file(module)).is_relative_to(folder)
        again = code.file is not None and name == code.module
        if elsewhere or again or _BROUGHT.get(name) is module:
            aside[name] = sys.modules.pop(name)
    return aside


@functools.cache
def _installed() -> tuple[str, ...]:
    """Where installed packages are, Python's own modules, and this package."""
    places = {sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    return (*places, str(Path(__file__).resolve().parents[1]))


def _file(module: Any) -> str:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) else ""


def _loose(module: Any) -> bool:
    """A module from a file that belongs to no installed package."""
    return _owned(_file(module))


def _owned(file: str) -> bool:
    return bool(file) and not file.startswith(_installed())


def _inside(file: str, folder: str) -> bool:
    """A file of a user's folder, not of a Python that is installed in there."""
    path = Path(file)
    return _owned(file) and path.is_relative_to(folder) and not _PACKAGES & set(path.parts)


_PACKAGES = {"site-packages", "dist-packages"}
