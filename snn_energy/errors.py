"""Every error that a user of snn-energy can cause.

    SnnEnergyError
    ├── ConfigError          a model field, recipe key or flag that cannot be
    │   └── OldNameError     an import name of an old library that has no alias here
    ├── CheckpointError      a file that is not the checkpoint it should be
    ├── DataError            a data set or an input file that cannot be used
    ├── UnsupportedOp        an operation that a lowering does not cover
    ├── UncountedError       strict profiling met an operation that no rule counts
    ├── VerificationError    an export that disagrees with its model
    ├── DoesNotFit           a network that a chip which must hold it cannot hold
    ├── BoundExceeded        a profile that does not keep the bounds of `snn-energy check`
    ├── FileError            what the operating system refused: a path, a disk, a permission (an `OSError`)
    ├── Interrupted          Ctrl-C, or not enough memory: the work was given up
    ├── MissingTool          a compiler or an emulator that is not installed
    └── MissingDependency    an optional package that is not installed

A message is one line: what was wrong, the value, what would be right.  The command line prints it
without a traceback and exits with code 2 (code 1 for `VerificationError`, `DoesNotFit` and `BoundExceeded`:
the input was fine, the answer is no).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class SnnEnergyError(Exception):
    """Base of all errors below.

    Names in a message may be those of a stranger's file: line ends and other controls are written out
    (`\\n`, `\\x1b`), so that it stays one line.
    """

    exit_code = 2

    def __str__(self) -> str:
        return _CONTROL.sub(lambda m: m[0].encode("unicode_escape").decode("ascii"), super().__str__())


class ConfigError(SnnEnergyError):
    """A model field, recipe key or flag that cannot be."""


class OldNameError(ConfigError, ImportError):
    """An import name of an old library that has no alias here: an `ImportError` too, as `except` expects."""


class CheckpointError(SnnEnergyError):
    """A file that is not the checkpoint it should be."""


class DataError(SnnEnergyError):
    """A data set or an input file that cannot be used."""


class UnsupportedOp(SnnEnergyError):
    """An operation that a lowering does not cover."""

    def __init__(self, node: str, op: str, *, supported: str, way_out: str) -> None:
        super().__init__(f"{node}: cannot lower {op}; {way_out}; supported: {supported}")
        self.node, self.op = node, op


class UncountedError(SnnEnergyError):
    """Strict profiling met an operation that no rule counts."""


class FileError(SnnEnergyError, OSError):
    """What the operating system refused: a path, a disk, a permission.  An `OSError`, as `except` expects."""

    @classmethod
    def of(cls, error: OSError, path: object = None) -> FileError:
        """The system's own words, with the path that they are about."""
        where = error.filename if path is None else path
        words = error.strerror or " ".join(str(error).split()) or type(error).__name__
        return cls(words if where is None else f"{where}: {words}")


class Interrupted(SnnEnergyError):
    """The work was given up: Ctrl-C, or not enough memory."""


class VerificationError(SnnEnergyError):
    """An export that disagrees with its model."""

    exit_code = 1


class DoesNotFit(SnnEnergyError):
    """A network that a chip which must hold it cannot hold."""

    exit_code = 1


class BoundExceeded(SnnEnergyError):
    """A profile that does not keep a bound: of energy, of firing, of accuracy, of completeness."""

    exit_code = 1


class MissingDependency(SnnEnergyError):
    """An optional package that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}: pip install 'snn-energy[{extra}]'")


class MissingTool(SnnEnergyError):
    """A program of the system, a compiler or an emulator, that is not installed."""

    def __init__(self, tool: str, package: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {tool}: apt-get install {package} (Debian, Ubuntu)")


def suggest(value: str, known: Iterable[str]) -> str:
    """`did you mean …? known: …` for an unknown name: the end of most messages."""
    names = sorted(known)
    close = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"
