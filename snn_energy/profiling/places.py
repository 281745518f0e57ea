"""Where in a network's code a torch function is called: what tells one operation from another."""

from __future__ import annotations

import dis
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any

from torch import nn

_CALL = nn.Module._call_impl.__code__


class Places:
    """The modules that run now, innermost last in `paths`, and the places that call functions in them."""

    def __init__(self) -> None:
        self.paths: list[str] = [""]
        self.codes: dict[int, tuple[CodeType, dict[int, int]]] = {}  # kept: the id of each stays its own
        self.place: Any = ()  # that calls the function that runs now

    def enter(self, frame: FrameType | None) -> Any:
        """The place that calls a function now: the module, and the lines from its `forward` inwards."""
        where: list[Any] = [self.paths[-1]]
        while frame is not None and frame.f_code is not _CALL:
            code, at = frame.f_code, frame.f_lasti
            known = self.codes.get(id(code))
            if known is None:
                known = self.codes[id(code)] = code, _calls(code)
            where += (id(code), known[1].get(at, at))
            frame = frame.f_back
        self.place = tuple(where)
        return self.place


def _calls(code: CodeType) -> dict[int, int]:
    """Offsets in `code` that stand for another: {PRECALL: its CALL}.

    Python 3.11 makes a call of a builtin at its CALL at first, and at the PRECALL before it once it has seen
    the line a few times.  Other versions have one instruction.
    """
    listed = list(dis.get_instructions(code)) if "PRECALL" in dis.opmap else []
    return {one.offset: call.offset for one, call in pairwise(listed) if one.opname == "PRECALL"}
