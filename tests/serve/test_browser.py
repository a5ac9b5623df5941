"""The page in a real browser, behind the real guard with its content security policy."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from edgekit.security.access import Access
from edgekit.security.guard import Guard
from edgekit.security.tokens import add_token, load_tokens
from edgekit.serve.app import create_app
from edgekit.serve.config import ServerConfig
from edgekit.serve.repository import Repository
from edgekit.serve.statistics import STAGES
from tests.serve.conftest import ONE

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")
HOSTILE = "<img src=x onerror=alert(1)>"

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed"
)


@dataclass
class Site:
    """The application on a port, behind the real guard: with its headers, and tokens when set."""

    app: Any
    url: str = ""
    access: Access | None = None
    asked: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope.get("path", ""))
        await Guard(self.app, access=self.access)(scope, receive, send)


@pytest.fixture(scope="module")
def site(built: Path, camera: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(camera, folder / "camera.edge")
    shutil.copytree(built, folder / "residual.edge")
    yield from _running(folder, None)


def _running(path: Path, name: str | None) -> Iterator[Site]:
    config = ServerConfig(defaults=ONE)
    site = Site(create_app(Repository(path, config, name), config))
    server = uvicorn.Server(uvicorn.Config(site, port=0, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    site.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield site
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1400"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(site: Site, browser: WebDriver) -> WebDriver:
    """The page, just opened, with the camera chosen and nothing in the logs."""
    site.access = None
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # reading empties it
    browser.get(site.url)
    wait(browser, lambda: browser.find_element(By.ID, "name").text == "camera")
    return browser


def wait(browser: WebDriver, condition: Callable[[], object], seconds: float = 15) -> None:
    stale = [StaleElementReferenceException]  # the page builds its figures anew each second
    WebDriverWait(browser, seconds, 0.1, stale).until(lambda _: condition())


def control(browser: WebDriver, label: str) -> Any:
    found = browser.find_elements(By.CSS_SELECTOR, f'[aria-label="{label}"]:not(:disabled)')
    return found[0] if found else None


def picture(path: Path) -> str:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(path / "picture.png")
    return str(path / "picture.png")


def test_it_loads_without_an_error_and_asks_nobody_else(site: Site, page: WebDriver) -> None:
    wait(page, lambda: page.find_element(By.ID, "health").text == "Ready")
    wait(page, lambda: "/v2/models/camera/profile" in site.asked)
    assert page.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    urls = {one["request"]["url"] for one in sent}
    assert f"{site.url}/page/page.js" in urls
    assert [url for url in urls if not url.startswith(site.url)] == []


def test_a_picture_is_shown_and_gets_its_classes(page: WebDriver, tmp_path: Path) -> None:
    page.find_element(By.ID, "file").send_keys(picture(tmp_path))
    wait(page, lambda: page.find_element(By.ID, "preview").is_displayed())
    top = page.find_element(By.ID, "top")
    top.clear()
    top.send_keys("3")
    page.find_element(By.ID, "send-file").click()
    wait(page, lambda: len(page.find_elements(By.CSS_SELECTOR, "#top-list li")) == 3)
    with Path(picture(tmp_path)).open("rb") as file:
        url = page.current_url
        right = httpx.post(f"{url}predict/camera?top_k=3", content=file.read()).json()["top"]
    shown = page.find_elements(By.CSS_SELECTOR, "#top-list li span")
    assert [one.text for one in shown] == [one["label"] for one in right]
    assert page.get_log("browser") == []


def test_a_json_request_gets_its_answer(page: WebDriver) -> None:
    page.find_element(By.ID, "tab-json").click()
    page.find_element(By.ID, "send-json").click()
    wait(page, lambda: page.find_element(By.ID, "answer").is_displayed())
    answer = json.loads(page.find_element(By.ID, "answer").text)
    assert answer["outputs"][0]["shape"] == [1, 5]
    page.find_element(By.ID, "request").send_keys("x")
    page.find_element(By.ID, "send-json").click()
    wait(page, lambda: "not valid JSON" in page.find_element(By.ID, "answer-head").text)


def test_the_buttons_unload_and_load_a_model(site: Site, page: WebDriver) -> None:
    control(page, "Unload residual").click()
    page.find_element(By.CSS_SELECTOR, "#confirm .danger").click()
    wait(page, lambda: control(page, "Load residual"))
    assert httpx.get(f"{site.url}/v2/models/residual/ready").status_code == 503
    control(page, "Load residual").click()
    wait(page, lambda: control(page, "Unload residual"))
    assert httpx.get(f"{site.url}/v2/models/residual/ready").status_code == 200


def test_unloading_can_be_thought_better_of(site: Site, page: WebDriver) -> None:
    control(page, "Unload residual").click()
    page.find_element(By.CSS_SELECTOR, "#confirm [value=cancel]").click()
    time.sleep(0.3)
    assert httpx.get(f"{site.url}/v2/models/residual/ready").status_code == 200


def test_a_token_is_asked_for_and_forgotten_with_the_page(
    site: Site, page: WebDriver, tmp_path: Path
) -> None:
    secret = add_token(tmp_path / "tokens.yaml", "operator", admin=True)
    site.access = Access(load_tokens(tmp_path / "tokens.yaml"))
    field = page.find_element(By.ID, "token")
    wait(page, field.is_displayed)  # its next look at the server was refused
    field.send_keys(secret)
    page.find_element(By.CSS_SELECTOR, "#token-dialog .primary").click()
    wait(page, lambda: page.find_element(By.ID, "health").text == "Ready")
    control(page, "Unload residual").click()
    page.find_element(By.CSS_SELECTOR, "#confirm .danger").click()
    wait(page, lambda: control(page, "Load residual"))
    control(page, "Load residual").click()
    wait(page, lambda: control(page, "Unload residual"))
    stored = page.execute_script("return JSON.stringify([localStorage, sessionStorage])")
    assert secret not in stored + page.page_source
    assert page.get_cookies() == []


def test_a_token_without_the_right_is_asked_for_a_better_one(
    site: Site, page: WebDriver, tmp_path: Path
) -> None:
    secrets = [
        add_token(tmp_path / "tokens.yaml", name, admin=name == "operator")
        for name in ("camera", "operator")
    ]
    site.access = Access(load_tokens(tmp_path / "tokens.yaml"))
    field = page.find_element(By.ID, "token")
    for secret in secrets:
        wait(page, field.is_displayed)
        field.send_keys(secret)
        page.find_element(By.CSS_SELECTOR, "#token-dialog .primary").click()
        if secret == secrets[0]:
            wait(page, lambda: page.find_element(By.ID, "health").text == "Ready")
            control(page, "Unload residual").click()
            page.find_element(By.CSS_SELECTOR, "#confirm .danger").click()
    wait(page, lambda: control(page, "Load residual"))
    control(page, "Load residual").click()
    wait(page, lambda: control(page, "Unload residual"))


def test_the_charts_move_under_traffic(site: Site, page: WebDriver) -> None:
    def line() -> str:
        found = page.find_elements(By.CSS_SELECTOR, "#rate path.line")
        return found[0].get_attribute("d") or "" if found else ""

    body = {"inputs": [{"name": "image", "shape": [1, 2, 2, 3], "datatype": "UINT8"}]}
    body["inputs"][0]["data"] = [0] * 12  # type: ignore[assignment]
    wait(page, line)
    before = line()
    with httpx.Client() as client:
        for _ in range(100):
            client.post(f"{site.url}/v2/models/camera/infer", json=body)
    tile = "#figures div:nth-child(2) dd"
    wait(page, lambda: page.find_element(By.CSS_SELECTOR, tile).text.endswith("ms"))
    wait(page, lambda: page.find_elements(By.CSS_SELECTOR, "#latency path.line"))
    assert line() != before
    svg = page.find_element(By.CSS_SELECTOR, "#latency svg")
    assert (svg.get_attribute("aria-label") or "").startswith("Latency: p50 0.")
    stages = page.execute_script(
        "return [...document.querySelectorAll('#stages tbody th')].map(one => one.textContent)"
    )
    assert stages == [*STAGES, "all together", "overhead"]
    assert page.find_elements(By.CSS_SELECTOR, "#batches progress")


def test_it_asks_nothing_while_nobody_looks(site: Site, page: WebDriver) -> None:
    first = page.current_window_handle
    page.switch_to.new_window("tab")
    time.sleep(1.2)  # what was under way
    count = len(site.asked)
    time.sleep(2)
    hidden = len(site.asked) - count
    page.close()
    page.switch_to.window(first)
    wait(page, lambda: len(site.asked) > count + hidden)
    assert hidden == 0


@pytest.mark.parametrize("path", ["", "/docs"])
def test_it_fits_a_telephone(site: Site, page: WebDriver, path: str) -> None:
    size = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)  # type: ignore[no-untyped-call]
    page.get(site.url + path)
    time.sleep(0.5)
    width = page.execute_script("return document.documentElement.scrollWidth")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})  # type: ignore[no-untyped-call]
    assert width <= 360


def test_the_theme_follows_the_system_and_the_button(page: WebDriver) -> None:
    def ground() -> str:
        return str(page.execute_script("return getComputedStyle(document.body).backgroundColor"))

    def system(value: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": value}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})  # type: ignore[no-untyped-call]

    system("light")
    light = ground()
    system("dark")
    dark = ground()
    assert dark != light
    page.find_element(By.ID, "theme").click()
    assert ground() == light
    page.refresh()
    assert ground() == light
    page.execute_script("localStorage.clear()")


def test_everything_to_press_has_a_name_and_can_be_reached(page: WebDriver) -> None:
    nameless = page.execute_script(
        "return [...document.querySelectorAll('button, input, textarea, a')].filter(one =>"
        "!(one.textContent.trim() || one.ariaLabel || one.labels?.length)).map(one => one.id)"
    )
    assert nameless == []
    page.execute_script("document.getElementById('tab-file').focus()")
    from selenium.webdriver.common.keys import Keys

    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.switch_to.active_element.get_attribute("id") == "tab-json"
    assert page.find_element(By.ID, "request").is_displayed()


def test_the_name_of_a_model_is_text(built: Path, browser: WebDriver) -> None:
    running = _running(built, HOSTILE)
    site = next(running)
    browser.get_log("browser")
    browser.get(site.url)
    wait(browser, lambda: browser.find_element(By.ID, "name").text == HOSTILE)
    assert browser.find_elements(By.CSS_SELECTOR, "main img") == []
    assert browser.get_log("browser") == []
    browser.get("about:blank")
    next(running, None)
