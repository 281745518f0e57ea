"""The gate for files of strangers: what it refuses in JSON and YAML, and how fast; what is left is right."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_energy.errors import ConfigError, DataError
from snn_energy.reading import LIMITS, limit, limits, parse_json, parse_yaml, read_json, read_text, read_yaml
from snn_energy.values import parse_yaml as parse_value

JSON_REFUSED = {
    "[" * 200_000: "levels",
    '{"a":' * 70 + "1" + "}" * 70: "levels",
    '{"a": 1, "b": {"c": 1, "c": 2}}': "'c' stands twice",
    '{"a": NaN}': "finite",
    "[-Infinity]": "finite",
    "1e400": "finite",
    "7" * 5000: "digits",
    "-" + "7" * 61: "digits",
    r'"\ud83d"': "not JSON",
    '"' + "\\" * 99_999: "not JSON",
    "{'a': 1}": "not JSON",
    "": "not JSON",
}

YAML_REFUSED = {
    "a: !!timestamp 2001-13-45": "!!timestamp",
    "a: !!int x": "not YAML",
    "a: !!float x": "not YAML",
    "a: !!bool perhaps": "not YAML",
    "a: !!python/object/apply:os.getcwd []": "is not read here",
    "a: !!set {b, c}": "is not read here",
    "a: !!binary aGk=": "is not read here",
    "a: !own 1": "is not read here",
    "!!map [1]": "not YAML",
    "a: " + "8" * 5000: "digits",
    "a: 0x" + "f" * 99: "digits",
    "[" * 1000: "levels",
    "- " * 1000: "levels",
    "a: .NaN": "finite",
    "a: [1, -.inf]": "finite",
    "a: 1.0e+400": "finite",
    "a: &x [*x]": "what holds it",
    "a: 1\nb: {c: 1, c: 1}": "'c' stands twice",
    "? [1, 2]\n: 3": "key",
    "<<: 3": "not YAML",
    '"\\ud83d"': "not YAML",
    "a: \x07": "not YAML",
    "a: [1\nb: 2": "line 2",
    "a: 1\n---\nb: 2": "not YAML",
}


@pytest.mark.parametrize("text", JSON_REFUSED, ids=lambda text: repr(text[:24]))
def test_json_that_no_reader_expects(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(DataError) as error:
        parse_json(text, "x.json")
    said = str(error.value)
    assert JSON_REFUSED[text] in said and said.startswith("x.json") and "\n" not in said and len(said) < 400
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("text", YAML_REFUSED, ids=lambda text: repr(text[:24]))
def test_yaml_that_no_reader_expects(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ConfigError) as error:
        parse_yaml(text, "x.yaml")
    said = str(error.value)
    assert YAML_REFUSED[text] in said and said.startswith("x.yaml") and "\n" not in said and len(said) < 400
    assert time.perf_counter() - started < 2


def test_aliases_are_read_until_they_explode() -> None:
    assert parse_yaml("a: &x [1, 2]\nb: [*x, *x]", "") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
    bomb = "l0: &l0 [1, 1, 1, 1, 1, 1]\n" + "".join(
        f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 6)}]\n" for i in range(1, 12)
    )
    with pytest.raises(ConfigError, match="values"):
        parse_yaml(bomb, "bomb")


def test_a_date_is_a_text_and_merge_keys_are_merged() -> None:
    assert parse_yaml("source: 2001-02-03\nd: 2001-99-99", "") == {"source": "2001-02-03", "d": "2001-99-99"}
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", "")["b"] == {"x": 1, "y": 3}


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(PLAIN)
@settings(max_examples=100, deadline=None)
def test_what_others_write_is_read_back(value: Any) -> None:
    assert parse_json(json.dumps(value), "") == json.loads(json.dumps(value))
    text = yaml.safe_dump(value, allow_unicode=True)  # PyYAML itself loses a line end such as NEL
    assert parse_yaml(text, "") == yaml.safe_load(text)


@given(st.text(alphabet="[]{}:,&*!|>-?'\"\\#%@ \n\tab1.e\x00\x1b\ud800é", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    for parse, error in ((parse_json, DataError), (parse_yaml, ConfigError), (parse_value, ConfigError)):
        try:
            parse(text, "x")
        except error as refused:
            assert "\n" not in str(refused)


@pytest.mark.parametrize("text", ["1e400", "[1, {a: -1e999}]"])
def test_numbers_that_only_we_read_as_such_are_finite_too(text: str) -> None:
    with pytest.raises(ConfigError, match="finite"):
        parse_value(text, "lr")
    assert parse_value("1e-3", "lr") == 1e-3


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"a: \xe9")
    for place, words in (
        (tmp_path / "pipe", "no regular file"), (Path("/dev/zero"), "no regular file"),
        (tmp_path, "cannot be read"), (tmp_path / "none", "no such file"), (Path("x" * 300), "too long"),
        (tmp_path / "latin", "UTF-8"), (tmp_path / "latin" / "below", "cannot be read"),
    ):  # fmt: skip
        started = time.perf_counter()
        with pytest.raises(DataError, match=words) as error:
            read_text(place, "table", "yaml")
        assert "\n" not in str(error.value) and time.perf_counter() - started < 1


def test_the_size_is_looked_at_first_and_can_be_raised(tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(10 << 40)  # 10 TB of holes
    with pytest.raises(DataError, match=r"more than the limit of 67,108,864.*--max-bytes"):
        read_json(large, "profile")
    small = tmp_path / "small.yaml"
    small.write_text("a: 1\n" + "# \n" * 100)
    with limits(100), pytest.raises(ConfigError, match="305 bytes"):
        read_yaml(small, "table")
    with limits("1K"):
        assert read_yaml(small, "table") == {"a": 1} and limit("json") == 1024
    assert limit("yaml") == LIMITS["yaml"]
    for wrong in (0, -1, "x", "1.5G", "", True):
        with pytest.raises(ConfigError, match="max-bytes"), limits(wrong):
            pass
