"""The comparison in a real browser: its numbers are Python's, as on the page of one network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from browser import PHONE, Browser
from energy_builders import profile as pencil
from many_rows import any_profile
from saved import with_history

from snn_energy.energy import estimate
from snn_energy.reports.compare import Side, compare_page, lines, ratio, ratio_words
from snn_energy.reports.words import picojoules


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three networks, two of them with labels."""
    first = with_history(dataclasses.replace(any_profile(8, count=40), correct=1))
    given = [first, any_profile(9, count=35), pencil()]
    sides = [Side(p.model, p, estimate(p)) for p in given]
    return compare_page(sides, tmp_path_factory.mktemp("compared") / "cmp.html")


def test_the_comparison_computes_what_python_computes(browser: Browser, compared: Path) -> None:
    given = [any_profile(8, count=40), any_profile(9, count=35), pencil()]
    browser.open(compared)
    script = """const texts = (s) => [...document.querySelectorAll(s)].map((e) => e.textContent);
        const shown = [...document.querySelectorAll('#lines tbody tr')].filter((r) => !r.hidden);
        return [texts('#sides [data-cell=pj]'), texts('#sides [data-cell=ratio]'), shown.map((r) =>
            [r.cells[0], r.cells[1], ...r.querySelectorAll('[data-cell]')].map((c) => c.textContent))]"""
    for convention, costs in (("exact", "45nm-fp32"), ("syops", "45nm-memory"), ("sdt", "loihi")):
        browser.choose(convention=convention, costs=costs)
        totals, ratios, shown = browser.run(script)
        sides = [Side(p.model, p, estimate(p, convention, costs)) for p in given]
        assert totals == [picojoules(s.energy.total_pj) for s in sides]
        first = sides[0].energy.total_pj
        assert ratios == [ratio_words(ratio(first, s.energy.total_pj)) for s in sides]
        wanted = [
            [line.name, line.operation, *("" if pj is None else picojoules(pj) for pj in line.pj),
             ("+" if line.difference > 0 else "") + picojoules(line.difference), ratio_words(line.ratio)]
            for line in lines(sides) if line.charged
        ]  # fmt: skip
        assert shown == wanted
    assert not browser.console()


def test_python_and_the_comparison_draw_the_same(browser: Browser, compared: Path) -> None:
    script = """document.querySelectorAll('details').forEach((e) => { e.open = true });
        document.querySelectorAll('.switch').forEach((e) => { e.hidden = true });
        return [document.getElementById('main').innerText, document.getElementById('front').outerHTML]"""
    browser.open(compared, scripts="off")
    before = browser.run(script)
    browser.open(compared)
    assert browser.run(script) == before


def test_the_comparison_is_as_accessible_and_as_narrow(browser: Browser, compared: Path) -> None:
    browser.open(compared, width=PHONE, scheme="dark")
    browser.run("document.querySelectorAll('details').forEach((e) => { e.open = true })")
    assert browser.axe() == []
    assert browser.wider_than(PHONE) == []
    assert browser.run("return document.documentElement.scrollWidth") <= PHONE
