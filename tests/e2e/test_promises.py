"""What the README promises of the zoo's models, on the artifacts that the command line builds.

Speed is not asserted here but in ``benchmarks/``; what is asserted is that nothing slower than
the original is ever selected.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import Bundle


def _compress(model: str, folder: Path, *options: str) -> tuple[dict[str, Any], Bundle]:
    done = subprocess.run(
        [
            sys.executable, "-m", "edgekit", "compress", f"zoo:{model}", "--recipe", "int8",
            "-o", "m.edge", "--seconds", "5", "--json", *options,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), Bundle.open(folder / "m.edge")


def _nothing_slower_is_selected(bundle: Bundle) -> None:
    medians = {s.artifact: np.median(s.latencies_ns) for s in bundle.manifest.latency}
    for decision in bundle.manifest.decisions:
        assert medians[decision.selected] <= medians[f"{decision.runtime}-fp32"]


@pytest.mark.slow
def test_resnet8_int8_loses_at_most_half_a_point_on_both_runtimes(tmp_path: Path) -> None:
    document, bundle = _compress("resnet8-mnist", tmp_path)
    accuracy = document["accuracy"]
    for runtime in ("onnxruntime", "openvino"):
        assert accuracy["artifacts"][f"{runtime}-int8"] >= accuracy["reference"] - 0.005
    _nothing_slower_is_selected(bundle)


@pytest.mark.slow
def test_efficientnet_int8_agrees_on_95_percent_of_held_out_crops(tmp_path: Path) -> None:
    document, bundle = _compress("efficientnet-lite0", tmp_path)
    for runtime in ("onnxruntime", "openvino"):
        assert document["accuracy"]["artifacts"][f"{runtime}-int8"] >= 0.95
    size = {artifact.id: artifact.size for artifact in bundle.manifest.artifacts}
    assert size["openvino-int8"] < 0.3 * size["openvino-fp32"]
    _nothing_slower_is_selected(bundle)


@pytest.mark.slow
def test_minilm_int8_has_a_mean_cosine_of_99_percent(tmp_path: Path) -> None:
    document, bundle = _compress("minilm", tmp_path)
    assert document["accuracy"]["artifacts"]["openvino-int8"] >= 0.99
    _nothing_slower_is_selected(bundle)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp-digits", "lstm-digits"])
def test_small_models_never_get_slower_or_worse(model: str, tmp_path: Path) -> None:
    document, bundle = _compress(model, tmp_path, "--gpu", "sm89")
    accuracy = document["accuracy"]
    for decision in bundle.manifest.decisions:
        if decision.runtime != "tensorrt-rtx":
            drop = accuracy["reference"] - accuracy["artifacts"][decision.selected]
            assert drop <= accuracy["max_drop"]
    measured = bundle.manifest.model_copy(
        update={
            "decisions": tuple(d for d in bundle.manifest.decisions if d.runtime != "tensorrt-rtx")
        }
    )
    _nothing_slower_is_selected(Bundle(bundle.path, measured))


@pytest.mark.slow
def test_the_demo_shows_the_whole_chain(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for word in ("onnxruntime-int8", "openvino-int8", "tensorrt-rtx-int8-sm89", "answered 200"):
        assert word in done.stdout
    assert (tmp_path / "demo" / "report.html").is_file()
    bundle = Bundle.open(tmp_path / "demo" / "resnet8-mnist.edge")
    assert {a.format for a in bundle.manifest.artifacts} == {
        "onnx",
        "openvino-ir",
        "tensorrt-engine",
    }
