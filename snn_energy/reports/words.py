"""Numbers and verdicts in few words, as the page prints them; `templates/format.js` writes the same."""

from __future__ import annotations

import math
import re


def count(value: float) -> str:
    """1234567 -> 1.235 M: four figures and the field's suffixes."""
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{suffix}"
    return f"{value:.4g}"


def percent(value: float) -> str:
    """0.98333 -> 98.33 %."""
    return f"{100 * value:.2f} %"


def picojoules(value: float) -> str:
    """Energy in the unit that reads best."""
    for limit, unit in ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ")):
        if abs(value) >= limit:
            return f"{value / limit:.4g} {unit}"
    return f"{value:.4g} pJ"


def together(text: str) -> str:
    """A number and its unit on one line: a blank that does not break stands between them."""
    return re.sub(r"(?<=\d) (?=([pnµm]?J|[%×]|[kMG]|steps|samples|bits)(?!\w))", "\u00a0", text)


def rate(value: float | None) -> str:
    """A firing rate in four decimals; nothing where nobody looked."""
    return "" if value is None or math.isnan(value) else f"{value:.4f}"


def even(value: float | None) -> str:
    """A break-even rate; without one, why."""
    return "no price" if value is None else "any" if math.isinf(value) else f"{value:.4f}"


def many(number: int, what: str, plural: str = "") -> str:
    """`1 layer`, `3 layers`, `2 entries`."""
    return f"{number:,} {what if number == 1 else plural or f'{what}s'}"
