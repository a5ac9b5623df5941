"""The page in a real browser: no errors, no requests, no sideways scrolling, legible on paper."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webdriver import WebDriver

from edgekit.bundle import Bundle
from edgekit.profile.store import save
from edgekit.report import write_comparison, write_history, write_report
from tests.report.documents import profile_of
from tests.report.test_history import SLOWER

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(built: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each kind of page; the report with layer differences and every section."""
    bundle, root = Bundle.open(built), tmp_path_factory.mktemp("pages")
    measured = profile_of(bundle.manifest)
    folders = {kind: root / kind for kind in ("report", "bare", "comparison", "history", "source")}
    for folder in folders.values():
        folder.mkdir()
    for index, one in enumerate(SLOWER):
        save(one, folders["source"] / f"{index}.json")
    bare = Bundle(built, bundle.manifest.model_copy(update={"latency": (), "accuracy": None}))
    return {
        "report": write_report(bundle, folders["report"], profile=measured, layers=True),
        "bare": write_report(bare, folders["bare"]),
        "comparison": write_comparison((bundle, bundle), (measured, None), folders["comparison"]),
        "history": write_history(folders["source"], folders["history"]),
    }


def opened(browser: WebDriver, page: Path, *, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # reading empties it
    browser.get(page.as_uri())


KINDS = ("report", "bare", "comparison", "history")


@pytest.mark.parametrize("kind", KINDS)
def test_it_opens_without_an_error_and_asks_nobody(
    browser: WebDriver, pages: dict[str, Path], kind: str
) -> None:
    opened(browser, pages[kind], width=1280)
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    assert {url for url in sent if not url.startswith("data:")} == {pages[kind].as_uri()}
    assert pages[kind].stat().st_size < 3_000_000


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("kind", KINDS)
def test_the_page_never_scrolls_sideways(
    browser: WebDriver, pages: dict[str, Path], kind: str, width: int
) -> None:
    opened(browser, pages[kind], width=width)
    unfold = "document.querySelectorAll('details').forEach(one => one.open = true)"
    browser.execute_script(unfold)
    wider = browser.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert wider <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_they_stand_on(
    browser: WebDriver, pages: dict[str, Path], scheme: str
) -> None:
    """WCAG 2.1, 1.4.3: 4.5 to 1 for the colours that text is written in."""
    opened(browser, pages["report"], width=1280, scheme=scheme)
    told: dict[str, Any] = browser.execute_script(
        """const style = getComputedStyle(document.documentElement);
        const probe = document.body.appendChild(document.createElement('i'));
        const rgb = name => {
          probe.style.color = style.getPropertyValue(name);
          return getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
        };
        const names = ['--ink', '--soft', '--accent', '--good', '--bad', '--card', '--bg', '--tint',
                       '--doubt', '--doubt-bg'];
        return Object.fromEntries(names.map(name => [name, rgb(name)]));"""
    )

    def luminance(name: str) -> float:
        parts = [value / 255 for value in told[name]]
        lights = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * lights[0] + 0.7152 * lights[1] + 0.0722 * lights[2]

    def contrast(text: str, ground: str) -> float:
        low, high = sorted((luminance(text), luminance(ground)))
        return (high + 0.05) / (low + 0.05)

    for text in ("--ink", "--soft", "--accent", "--good", "--bad"):
        for ground in ("--card", "--bg", "--tint"):
            assert contrast(text, ground) >= 4.5, (text, ground)
    assert contrast("--doubt", "--doubt-bg") >= 4.5


def test_it_prints(browser: WebDriver, pages: dict[str, Path]) -> None:
    opened(browser, pages["report"], width=1280, scheme="dark")
    made = browser.execute_cdp_cmd(
        "Page.printToPDF", {"preferCSSPageSize": True, "printBackground": True}
    )
    assert base64.b64decode(made["data"]).startswith(b"%PDF")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(255, 255, 255)"


def test_landmarks_and_headings_are_in_order(browser: WebDriver, pages: dict[str, Path]) -> None:
    opened(browser, pages["report"], width=1280)
    found = browser.execute_script(
        """const all = chosen => [...document.querySelectorAll(chosen)];
        return [['header', 'nav', 'main', 'footer'].map(name => all(`body > ${name}`).length),
                all('h1, h2, h3').map(one => +one.tagName[1]), all('[id]').map(one => one.id)];"""
    )
    landmarks, levels, identities = found
    assert landmarks == [1, 1, 1, 1]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(identities) == len(set(identities))
