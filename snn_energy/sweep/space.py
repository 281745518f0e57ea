"""What a sweep tries: `key=a,b,c` are choices, `key=low..high` is a range, `key=value` holds for all."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from snn_energy.errors import ConfigError

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(f"({_NUMBER})\\.\\.({_NUMBER})")
_WHOLE = re.compile(r"[-+]?\d+")
DECADE = 10.0
"""From this ratio on a range of positive numbers is tried evenly in the logarithm."""
MOST = 10_000


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both included; whole numbers if both ends are written so."""

    low: float
    high: float
    whole: bool

    @property
    def logarithmic(self) -> bool:
        """Whether ratios count, not differences."""
        return self.low > 0 and self.high / self.low >= DECADE


@dataclass(frozen=True)
class Space:
    """Overrides that hold for all, and the settings that differ: words by key, as written, and ranges."""

    fixed: tuple[str, ...]
    choices: Mapping[str, tuple[str, ...]]
    ranges: Mapping[str, Range]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that differ."""
        return (*self.choices, *self.ranges)

    def combinations(self) -> Iterator[dict[str, str]]:
        """Every combination of choices, the last key running first."""
        for values in itertools.product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))

    def described(self) -> dict[str, Any]:
        """Plain values that say all of it."""
        ranges = {key: f"{r.low:g}..{r.high:g}" for key, r in self.ranges.items()}
        return {
            "fixed": sorted(self.fixed),
            "choices": {k: list(v) for k, v in self.choices.items()},
            "ranges": ranges,
        }


def read_space(words: tuple[str, ...]) -> Space:
    """The space that the words of a command line give.

    Raises `ConfigError` for a word without `=`, a key that comes twice, an empty or doubled choice, a range
    that is none, and where nothing differs.
    """
    fixed: list[str] = []
    choices: dict[str, tuple[str, ...]] = {}
    ranges: dict[str, Range] = {}
    seen: set[str] = set()
    for word in words:
        key, sep, text = word.partition("=")
        if not sep or not key:
            raise ConfigError(f"{word!r}: must be key=value, key=a,b,c or key=low..high")
        key = key.removeprefix("config.")
        if key in seen:
            raise ConfigError(f"{word!r}: {key} comes twice")
        seen.add(key)
        found = _RANGE.fullmatch(text)
        if found:
            ranges[key] = _range(word, *found.groups())
        elif "," in text:
            choices[key] = _choices(word, text)
        else:
            fixed.append(word)
    if not choices and not ranges:
        raise ConfigError(
            "nothing to sweep: give a key several values, lr=0.01,0.03, or a range, lr=0.001..0.1"
        )
    if math.prod(map(len, choices.values())) > MOST:
        raise ConfigError(f"{math.prod(map(len, choices.values())):,} combinations; at most {MOST:,}")
    return Space(tuple(fixed), choices, ranges)


def _choices(word: str, text: str) -> tuple[str, ...]:
    values = tuple(value.strip() for value in text.split(","))
    if not all(values):
        raise ConfigError(f"{word!r}: a value between commas is empty")
    if len(set(values)) < len(values):
        raise ConfigError(f"{word!r}: a value comes twice")
    return values


def _range(word: str, low: str, high: str) -> Range:
    found = Range(float(low), float(high), all(_WHOLE.fullmatch(end) for end in (low, high)))
    if not -math.inf < found.low < found.high < math.inf:
        raise ConfigError(f"{word!r}: a range goes from its smaller end to its larger one")
    return found
