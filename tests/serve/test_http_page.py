from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.serve.conftest import serving

PAGE = files("edgekit.serve") / "page"
KINDS = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "html": "text/html"}
ASSETS = sorted(file.name for file in PAGE.iterdir() if not file.name.endswith(".html"))


@pytest.fixture(scope="module")
def two(
    built: Path, camera: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(built, folder / "residual.edge")
    shutil.copytree(camera, folder / "camera.edge")
    with serving(folder) as (client, _):
        yield client


@pytest.mark.parametrize("name", ASSETS)
def test_every_file_has_its_type_and_is_sent_once(client: TestClient, name: str) -> None:
    answer = client.get(f"/page/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(KINDS[name.rpartition(".")[2]])
    again = client.get(f"/page/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""


@pytest.mark.parametrize("path", ["/page/docs.html", "/page/..%2fapp.py", "/page/other.js"])
def test_nothing_else_is_sent(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "error" in answer.json()


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_strict_content_security_policy_holds(client: TestClient, path: str) -> None:
    page = client.get(path).text
    assert re.findall(r"<script(?![^>]*\bsrc=\"/page/)", page) == []
    assert re.findall(r"<style|\bstyle=|\bon[a-z]+=|javascript:", page) == []
    links = re.findall(r"(?:src|href|action)=\"([^\"]*)\"", page)
    assert [link for link in links if not link.startswith(("/", "#"))] == []
    for link in links:
        if not link.startswith("#"):
            assert client.get(link).status_code == 200


def test_the_whole_page_is_small() -> None:
    assert sum(len(file.read_bytes()) for file in PAGE.iterdir()) < 60_000


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(d * 2 for d in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


_PAIRS = [
    "text on bg",
    "soft on card",
    "soft on bg",
    "soft on hover",
    "accent on card",
    "accent on bg",
    "card on bad",
    "on-accent on accent",
    "good on good-bg",
    "bad on bad-bg",
    "wait on wait-bg",
]


@pytest.mark.parametrize("theme", [r":root \{", r':root\[data-theme="dark"\] \{'])
@pytest.mark.parametrize(
    ("text", "ground"),
    [pair.split(" on ") for pair in _PAIRS],
)
def test_text_has_the_contrast_of_wcag_aa(theme: str, text: str, ground: str) -> None:
    css = (PAGE / "page.css").read_text()
    block = re.search(rf"^{theme}(.*?)^\}}", css, re.MULTILINE | re.DOTALL)
    assert block
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]+)", block[1]))
    light, dark = sorted((_luminance(colours[text]), _luminance(colours[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_both_ways_to_the_dark_theme_have_the_same_colours() -> None:
    css = (PAGE / "page.css").read_text()
    by_system = re.search(r'not\(\[data-theme="light"\]\) \{(.*?)\}', css, re.DOTALL)
    by_choice = re.search(r'^:root\[data-theme="dark"\] \{(.*?)\}', css, re.DOTALL | re.MULTILINE)
    assert by_system
    assert by_choice
    assert by_system[1].split() == by_choice[1].replace("color-scheme: dark;", "").split()


def test_docs_have_every_endpoint_with_an_example_of_every_model(two: TestClient) -> None:
    page = two.get("/docs").text
    for path in two.get("/openapi.json").json()["paths"]:
        assert f"<code>{path}</code>" in page
    for name in ("residual", "camera"):
        assert f"curl -s http://testserver/v2/models/{name}\n" in f"{page}\n".replace(
            "</pre>", "\n"
        )
        assert f"http://testserver/predict/{name} --data-binary @photo.jpg" in page
    assert "[batch, height, width, 3]" in page
    assert "5 labels" in page


def test_an_example_of_the_docs_works_as_it_stands(two: TestClient) -> None:
    page = two.get("/docs").text
    found = re.search(r"models/camera/infer -d &#x27;(.*?)&#x27;", page)
    assert found
    body = found[1].replace("&quot;", '"')
    assert two.post("/v2/models/camera/infer", content=body).status_code == 200
    raw = re.search(r"head -c (\d+) /dev/zero \| curl -s \S*models/residual/infer", page)
    assert raw
    answer = two.post(
        "/v2/models/residual/infer",
        content=bytes(int(raw[1])),
        headers={"Inference-Header-Content-Length": "0"},
    )
    assert answer.status_code == 200


def test_docs_escape_the_names_of_models(built: Path) -> None:
    with serving(built, name="<script>alert('1')</script>") as (client, _):
        page = client.get("/docs").text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page


def test_docs_work_without_a_model(tmp_path: Path) -> None:
    with serving(tmp_path) as (client, _):
        page = client.get("/docs").text
        assert "No model is loaded" in page
        assert "/v2/models/{model}/infer" in page
