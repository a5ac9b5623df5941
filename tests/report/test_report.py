from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from edgekit.bundle import Bundle
from edgekit.errors import OutputError
from edgekit.manifest import Manifest
from edgekit.profile.stats import summarize
from edgekit.report import write_report
from edgekit.report.page import render
from edgekit.report.table import print_latency, print_summary, print_verification, rows
from tests.conftest import ARTIFACTS


class _Page(HTMLParser):
    """Collects what a browser would fetch, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [
            str(value)
            for key, value in attrs
            if key in {"src", "href", "xlink:href"} and not str(value).startswith(("#", "data:"))
        ]

    def handle_data(self, data: str) -> None:
        self.words += data


def _printed(show: object, *arguments: object) -> str:
    stream = io.StringIO()
    show(*arguments, Console(file=stream, width=200))
    return stream.getvalue()


def test_the_page_is_self_contained(bundle: Bundle) -> None:
    page = _Page(render(bundle.manifest))
    assert page.fetched == []
    assert "script" not in page.tags
    assert page.tags.count("svg") > 4


def test_the_page_tells_every_artifact_and_every_reason(bundle: Bundle) -> None:
    words = _Page(render(bundle.manifest)).words
    for artifact in bundle.manifest.artifacts:
        assert artifact.id in words
    for decision in bundle.manifest.decisions:
        assert decision.reason in words
        for reason in decision.rejected.values():
            assert reason in words
    assert "int8-ptq" in words


def test_what_comes_from_the_bundle_is_escaped(bundle: Bundle) -> None:
    evil = "<script>alert(1)</script>"
    manifest = bundle.manifest.model_copy(update={"name": evil, "source": evil, "notes": (evil,)})
    assert "<script>" not in render(manifest)


def test_few_samples_are_marked(bundle: Bundle) -> None:
    assert "~ p99 from fewer than 662 samples" in _Page(render(bundle.manifest)).words


def test_a_bundle_without_measurements_has_a_page(bundle: Bundle) -> None:
    bare = bundle.manifest.model_copy(update={"latency": (), "accuracy": None, "calibration": None})
    assert "No calibration" in _Page(render(bare)).words


def test_json_has_the_table_and_the_raw_samples(bundle: Bundle, tmp_path: Path) -> None:
    page = write_report(bundle, tmp_path)
    assert page == tmp_path / "report.html"
    document = json.loads((tmp_path / "report.json").read_text())
    table = {row["artifact"]: row for row in document["table"]}
    for samples in Manifest.model_validate(document["bundle"]).latency:
        assert table[samples.artifact]["latency"]["p50"] == pytest.approx(summarize(samples).p50)


def test_a_missing_folder_is_one_line(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        write_report(bundle, tmp_path / "no")


def test_rows_are_grouped_and_one_a_runtime_is_selected(bundle: Bundle) -> None:
    found = rows(bundle.manifest)
    assert {row.artifact.id for row in found} == ARTIFACTS
    for runtime in ("onnxruntime", "openvino"):
        group = [row for row in found if row.artifact.runtime == runtime]
        assert [row.status for row in group].count("selected") == 1
    assert {row.artifact.id for row in found if row.speedup is None} == {
        "onnxruntime-fp32",
        "openvino-fp32",
    }


def test_the_terminal_shows_the_same(bundle: Bundle) -> None:
    text = _printed(print_summary, bundle.manifest)
    for artifact in bundle.manifest.artifacts:
        assert artifact.id in text
    assert "✓" in text
    text = _printed(print_latency, bundle.manifest.latency)
    assert f"{summarize(bundle.manifest.latency[0]).p50:.3f}" in text
    text = _printed(print_verification, bundle.manifest.verification)
    records = bundle.manifest.verification
    wrong = [one for record in records for one in record.extremes.values() if one.reason]
    assert text.count(" off ") == len(wrong)
    assert text.count(" ok ") == sum(1 + len(one.extremes) for one in records) - len(wrong)
    assert "denormal" in text
