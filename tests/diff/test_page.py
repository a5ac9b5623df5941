"""The page and the table say what was found."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from edgekit.diff import Difference, LayerDifference
from edgekit.diff.page import difference_page, print_difference


def _layer(tensor: str, own_db: float, problem: str = "") -> LayerDifference:
    return LayerDifference(
        tensor=tensor,
        op="Conv",
        node=f"node_{tensor}",
        module="stem.0 (Conv2d)",
        sqnr_db=own_db - 1,
        before_db=float("inf"),
        own_db=own_db,
        max_abs=0.25,
        problem=problem,
    )


@pytest.fixture
def found() -> Difference:
    layers = (_layer("a<b", 40.0), _layer("c", 12.0), _layer("d", 30.0, "shape [2] instead of [3]"))
    return Difference(layers, layers[1], samples=4, unmatched=2)


def test_the_page_has_a_bar_and_a_row_for_each_layer(found: Difference) -> None:
    page = difference_page(found, "x.edge:fp32", "x.edge:<int8>")
    body = page[page.index("<body>") : page.index("</body>") + 7]
    tree = ET.fromstring(body)  # noqa: S314, our own page
    bars = tree.findall(".//div[@class='strip']/i")
    assert [bar.get("title") for bar in bars] == [
        "Conv a<b, 39.0 dB",
        "Conv c, 11.0 dB",
        "Conv d, shape [2] instead of [3]",
    ]
    assert [bar.get("class") for bar in bars] == [None, "guilty", None]
    heats = [float((bar.get("style") or "").removeprefix("--heat:")) for bar in bars]
    assert heats[0] < heats[1]
    assert len(tree.findall(".//tbody/tr")) == 3
    assert tree.findtext("h1") == "x.edge:<int8> against x.edge:fp32"


def test_the_page_needs_nothing_from_elsewhere(found: Difference) -> None:
    page = difference_page(found, "a", "b")
    assert "http" not in page
    assert "<script" not in page


def test_the_terminal_lists_the_worst_first_and_names_the_guilty(found: Difference) -> None:
    text = io.StringIO()
    print_difference(found, 2, Console(file=text, width=200))
    lines = text.getvalue().splitlines()
    assert "Conv c" in lines[1]
    assert "Conv d" in lines[2]
    assert not any("a<b" in line for line in lines)
    assert "they part at Conv 'c' of stem.0 (Conv2d)" in lines[-1]
    assert "3 layers compared on 4 samples (2 without a counterpart)" in lines[-1]
