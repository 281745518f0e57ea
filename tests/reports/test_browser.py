"""The page in a real browser: its numbers are Python's, every control works, it fits a phone and paper."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import PHONE, Browser
from energy_builders import profile as pencil
from many_rows import any_convention, any_profile
from saved import saved, some_maps, with_history
from test_pieces import exported, with_mapping

from snn_energy.energy import conventions, cost_tables, estimate
from snn_energy.energy.analysis import break_even, compare_with_twin, sensitivity
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.reports import report
from snn_energy.reports.compare import Side, compare_page
from snn_energy.reports.embed import embedded_convention
from snn_energy.reports.words import count, percent, picojoules

MEASURED = any_profile(7, count=40)
OPERATIONS = ("ac", "mac", "mul", "cmp")


def written(profile: Profile, folder: Path, **options: Any) -> Path:
    return report(profile, folder / f"{profile.model.replace(' ', '-')}.html", **options)


PROFILES: dict[str, Callable[[], Profile]] = {
    "pencil": pencil,
    "drawn": lambda: any_profile(1, count=45),
    "drawn again": lambda: any_profile(2, count=35),
    "digits": lambda: saved("digits"),
    "statten-8-768": lambda: saved("statten-8-768"),
}


@pytest.mark.parametrize("name", PROFILES)
def test_the_page_computes_what_python_computes(browser: Browser, tmp_path: Path, name: str) -> None:
    """Every row under every shipped convention, and drawn ones, at every table's prices."""
    measured = PROFILES[name]()
    browser.open(written(measured, tmp_path))
    assert not browser.console()
    known = [*conventions().values(), *(any_convention(100 * len(name) + i) for i in range(5))]
    if name == "statten-8-768":
        known = [conventions()[rule] for rule in ("exact", "spikingformer", "sdt")]
    found = browser.run(
        """const out = {};
        for (const convention of arguments[0]) for (const costs of DATA.costs) {
          const e = evaluate(PAGE.profile, convention, costs), t = twinOf(PAGE.profile, e, costs);
          out[convention.name + '@' + costs.name] = [e.pj, e.ac, e.mac, e.error, e.memory, e.unpriced, t.pj,
            Number.isFinite(t.ratio) ? t.ratio : String(t.ratio), t.atLeast, e.unmoved,
            e.rows.map((r) => [r.ac, r.mac, r.mul, r.cmp, r.pj, r.error])];
        }
        return out;""",
        [embedded_convention(c) for c in known],
    )
    assert len(found) == len(known) * len(cost_tables())
    for convention, costs in itertools.product(known, cost_tables().values()):
        energy, page = estimate(measured, convention, costs), found[f"{convention.name}@{costs.name}"]
        rows = [[*(getattr(r, n) for n in OPERATIONS), r.pj, r.standard_error_pj] for r in energy.rows]
        for ours, theirs, row in zip(rows, page[10], measured.rows, strict=True):
            assert _same(theirs, ours), (convention, costs.name, row)
        totals = [energy.total_pj, energy.ac, energy.mac, energy.standard_error_pj, energy.memory_pj]
        assert _same(page[:5], totals)
        assert {k: v for k, v in page[5].items() if v} == pytest.approx(energy.unpriced, rel=1e-12)
        assert tuple(page[9]) == energy.unmoved
    for costs in cost_tables().values():
        twin, page = compare_with_twin(measured, "exact", costs), found[f"exact@{costs.name}"]
        assert page[6] == pytest.approx(twin.dense.total_pj, rel=1e-12)
        assert page[8] == twin.at_least
        assert page[7] == ("null" if twin.ratio is None else pytest.approx(twin.ratio, rel=1e-12))


def _same(found: list[Any], wanted: list[Any]) -> bool:
    """Equal numbers; what nobody knows is null there and None here."""
    return all(
        f is None if w is None else f is not None and math.isclose(f, w, rel_tol=1e-12, abs_tol=1e-300)
        for f, w in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize("name", ["drawn", "digits"])
def test_break_even_and_sensitivity_are_pythons(browser: Browser, tmp_path: Path, name: str) -> None:
    """Under every shipped convention and some drawn ones, at prices with and without data movement."""
    measured = PROFILES[name]()
    browser.open(written(measured, tmp_path))
    known = [*conventions().values(), *(any_convention(len(name) + i) for i in range(3))]
    prices = ("45nm-fp32", "45nm-memory", "loihi-sanafe")
    found = browser.run(
        """const out = {};
        const plain = (v) => Number.isFinite(v) || v === null ? v : String(v);
        for (const convention of arguments[0]) for (const name of arguments[1]) {
          const costs = byName(DATA.costs, name);
          const even = breakEven(PAGE.profile, convention, costs);
          out[convention.name + '@' + name] = [
            even.map((b) => [b.name, b.rate, plain(b.even), b.spiking, b.dense]),
            sensitivity(PAGE.profile, convention, costs).map((s) => [s.name, s.rate, s.pj, s.share])];
        }
        return out;""",
        [embedded_convention(c) for c in known],
        prices,
    )
    for convention, costs in itertools.product(known, prices):
        even, moving = found[f"{convention.name}@{costs}"]
        wanted = break_even(measured, convention, costs)
        assert [b[0] for b in even] == [b.name for b in wanted]
        for (name, *page), b in zip(even, wanted, strict=True):
            infinite = b.break_even is not None and math.isinf(b.break_even)
            ours = [b.rate, "Infinity" if infinite else b.break_even, b.spiking_pj, b.dense_pj]
            for theirs, value in zip(page, ours, strict=True):
                exact = value is None or isinstance(value, str)
                assert theirs == (value if exact else pytest.approx(value, rel=1e-9)), (
                    convention,
                    costs,
                    name,
                )
        total = estimate(measured, convention, costs).total_pj
        for (name, rate, pj, share), s in zip(moving, sensitivity(measured, convention, costs), strict=True):
            assert pj == pytest.approx(s.driven_pj, rel=1e-9, abs=1e-12 * total)
            assert share == pytest.approx(s.share, rel=1e-9, abs=1e-12), (name, rate)


def test_numbers_are_written_alike(browser: Browser, tmp_path: Path) -> None:
    """Halves go to the even digit in both; nothing differs by an ending zero or an exponent."""
    browser.open(written(pencil(), tmp_path))
    values = [
        0,
        0.9,
        1.0,
        12.5,
        123.25,
        123.75,
        99.995,
        999.95,
        1000.5,
        1234567,
        2.5e9,
        7.463502602e9,
        3.2e-5,
    ]
    values += [0.00012345, 1e-4, 9.9995e-5, 5e12, 1 / 3, 2 / 3 * 1e6, 1234.5, 0.125, 2.675, 1e15, 104.25e6]
    texts = browser.run(
        "return arguments[0].map((v) => [countText(v), pjText(v), percentText(v), fixed(v, 2)])", values
    )
    for value, found in zip(values, texts, strict=True):
        assert found == [count(value), picojoules(value), percent(value), f"{value:.2f}"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(MEASURED, tmp_path_factory.mktemp("page"))


def test_every_pair_of_the_switch_shows_pythons_text(browser: Browser, shown: Path) -> None:
    """Tiles, verdict, tree and tables under each pair: what stands there is what Python would print."""
    measured = MEASURED
    browser.open(shown)
    script = """const texts = (s) => [...document.querySelectorAll(s)].map((e) => e.textContent);
        return [texts('[data-total=pj]'), texts('[data-total=ac]'),
                texts('#every [data-row="12"] [data-cell]'), texts('#by-convention [data-cell=pj]'),
                texts('#tree > .block > summary > .pj'), texts('[data-say=error]')]"""
    for convention, costs in itertools.product(
        ("sdt", "syops", "exact"), ("loihi", "45nm-memory", "45nm-int8")
    ):
        browser.choose(convention=convention, costs=costs)
        totals, acs, cells, beside, blocks, error = browser.run(script)
        energy = estimate(measured, convention, costs)
        assert set(totals) == {picojoules(energy.total_pj)} and set(acs) == {count(energy.ac)}
        row = energy.rows[12]
        assert cells == [count(row.ac), count(row.mac), picojoules(row.pj), percent(row.pj / energy.total_pj)]
        assert beside == [picojoules(estimate(measured, name, costs).total_pj) for name in conventions()]
        assert blocks == [picojoules(pj) for pj in energy.by_block().values()]
        known = energy.standard_error_pj
        assert error == [f" ± {percent(known / energy.total_pj)}" if known is not None else ""]
    browser.run("document.getElementById('reset').click()")
    assert set(browser.run(script)[0]) == {picojoules(estimate(measured).total_pj)}
    assert not browser.console()


@pytest.mark.parametrize("page", ["shown", "whole", "large"])
def test_python_and_the_page_draw_the_same(
    browser: Browser, page: str, request: pytest.FixtureRequest
) -> None:
    """Without scripts the page says what it says with them: the first switch changes nothing."""
    script = "return document.getElementById('main').innerText"
    shown = request.getfixturevalue(page)
    browser.open(shown, scripts="off")
    before = browser.run("document.querySelectorAll('details').forEach((e) => { e.open = true });" + script)
    browser.open(shown)
    browser.run("document.querySelectorAll('.switch, .tools, .own').forEach((e) => { e.hidden = true })")
    browser.run("document.querySelectorAll('details').forEach((e) => { e.open = true });")
    assert browser.run(script) == before


def test_the_table_sorts_filters_and_copies(browser: Browser, shown: Path) -> None:
    measured, energy = MEASURED, estimate(MEASURED)
    browser.open(shown)
    rows = """[...document.querySelectorAll('#every tbody tr')].filter((r) => !r.hidden)
        .map((r) => Number(r.dataset.row))"""
    click = "document.querySelector(`[data-key=${arguments[0]}] button`).click(); return " + rows
    down = browser.run(click, "pj")
    assert [energy.rows[i].pj for i in down] == sorted((r.pj for r in energy.rows), reverse=True)
    up = browser.run(click, "pj")
    assert [energy.rows[i].pj for i in up] == sorted(r.pj for r in energy.rows)
    assert browser.run(click, "pj") == list(range(len(measured.rows)))
    names = browser.run(click, "op")
    assert [measured.rows[i].op for i in names] == sorted(r.op for r in measured.rows)
    browser.choose(filter="CONV2D")
    assert {measured.rows[i].op for i in browser.run(f"return {rows}")} == {"conv2d"}
    browser.run("document.getElementById('zeros').click()")
    kept = browser.run(f"return {rows}")
    assert kept and all(energy.rows[i].pj > 0 for i in kept)
    for kind in ("csv", "latex", "markdown"):
        browser.run("document.querySelector(`[data-copy=${arguments[0]}]`).click()", kind)
        text = browser.run("return document.getElementById('copied').value")
        assert text.count("\n") >= len(kept) + 1 and measured.rows[kept[0]].name in text
    browser.run("document.querySelector('[data-copy=csv]').click()")
    head, first, *_ = browser.run("return document.getElementById('copied').value").splitlines()
    assert head.split(",")[:2] == ["name", "op"]
    assert float(first.split(",")[8]) == pytest.approx(energy.rows[kept[0]].pj, rel=1e-12)
    assert not browser.console()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every section: a training, maps, exports, one that differs, one with a chip's answer."""
    folder = tmp_path_factory.mktemp("whole")
    exports = [exported(folder / "onnx", "aa"), exported(folder / "nir", "aa", mismatches=2)]
    exports.append(with_mapping(exported(folder / "lava", "aa")))
    given = {"verifications": exports, "maps": some_maps()}
    return written(with_history(saved("digits")), folder, **given)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """STAtten 8-768."""
    page = written(saved("statten-8-768"), tmp_path_factory.mktemp("large"))
    assert page.stat().st_size < 1_000_000
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, whole: Path, scheme: str) -> None:
    """Of long tables the first rows: the others are like them."""
    browser.open(whole, scheme=scheme)
    browser.run("document.querySelectorAll('details').forEach((e) => { e.open = true })")
    browser.run("document.querySelectorAll('tbody tr:nth-child(n + 5)').forEach((e) => { e.remove() })")
    assert browser.axe(*(["color-contrast"] if scheme == "dark" else [])) == []


@pytest.mark.parametrize("page", ["whole", "large"])
def test_nothing_is_wider_than_a_phone(browser: Browser, page: str, request: pytest.FixtureRequest) -> None:
    browser.open(request.getfixturevalue(page), width=PHONE)
    browser.run("document.querySelectorAll('details').forEach((e) => { e.open = true })")
    assert browser.wider_than(PHONE) == []
    assert browser.run("return document.documentElement.scrollWidth") <= PHONE


@pytest.mark.parametrize("page", ["whole", "large"])
def test_on_paper_no_number_breaks(browser: Browser, page: str, request: pytest.FixtureRequest) -> None:
    """Laid out at the width of a sheet, every quantity stands on one line, in its box and on the sheet."""
    sheet = round((210 - 28) / 25.4 * 96)
    browser.open(request.getfixturevalue(page), width=sheet, media="print")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    broken = browser.run(
        r"""const found = [];
        const lines = (range) => new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size;
        const walk = document.createTreeWalker(document.getElementById('main'), NodeFilter.SHOW_TEXT);
        while (walk.nextNode()) {
          const node = walk.currentNode;
          if (!node.parentElement.checkVisibility()) continue;
          for (const m of node.data.matchAll(/[\d.,]+[ \u00a0]?([pnµm]?J|%|×|[kMG])(?![\p{L}\p{N}_])/gu)) {
            const range = document.createRange();
            range.setStart(node, m.index); range.setEnd(node, m.index + m[0].length);
            if (lines(range) > 1) found.push(m[0]);
            if (range.getBoundingClientRect().right > arguments[0] + 1) found.push(`${m[0]} off the sheet`);
          }
        }
        return found;""",
        sheet,
    )
    assert broken == []


def test_the_printed_file(browser: Browser, whole: Path) -> None:
    """Chromium's own PDF: its text has every total whole, and no page ends with a heading."""
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed: pip install pypdf")
    import base64
    import io

    energy = estimate(saved("digits"))
    browser.open(whole)
    sheet = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True, "printBackground": True}
    printed = base64.b64decode(browser.command("Page.printToPDF", **sheet)["data"])
    pages = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(printed)).pages]
    whole = " ".join(" ".join(pages).split())
    for value in (energy.total_pj, *(row.pj for row in energy.rows)):
        assert picojoules(value) in whole
    headings = browser.run("return [...document.querySelectorAll('h2, h3')].map((e) => e.textContent.trim())")
    for page in pages:
        last = [line.strip() for line in page.splitlines() if line.strip()][-1]
        assert last not in headings


def test_a_convention_of_the_readers_own(browser: Browser, shown: Path, tmp_path: Path) -> None:
    """What is picked in the page is what Python computes for the files that the page writes."""
    browser.open(shown)
    browser.choose(convention="spikformer")
    browser.choose(
        **{"own-neuron": "full", "own-products": "none", "own-price-ac": "2.5", "own-price-mul": "7"}
    )
    total = browser.run("return [PAGE.energy.pj, document.querySelector('[data-total=pj]').textContent]")
    first, second = browser.run("return document.querySelector('#own textarea').value").split("\n---\n")
    (tmp_path / "own.yaml").write_text(first)
    (tmp_path / "own-prices.yaml").write_text(second)
    energy = estimate(MEASURED, tmp_path / "own.yaml", tmp_path / "own-prices.yaml")
    assert (energy.convention.neuron, energy.convention.products, energy.costs.ac) == ("full", "none", 2.5)
    assert total == [pytest.approx(energy.total_pj, rel=1e-12), picojoules(energy.total_pj)]
    assert "as spikformer, but products none, neuron full" in browser.run("return document.body.innerText")
    browser.choose(**{"own-price-ac": "-1"})  # no price: nothing changes
    browser.choose(**{"own-price-ac": ""})
    assert browser.run("return PAGE.energy.pj") == total[0]
    browser.run("document.getElementById('reset').click()")
    assert browser.run("return document.getElementById('own-neuron').value") == "none"
    assert not browser.console()


LONG = "stage." * 40 + "x" * 90
ODD = {
    "nothing": Profile((), samples=1, time_steps=1),
    "silent": Profile((OpRow("lif", "lif", neuron_cmp=8, output_elements=8),), samples=1, time_steps=1),
    "uncounted": Profile((OpRow("", "uncounted", note="</script><b>erfinv"),), samples=3, time_steps=2),
    "long": Profile(
        tuple(
            OpRow(f"{LONG}.{i}", "lif", block=LONG, neuron_cmp=40, output_elements=40,
                  output_nonzero=40, output_nonzero_by_step=(1,) * 40, note=LONG)
            for i in range(3)
        ),
        samples=1, time_steps=40, model=LONG, data=LONG, config={LONG: LONG}, uncalled=(LONG,),
        environment={"command": LONG, LONG: LONG}, notes=(LONG,), contract=LONG, aliases={LONG: LONG},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_networks_have_a_page_too(browser: Browser, tmp_path: Path, name: str) -> None:
    """No rows, no energy, nothing counted, names that never end: no message, nothing beyond the screen."""
    page = report(ODD[name], tmp_path / "odd.html")
    browser.open(page, width=PHONE)
    browser.run("document.querySelectorAll('details').forEach((e) => { e.open = true })")
    browser.choose(convention="syops", costs="loihi")
    assert not browser.console() and browser.wider_than(PHONE) == []
    assert browser.run("return document.querySelectorAll('b').length") > 0
    sides = [Side(str(i), ODD[name], estimate(ODD[name])) for i in range(2)]
    browser.open(compare_page(sides, tmp_path / "cmp.html"), width=PHONE)
    browser.choose(convention="syops", costs="loihi")
    assert not browser.console() and browser.wider_than(PHONE) == []
