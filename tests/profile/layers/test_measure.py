from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from edgekit.runtimes import SessionOptions
from edgekit.runtimes.timer import open_timer

from edgekit import runtimes, zoo
from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.errors import RuntimeUnavailableError
from edgekit.pipeline import Timing, make_bundle
from edgekit.profile.layers import artifact_layers
from edgekit.profile.layers.measure import measure_layers, middle
from edgekit.profile.records import LayerTimes
from edgekit.spec import Feeds
from edgekit.targets import parse_targets
from edgekit.verify import Reference
from tests.compress.graphs import model_of, node
from tests.conftest import batches

FEEDS = {"image": next(batches())["image"]}
NAMES = ("onnxruntime-fp32", "openvino-fp32", "onnxruntime-int8", "openvino-int8")
OPTIONS = SessionOptions(threads=1)
MODULES = ["stem.0 (Conv2d)", "stem.2 (ReLU)", "body.0 (Conv2d)", "model (ResidualNet)",
           "head (Linear)"]  # fmt: skip


def _layers(bundle: Bundle, name: str, feeds: Feeds, seconds: float) -> LayerTimes:
    artifact = bundle.manifest.artifact(name)
    found = artifact_layers(bundle, artifact, feeds, OPTIONS, seconds=seconds)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def all_measured(built: Path) -> dict[str, LayerTimes]:
    bundle = Bundle.open(built)
    return {name: _layers(bundle, name, FEEDS, 0.2) for name in NAMES}


@pytest.fixture(params=NAMES)
def measured(request: pytest.FixtureRequest, all_measured: dict[str, LayerTimes]) -> LayerTimes:
    return all_measured[request.param]


def test_every_layer_is_of_a_module_and_every_module_with_a_product_has_one(
    measured: LayerTimes,
) -> None:
    assert all(layer.modules for layer in measured.layers)
    found = {module for layer in measured.layers for module in layer.modules}
    assert found <= set(MODULES)
    assert {"stem.0 (Conv2d)", "body.0 (Conv2d)", "head (Linear)"} <= found
    assert measured.mapped == 1.0


def test_layers_are_within_the_inferences_they_are_of(measured: LayerTimes) -> None:
    assert measured.runs >= 3
    assert 0 < measured.layers_ns < measured.inference_ns
    assert measured.plain_ns > 0 < measured.call_ns


def test_the_layers_the_call_and_what_is_between_make_up_the_inference(
    measured: LayerTimes,
) -> None:
    """``benchmarks/layer_halves.py`` shows that each is told its own."""
    parts = measured.layers_ns + measured.call_ns + measured.between_ns
    assert parts == pytest.approx(measured.plain_ns)
    assert min(measured.layers_ns, measured.call_ns) > 0
    assert 0 < measured.scale <= 1
    assert measured.scale == 1 or measured.between_ns == pytest.approx(0, abs=1e-3)


def test_the_work_of_the_convolutions_is_known(measured: LayerTimes) -> None:
    stem = 2 * 8 * 8 * 16 * 16 * 3 * 9
    layers = [one for one in measured.layers if "stem.0 (Conv2d)" in one.modules]
    layer = max(layers, key=lambda one: one.flops or 0)
    assert stem <= (layer.flops or 0) <= 1.1 * stem  # and what is fused with it
    assert layer.bytes is not None


def test_what_profiling_pushes_out_of_the_caches_is_not_the_calls(tmp_path: Path) -> None:
    """Around a thousand operators it adds fifty times what it adds around a hundred."""
    path, runtime = tmp_path / "many.onnx", runtimes.require("onnxruntime")
    nodes = [node("Sigmoid", [f"x{i}"], [f"x{i + 1}"]) for i in range(1000)]
    ir.save(model_of(nodes, {}, {"x0": [1, 256]}, ["x1000"]), path)
    feeds = {"x0": np.ones((1, 256), np.float32)}
    with runtime.load(path, OPTIONS) as session:
        # Other work beside pushes things out of the caches, too.
        found = (
            measure_layers(runtime, path, OPTIONS, session, feeds, {}, seconds=0.5)
            for _ in range(8)
        )
        assert any(one.call_ns < 0.12 * one.plain_ns for one in found)


@pytest.mark.parametrize("name", NAMES)
def test_precision_is_what_was_executed(name: str, all_measured: dict[str, LayerTimes]) -> None:
    largest = max(all_measured[name].layers, key=lambda layer: layer.flops or 0)
    assert largest.precision == name.rpartition("-")[2]
    assert largest.op in {"Conv", "FusedConv", "Convolution", "QLinearConv"}
    assert largest.kernel


def test_it_survives_json(measured: LayerTimes) -> None:
    assert LayerTimes.model_validate_json(measured.model_dump_json()) == measured


def test_the_middle_third_is_as_robust_as_the_median_and_adds_up() -> None:
    random = np.random.default_rng(0)
    layers = random.uniform(9, 11, (300, 20))
    stalled = random.random((300, 20)) < 0.05  # in one layer or another of most inferences
    layers[stalled] += 50
    whole = layers.sum(1)
    chosen = middle(whole)
    assert len(chosen) == 100
    assert layers[chosen].mean(0).sum() == pytest.approx(whole[chosen].mean())
    assert whole[chosen].mean() == pytest.approx(np.median(whole), rel=0.05)
    assert np.median(layers, 0).sum() < 0.95 * np.median(whole)


def test_a_single_inference_is_its_own_middle() -> None:
    assert list(middle(np.array([3.0]))) == [0]
    assert list(middle(np.array([3.0, 1.0]))) == [1, 0]


def test_a_runtime_that_does_not_tell_says_so(onnx_file: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="runtime torch"):
        open_timer(runtimes.get("torch"), onnx_file, OPTIONS)


def test_an_artifact_whose_runtime_does_not_tell_has_no_layers(bundle: Bundle) -> None:
    artifact = bundle.manifest.artifact("onnxruntime-fp32")
    other = artifact.model_copy(update={"runtime": "torch"})
    assert artifact_layers(bundle, other, FEEDS, OPTIONS) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp-digits", "resnet8-mnist", "lstm-digits"])
def test_the_time_of_the_zoo_is_that_of_its_modules(name: str, tmp_path: Path) -> None:
    """``benchmarks/layers.py`` has the larger models, and what the layers add up to."""
    made = make_bundle(
        zoo.load(name),
        tmp_path / f"{name}.edge",
        recipe=load_recipe("int8"),
        targets=parse_targets([], None),
        timing=Timing(rounds=(3, 5), seconds=1),
    )
    assert made.manifest.reference is not None
    stored = Reference.load(made.path / made.manifest.reference).feeds[0]
    feeds = {key: array[:1] for key, array in stored.items()}
    for artifact in made.manifest.artifacts:
        found = _layers(made, artifact.id, feeds, 2.0)
        assert found.mapped >= 0.95, artifact.id
        assert found.layers_ns <= 1.01 * found.inference_ns, artifact.id
