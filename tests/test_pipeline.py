from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from edgekit.exporters import prepare
from edgekit.exporters.passes.base import Rewrite
from onnx import numpy_helper
from torch import nn

from edgekit import build, pipeline
from edgekit.bundle import Bundle
from edgekit.compress.recipe import Recipe, load_recipe
from edgekit.errors import ExportError, GateError, RuntimeUnavailableError, SpecError
from edgekit.manifest import Artifact
from edgekit.pipeline import Timing, make_bundle
from edgekit.serve.config import ModelConfig
from edgekit.serve.loading import load
from edgekit.targets import parse_targets
from edgekit.verify import Reference, verify_bundle
from edgekit.workload import Workload
from tests.compress.tiny import adapter, cnn
from tests.conftest import ARTIFACTS, batches

ENGINES = ("onnxruntime", "openvino")
QUICK = Timing(threads=1, rounds=(10, 20), seconds=1.0)


def _make(workload: Workload, out: Path, **options: object) -> Bundle:
    settings: dict = {
        "recipe": load_recipe("int8"),
        "targets": parse_targets([], None),
        "timing": QUICK,
        **options,
    }
    return make_bundle(workload, out, **settings)


def test_a_judged_workload_gives_a_complete_record(judged: Workload, tmp_path: Path) -> None:
    manifest = _make(judged, tmp_path / "m.edge").manifest
    ids = ARTIFACTS
    assert {artifact.id for artifact in manifest.artifacts} == ids
    assert not [note for note in manifest.notes if note.startswith("Graph pass")]
    assert {record.artifact for record in manifest.verification} == ids
    assert {samples.artifact for samples in manifest.latency} == ids
    assert manifest.accuracy is not None
    assert manifest.accuracy.artifacts.keys() == ids
    assert manifest.accuracy.reference == 1.0
    assert manifest.calibration is not None
    assert manifest.calibration["samples"] == 32
    assert {decision.runtime for decision in manifest.decisions} == {"onnxruntime", "openvino"}
    assert [spec.tensor.shape for spec in manifest.inputs] == [("batch", 3, 16, 16)]


def test_what_is_timed_has_the_sizes_that_were_asked_for(judged: Workload, tmp_path: Path) -> None:
    timing = Timing(threads=1, rounds=(5, 5), sizes={"batch": 3})
    made = _make(judged, tmp_path / "m.edge", timing=timing)
    assert {samples.shapes["image"] for samples in made.manifest.latency} == {(3, 3, 16, 16)}
    with pytest.raises(SpecError, match="'sequence'"):
        _make(judged, tmp_path / "n.edge", timing=Timing(sizes={"sequence": 4}))
    assert not (tmp_path / "n.edge").exists()


def test_a_selected_artifact_is_never_slower_than_its_original(bundle: Bundle) -> None:
    medians = {s.artifact: np.median(s.latencies_ns) for s in bundle.manifest.latency}
    for decision in bundle.manifest.decisions:
        assert medians[decision.selected] <= medians[f"{decision.runtime}-fp32"]


def test_fp32_only_exports(workload: Workload, tmp_path: Path) -> None:
    bundle = _make(workload, tmp_path / "m.edge", recipe=load_recipe("fp32"), timing=None)
    assert {a.precision for a in bundle.manifest.artifacts} == {"fp32"}
    assert bundle.manifest.latency == ()


def test_a_gpu_target_adds_engines_that_are_marked_as_not_run(
    workload: Workload, tmp_path: Path
) -> None:
    bundle = _make(workload, tmp_path / "m.edge", targets=parse_targets([], "sm89"))
    engines = [a for a in bundle.manifest.artifacts if a.runtime == "tensorrt-rtx"]
    assert {engine.id for engine in engines} == {
        "tensorrt-rtx-fp32-sm89",
        "tensorrt-rtx-int8-sm89",
    }
    for record in bundle.manifest.verification:
        assert record.ran == (not record.artifact.startswith("tensorrt"))
        assert record.passed  # of an engine, the graph that it was built from
        assert record.outputs
    decision = next(d for d in bundle.manifest.decisions if d.runtime == "tensorrt-rtx")
    assert decision.selected == "tensorrt-rtx-fp32-sm89"


def test_an_onnx_file_gets_the_same_treatment(onnx_file: Path, tmp_path: Path) -> None:
    workload = Workload(
        name="plain",
        model=onnx_file,
        example_inputs={"image": np.zeros((1, 3, 16, 16), np.float32)},
        output_names=["logits"],
        calibration=batches,
    )
    bundle = _make(workload, tmp_path / "m.edge")
    assert all(record.passed for record in bundle.manifest.verification)


def test_a_fixed_batch_stays_whole(workload: Workload, tmp_path: Path) -> None:
    workload.example_inputs = {"image": torch.zeros(8, 3, 16, 16)}
    workload.dynamic_shapes = {}
    bundle = _make(workload, tmp_path / "m.edge")
    assert bundle.manifest.inputs[0].shape == (8, 3, 16, 16)
    assert all(record.passed for record in bundle.manifest.verification)
    assert bundle.manifest.latency[0].shapes["image"][0] == 8


def test_labels_and_reference_samples_travel_with_the_bundle(bundle: Bundle) -> None:
    assert (bundle.path / "labels.txt").read_text().split() == list("abcde")
    assert bundle.manifest.reference == "reference.npz"


def test_artifacts_are_verified_on_a_batch_of_two_as_well(bundle: Bundle) -> None:
    reference = Reference.load(bundle.path / "reference.npz").like_data()
    assert [feeds["image"].shape[0] for feeds in reference.feeds[:3]] == [1, 2, 1]
    together = np.concatenate([reference.feeds[0]["image"], reference.feeds[2]["image"]])
    np.testing.assert_array_equal(reference.feeds[1]["image"], together)


def test_an_export_that_changes_the_model_is_refused_and_nothing_is_written(
    workload: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = build.prepare_onnx

    def sabotage(source: Path, target: Path, **options: object) -> Path:
        real(source, target, **options)
        model = onnx.load(target)
        weight = model.graph.initializer[0]
        weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
        onnx.save(model, target)
        return target

    monkeypatch.setattr(build, "prepare_onnx", sabotage)
    with pytest.raises(GateError, match="does not compute what the original model does"):
        _make(workload, tmp_path / "m.edge")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_late_in_the_run_keeps_the_old_bundle(
    workload: Workload, bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (bundle_copy / "bundle.json").read_bytes()

    def die(*_: object, **__: object) -> None:
        raise RuntimeError("power failure")

    monkeypatch.setattr(pipeline, "seal", die)
    with pytest.raises(RuntimeError, match="power failure"):
        _make(workload, bundle_copy)
    assert (bundle_copy / "bundle.json").read_bytes() == before
    Bundle.open(bundle_copy)


def test_a_model_without_any_quantizable_operator_keeps_only_its_original(tmp_path: Path) -> None:
    workload = Workload(
        name="softmax",
        model=nn.Softmax(dim=-1),
        example_inputs={"x": torch.zeros(1, 4)},
        calibration=lambda: [{"x": np.ones((2, 4), np.float32)}],
    )
    bundle = _make(workload, tmp_path / "m.edge")
    assert {a.precision for a in bundle.manifest.artifacts} == {"fp32"}


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny CNN with a smaller variant, pruned and quantized."""
    steps = [{"type": "prune", "multiple": 2, "measured": False}, {"type": "int8-ptq"}]
    path = tmp_path_factory.mktemp("pruned") / "m.edge"
    recipe = Recipe.model_validate({"name": "r", "passes": steps})
    return _make(cnn(16, blocks=1), path, recipe=recipe)


CHANGED = {f"{engine}-pruned-{kind}" for engine in ENGINES for kind in ("fp32", "int8")}


def _precisions(artifacts: Iterable[Artifact]) -> set[str]:
    """Without those that only machines with bfloat16 get."""
    return {one.id for one in artifacts if "bf16" not in one.precision}


def test_a_changed_module_is_there_as_float_and_as_int8(pruned: Bundle) -> None:
    originals = {f"{engine}-fp32" for engine in ENGINES}
    assert _precisions(pruned.manifest.artifacts) == originals | CHANGED
    (record,) = pruned.manifest.passes
    assert record.name == "prune"
    assert record.macs[1] < 0.7 * record.macs[0]


def test_it_is_verified_against_the_changed_module_and_the_original_against_itself(
    pruned: Bundle,
) -> None:
    original = Reference.load(pruned.path / "reference.npz")
    for artifact in pruned.manifest.artifacts:
        changed = artifact.precision != "fp32"
        assert artifact.reference == ("reference-changed.npz" if changed else None)
        (record,) = [v for v in pruned.manifest.verification if v.artifact == artifact.id]
        assert record.passed
        if artifact.precision.endswith("fp32"):  # the same float model, to rounding
            assert record.outputs["logits"].sqnr_db > 60
        if changed:
            own = Reference.of(pruned, artifact)
            assert not np.allclose(own.outputs[0]["logits"], original.outputs[0]["logits"])
            np.testing.assert_array_equal(own.feeds[0]["image"], original.feeds[0]["image"])


def test_such_a_bundle_passes_verify_and_the_canary_of_the_server(pruned: Bundle) -> None:
    records = verify_bundle(Bundle.open(pruned.path))
    assert {record.artifact for record in records} >= CHANGED
    assert all(record.passed and record.ran for record in records)
    manifest = pruned.manifest
    for engine in ENGINES:  # whatever was faster in that run, serve the changed one
        chosen = [
            decision.model_copy(update={"selected": f"{engine}-pruned-int8"})
            for decision in manifest.decisions
            if decision.runtime == engine
        ]
        served = Bundle(pruned.path, manifest.model_copy(update={"decisions": tuple(chosen)}))
        loaded = load(served, ModelConfig(runtime=engine, threads=1))
        assert loaded.artifact.id == f"{engine}-pruned-int8"
        for session in loaded.sessions:
            session.close()


def test_the_smaller_model_is_measured_beside_and_not_shipped(pruned: Bundle) -> None:
    manifest = pruned.manifest
    smaller = _precisions(manifest.alternatives)
    assert smaller == {f"{e}-smaller-{kind}" for e in ENGINES for kind in ("fp32", "int8")}
    assert manifest.accuracy is not None
    assert smaller <= manifest.accuracy.artifacts.keys()
    assert smaller <= {record.artifact for record in manifest.latency}
    assert smaller <= {record.artifact for record in manifest.verification if record.passed}
    assert not any("smaller" in path.name for path in pruned.path.rglob("*"))
    assert not any("smaller" in decision.selected for decision in manifest.decisions)


def test_an_export_of_the_original_is_gated_whatever_the_passes_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = build.prepare_onnx

    def sabotage(source: Path, target: Path, **options: object) -> Path:
        real(source, target, **options)
        if target.name == "model.onnx":
            model = onnx.load(target)
            weight = max(model.graph.initializer, key=lambda one: int(np.prod(one.dims)))
            weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
            onnx.save(model, target)
        return target

    monkeypatch.setattr(build, "prepare_onnx", sabotage)
    recipe = Recipe.model_validate({"name": "r", "passes": [{"type": "recalibrate"}]})
    workload = dataclasses.replace(cnn(blocks=1), smaller=None)
    with pytest.raises(GateError, match="does not compute what the original model does"):
        _make(workload, tmp_path / "m.edge", recipe=recipe, timing=None)
    assert not (tmp_path / "m.edge").exists()


def test_weights_that_were_only_tuned_have_a_name_too(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"name": "r", "passes": [{"type": "recalibrate"}]})
    workload = dataclasses.replace(cnn(blocks=1), smaller=None)
    bundle = _make(
        workload, tmp_path / "m.edge", recipe=recipe, timing=None,
        targets=parse_targets(["onnxruntime"], None),
    )  # fmt: skip
    assert {one.id for one in bundle.manifest.artifacts} == {
        "onnxruntime-fp32",
        "onnxruntime-tuned-fp32",
    }


def test_a_merged_adapter_is_the_new_original(tmp_path: Path) -> None:
    workload = dataclasses.replace(cnn(blocks=1), smaller=None)
    step = {"type": "merge-adapter", "path": str(adapter(tmp_path, 8))}
    bundle = _make(
        workload, tmp_path / "m.edge", timing=None,
        recipe=Recipe.model_validate({"name": "r", "passes": [step]}),
        targets=parse_targets(["onnxruntime"], None),
    )  # fmt: skip
    assert [one.id for one in bundle.manifest.artifacts] == ["onnxruntime-fp32"]
    assert [record.name for record in bundle.manifest.passes] == ["merge-adapter"]
    reference = Reference.load(bundle.path / "reference.npz").like_data()
    assert isinstance(workload.model, nn.Module)
    with torch.no_grad():
        before = workload.model(torch.from_numpy(reference.feeds[0]["image"])).numpy()
    assert not np.allclose(reference.outputs[0]["logits"], before, atol=1e-2)
    assert bundle.manifest.accuracy is not None
    assert bundle.manifest.accuracy.reference < 1.0  # it scores 1 without the adapter
    assert all(record.passed for record in bundle.manifest.verification)


def test_targets_are_checked() -> None:
    with pytest.raises(RuntimeUnavailableError, match="unknown runtime 'tensorflow'"):
        parse_targets(["tensorflow"], None)
    with pytest.raises(RuntimeUnavailableError, match="--gpu sm89"):
        parse_targets(["tensorrt-rtx"], None)
    with pytest.raises(ExportError, match="unknown GPU target"):
        parse_targets([], "rtx4090")
    assert [t.runtime for t in parse_targets(["openvino"], None)] == ["openvino"]


def test_a_graph_pass_that_changes_a_result_is_undone_and_noted(
    workload: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(graph: ir.Graph) -> int:
        weights = (v for v in graph.initializers.values() if v.shape and len(v.shape) == 4)
        for value in weights:
            array = value.const_value.numpy()
            value.const_value = ir.tensor(-array, name=value.name)
        return 1

    passes = (Rewrite("spoil", spoil), *prepare._PASSES)
    monkeypatch.setattr(prepare, "_PASSES", passes)
    fp32 = load_recipe("fp32")
    manifest = _make(workload, tmp_path / "m.edge", recipe=fp32, timing=None).manifest
    assert all(record.passed for record in manifest.verification)
    (note,) = (note for note in manifest.notes if "Graph pass" in note)
    assert note.startswith("Graph pass spoil was undone: from node ")
    assert "output 'logits' differs by" in note
