"""The HTML report: self-contained, complete, and honest about what it leaves out."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from snn_energy.energy import load_convention
from snn_energy.energy.analysis import compare_with_twin, precision
from snn_energy.energy.quantised import compare_with_quantised
from snn_energy.errors import DataError
from snn_energy.models.zoo import create_model
from snn_energy.profiling import OpRow, Profile, profile
from snn_energy.reports import report
from snn_energy.reports.html import count, picojoules


class Page(HTMLParser):
    """Text, tags and their balance."""

    VOID = frozenset({"meta", "br", "img", "link", "path", "use", "rect", "circle", "line", "image", "input"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def measured() -> Profile:
    torch.manual_seed(0)
    model = create_model(
        "statten",
        in_channels=3,
        num_classes=5,
        embed_dims=16,
        num_heads=2,
        depths=1,
        T=4,
        pooling_stat="0110",
    ).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(module.weight, 40.0)
    batches = [
        (torch.randn(3, 3, 12, 8), torch.tensor([0, 1, 2])),
        (torch.randn(2, 3, 12, 8), torch.tensor([3, 4])),
    ]
    return profile(model, batches, data="noise")


def write(profile: Profile, path: Path, **options: object) -> Page:
    report(profile, path, **options)  # type: ignore[arg-type]
    source = path.read_text(encoding="utf-8")
    page = Page(source)
    assert not page.open
    page.source = source  # type: ignore[attr-defined]
    return page


def test_one_file_with_nothing_outside(measured: Profile, tmp_path: Path) -> None:
    page = write(measured, tmp_path / "report.html")
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "img") and not (
            tag == "script" and "src" in attributes
        )
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert not re.search(r"@import|url\(|fetch\(|XMLHttp|import\(", page.source)  # type: ignore[attr-defined]
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none';")
    assert any(tag == "meta" and a.get("name") == "viewport" for tag, a in page.tags)
    assert len(page.source) < 1_000_000  # type: ignore[attr-defined]


def test_every_row_and_every_convention_is_there(measured: Profile, tmp_path: Path) -> None:
    page = write(measured, tmp_path / "report.html")
    for row in measured.rows:
        assert (row.name or "(model)") in page.text
    energy = measured.energy()
    assert picojoules(energy.total_pj) in page.text
    assert count(energy.ac) in page.text
    for name in ("exact", "spikformer", "sdt", "spikingformer", "syops", "neurobench"):
        assert picojoules(measured.energy(name).total_pj) in page.text
    assert "noise" in page.text
    assert f"{100 * measured.accuracy:.2f} %" in page.text
    assert "AC 0.9 pJ" in page.text
    assert "MAC 4.6 pJ" in page.text
    assert "block.0.attn.talking_heads" in page.text  # never called
    assert "Nothing: every operation that ran is covered" in page.text


def test_what_is_not_counted_is_said(measured: Profile, tmp_path: Path) -> None:
    strange = OpRow(name="block.0", op="uncounted", calls=5, input_elements=1200, note="erfinv")
    page = write(dataclasses.replace(measured, rows=(*measured.rows, strange)), tmp_path / "report.html")
    assert "1 operations are covered by no counting rule" in page.text
    assert "block.0: erfinv, 5 calls, 1.2 k elements" in page.text


def test_a_missing_price_is_said_in_the_headline_instead_of_a_ratio(
    measured: Profile, tmp_path: Path
) -> None:
    page = write(measured, tmp_path / "loihi.html", energies=(measured.energy("exact", "loihi"),))
    assert "no ratio to the dense ANN (loihi has no price for MAC)" in page.text
    assert "less than the dense ANN no ratio" in page.text
    assert "No ratio and no break-even rate" in page.text
    assert page.text.count("no price ") >= sum(r.op in ("conv2d", "linear") for r in measured.rows) - 1
    assert "times less" not in page.text.split("Against the quantised")[0]
    priced = write(measured, tmp_path / "priced.html")
    ratio = compare_with_twin(measured).ratio
    assert f"at least {ratio:.2f} × less than its dense twin" in priced.text
    assert f"less than the dense ANN ≥ {ratio:.2f} ×" in priced.text
    assert "no ratio" not in priced.text


def test_what_is_an_upper_bound_is_called_one(measured: Profile, tmp_path: Path) -> None:
    page = write(measured, tmp_path / "report.html")
    needed = precision(measured).needed
    assert f"at most {needed} samples put the mean within 1 %" in page.text
    assert "Standard error over samples at most" in page.text and "upper bounds" in page.text


def test_the_quantised_ann_stands_beside_the_dense_one(measured: Profile, tmp_path: Path) -> None:
    page = write(measured, tmp_path / "report.html")
    found = compare_with_quantised(measured)
    assert found is not None and found.bits == 3
    assert "= 3 bits hold" in page.text and "arXiv:2409.08290" in page.text
    assert f"{found.ratio:.2f} times less" in page.text
    for value in (found.spiking_pj, found.quantised_pj, *found.spiking.values(), *found.quantised.values()):
        assert picojoules(value) in page.text


def test_names_are_escaped(measured: Profile, tmp_path: Path) -> None:
    page = write(dataclasses.replace(measured, data="<script>alert(1)</script>"), tmp_path / "report.html")
    data, ours = (a for tag, a in page.tags if tag == "script")
    assert data == {"type": "application/json", "id": "data"} and ours == {}
    assert "<script>alert" not in page.source  # type: ignore[attr-defined]


def test_the_headline_is_the_first_energy(measured: Profile, tmp_path: Path) -> None:
    own = dataclasses.replace(load_convention("exact"), name="ours", neuron="full", differs="neurons too")
    energy = measured.energy(own, "45nm-int8")
    page = write(measured, tmp_path / "report.html", energies=(energy,))
    assert "Convention ours : neurons too" in page.text
    assert picojoules(energy.total_pj) in page.text


def test_the_same_profile_gives_the_same_page(measured: Profile, tmp_path: Path) -> None:
    first = report(measured, tmp_path / "a.html").read_text()
    measured.save(tmp_path / "profile.json")
    again = report(Profile.load(tmp_path / "profile.json"), tmp_path / "b.html").read_text()
    assert first == again


def test_a_verification_that_is_none(measured: Profile, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"verification\.json"):
        report(measured, tmp_path / "report.html", verifications=(tmp_path,))
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (999, "999"), (1234567, "1.235 M"), (2.5e9, "2.5 G"), (0.1234567, "0.1235")]
)
def test_counts(value: float, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.9, "0.9 pJ"), (1500, "1.5 nJ"), (7.463502602e9, "7.464 mJ")])
def test_energies(value: float, text: str) -> None:
    assert picojoules(value) == text
