"""What the recipes promise about accuracy, on the zoo's own models and held-out data."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit import zoo
from edgekit.bundle import Bundle
from edgekit.compress.recipe import Search, load_recipe
from edgekit.machine import this_machine
from edgekit.numerics import probe
from edgekit.pipeline import Timing, make_bundle
from edgekit.targets import parse_targets

pytestmark = pytest.mark.slow


def _compressed(name: str, recipe: str, out: Path) -> Bundle:
    chosen = load_recipe(recipe)
    if chosen.search is not None:
        search = Search(latency=False, accuracy=True, seconds=30)
        chosen = chosen.model_copy(update={"search": search})
    return make_bundle(
        zoo.load(name),
        out,
        recipe=chosen,
        targets=parse_targets([], None),
        timing=Timing(rounds=(10, 50), seconds=2),
    )


@pytest.mark.parametrize("name", ["mlp-digits", "resnet8-mnist", "lstm-digits"])
def test_int8_accurate_loses_two_tenths_of_a_point_at_most(name: str, tmp_path: Path) -> None:
    manifest = _compressed(name, "int8-accurate", tmp_path / "a.edge").manifest
    assert manifest.accuracy is not None
    for decision in manifest.decisions:
        score = manifest.accuracy.artifacts[decision.selected]
        assert score >= manifest.accuracy.reference - 0.002 - 1e-9


def test_int8_minilm_keeps_a_cosine_of_998_thousandths(tmp_path: Path) -> None:
    manifest = _compressed("minilm", "int8", tmp_path / "m.edge").manifest
    assert manifest.accuracy is not None
    int8 = {k: v for k, v in manifest.accuracy.artifacts.items() if k.endswith("int8")}
    assert set(int8) == {"onnxruntime-int8", "openvino-int8"}
    # Seven bits of weights, all that some CPUs can add up, leave more of an error.
    least = 0.996 if probe(this_machine().features).saturates else 0.998
    assert min(int8.values()) >= least


def test_quantization_aware_training_hands_its_scales_to_every_engine(tmp_path: Path) -> None:
    manifest = _compressed("resnet8-mnist", "qat-int8", tmp_path / "q.edge").manifest
    assert manifest.accuracy is not None
    for name in ("onnxruntime-int8", "openvino-int8"):
        assert manifest.accuracy.artifacts[name] >= manifest.accuracy.reference - 0.005
