"""The heat strips of a report, from artifacts that are really run."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.manifest import Decision
from edgekit.report import write_report
from edgekit.report.layers import compare_layers, layers_section


def _selecting(bundle: Bundle, *selected: str) -> Bundle:
    """The bundle as if these artifacts had been the fastest."""
    decisions = tuple(
        Decision(runtime=one.partition("-")[0], selected=one, reason="", rejected={})
        for one in selected
    )
    return Bundle(bundle.path, bundle.manifest.model_copy(update={"decisions": decisions}))


def test_each_compressed_artifact_has_a_strip_with_a_bar_for_each_layer(
    bundle: Bundle, tmp_path: Path
) -> None:
    chosen = _selecting(bundle, "onnxruntime-int8", "openvino-int8")
    write_report(chosen, tmp_path, layers=True)
    page = (tmp_path / "report.html").read_text()
    compared = json.loads((tmp_path / "report.json").read_text())["layers"]
    assert [(one["first"], one["second"]) for one in compared] == [
        ("onnxruntime-fp32", "onnxruntime-int8"),
        ("openvino-fp32", "openvino-int8"),
    ]
    for one in compared:
        assert f"{one['second']} against {one['first']}" in page
        assert len(one["found"]["layers"]) > 3
    assert page.count("--heat:") == sum(len(one["found"]["layers"]) for one in compared)
    assert "stem.0 (Conv2d)" in page


def test_what_is_not_compressed_or_cannot_run_here_is_left_out(bundle: Bundle) -> None:
    assert compare_layers(_selecting(bundle, "onnxruntime-fp32")) == []


def test_a_report_without_layers_runs_nothing(bundle: Bundle, tmp_path: Path) -> None:
    write_report(bundle, tmp_path)
    assert "Layer by layer" not in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["layers"] == []
    assert layers_section([]) == ""
