"""One headless Chromium for all tests of the page; without it they are skipped."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PHONE, DESK = 390, 1100
AXES = {  # packages that bring axe, newest axe first
    "axe_playwright_python": "axe.min.js",
    "axe_core_python": "axe.min.js",
    "axe_selenium_python": "node_modules/axe-core/axe.min.js",
}


def found(*names: str) -> str:
    """The first of the programs that is installed."""
    return next((path for name in names if (path := shutil.which(name))), "")


def axe_file() -> Path | None:
    """axe.min.js of an installed package."""
    for package, inside in AXES.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent / inside
    return None


class Browser:
    """Chromium over its driver: open a file, run a script, see what the console said."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, width: int = DESK, **media: str) -> None:
        """Open a file in a window of that width; `media`: media="print", scheme="dark", scripts="off"."""
        self.command("Emulation.setScriptExecutionDisabled", value=media.get("scripts") == "off")
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        features = [{"name": "prefers-color-scheme", "value": media.get("scheme", "light")}]
        self.command("Emulation.setEmulatedMedia", media=media.get("media", ""), features=features)
        self.driver.get(path.as_uri())

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def console(self) -> list[str]:
        """What the console said since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def choose(self, **values: str) -> None:
        """Set the page's selects and boxes by id, as a person would."""
        for name, value in values.items():
            self.run(
                "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
                "e.dispatchEvent(new Event(e.tagName === 'SELECT' ? 'change' : 'input', {bubbles: true}))",
                name, value,
            )  # fmt: skip

    def axe(self, *rules: str) -> list[str]:
        """Findings of axe (of some `rules` only), one line each."""
        source = axe_file()
        if source is None:
            pytest.skip("no axe: pip install axe-core-python")
        self.run(source.read_text(encoding="utf-8"))
        self.driver.set_script_timeout(60)
        results = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "const some = arguments[0].length ? {runOnly: {type: 'rule', values: arguments[0]}} : {};"
            "axe.run(document, {resultTypes: ['violations'], ...some})"
            ".then(done, (e) => done({violations: [{id: String(e), nodes: []}]}))",
            rules,
        )
        return [
            f"{v['id']}: {json.dumps([n['html'][:160] for n in v['nodes'][:3]])}"
            for v in results["violations"]
        ]

    def wider_than(self, width: int) -> list[str]:
        """Elements that reach beyond the screen, those in a box that scrolls aside."""
        return self.run(
            """return [...document.body.querySelectorAll('*')].filter((e) => !e.closest('.wide')
            && !e.closest('.skip') && e.getBoundingClientRect().right > arguments[0] + .5)
            .map((e) => e.outerHTML.slice(0, 120))""",
            width,
        )


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser, or a skip that says what is missing."""
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: pip install selenium"
    )
    chromium, driver = found("chromium", "chromium-browser", "google-chrome"), found("chromedriver")
    if not chromium or not driver:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield Browser(started)
    finally:
        started.quit()
