"""What the operating system says becomes one of our errors: one line, exit code 2."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from snn_energy.errors import FileError, Interrupted, MissingDependency, SnnEnergyError


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Raise `FileError` for an `OSError` of the block, `Interrupted` for Ctrl-C and for a lack of memory."""
    try:
        yield
    except SnnEnergyError:
        raise
    except BrokenPipeError:
        raise FileError("standard output was closed before everything was printed") from None
    except OSError as error:
        raise FileError.of(error) from error
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise MissingDependency(package, EXTRAS[package], "this") from None
    except KeyboardInterrupt:
        raise Interrupted("interrupted; files that were being written were left as they were") from None
    except MemoryError:
        raise Interrupted(MEMORY) from None
    except RuntimeError as error:
        said = str(error).lower()
        if type(error).__name__ != "OutOfMemoryError" and "can't allocate memory" not in said:
            raise
        raise Interrupted(MEMORY) from None


EXTRAS = {"timm": "train", "torchvision": "train"}
"""Packages that only an extra brings, and that deep places import without a word of their own."""

MEMORY = "not enough memory: try fewer samples at a time (--batch-size 1) or fewer of them (--samples)"


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose errors all are ours, before the library of the command line sees them."""

    @functools.wraps(command)
    def run(*positional: Any, **given: Any) -> Any:
        with one_line_errors():
            return command(*positional, **given)

    return run
