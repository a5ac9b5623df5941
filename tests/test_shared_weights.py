"""A bundle holds weights that are worth it once, and works as one that holds them apart."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from edgekit.exporters import save
from onnx import TensorProto, helper, numpy_helper

from edgekit import modelref, runtimes, shared_weights
from edgekit.bundle import Bundle, hash_file
from edgekit.compress.recipe import Recipe, load_recipe
from edgekit.diff import compare, open_side, shared_feeds
from edgekit.errors import BundleError
from edgekit.external_data import SHARED_WEIGHTS
from edgekit.manifest import Artifact
from edgekit.packing import pack, unpack
from edgekit.pipeline import make_bundle
from edgekit.report import write_report
from edgekit.serve.config import ModelConfig
from edgekit.serve.loading import load
from edgekit.shared_weights import LEAST_SAVED, share_weights
from edgekit.targets import parse_targets
from edgekit.verify import verify_bundle
from tests.conftest import ARTIFACTS
from tests.wide import ENGINES, OPTIONS, bits, files_of, run, wide_bundle

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same with every artifact standing alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_weights, "LEAST_SAVED", 2**40)
        return wide_bundle(tmp_path_factory.mktemp("apart") / "wide.edge", load_recipe("int8"))


@pytest.fixture
def copy(shared: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared.path, tmp_path / "copy.edge"))


def _tensors(path: Path) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


def test_every_large_weight_is_in_the_bundle_once(shared: Bundle, apart: Bundle) -> None:
    data = [file.read_bytes() for file in files_of(shared.path)]
    paths = {apart.file(one) for one in apart.manifest.artifacts if one.format == "onnx"}
    large = [x.tobytes() for path in paths for x in _tensors(path).values() if x.nbytes >= 4096]
    assert sorted(map(len, large)) == [2048 * 160, 4 * 2048 * 160]
    for weight in large:
        assert sum(one.count(weight) for one in data) == 1
    twice = sum(file.stat().st_size for file in files_of(apart.path))
    assert sum(map(len, data)) < 0.55 * twice


def test_every_artifact_computes_the_same_bits(shared: Bundle, apart: Bundle) -> None:
    assert {one.id for one in shared.manifest.artifacts} == ARTIFACTS
    for one in shared.manifest.artifacts:
        alone = apart.file(apart.manifest.artifact(one.id))
        assert bits(run(one.runtime, shared.file(one))) == bits(run(one.runtime, alone)), one.id


def test_the_size_of_an_artifact_is_what_it_needs_by_itself(shared: Bundle, apart: Bundle) -> None:
    for one in shared.manifest.artifacts:
        assert one.size == pytest.approx(apart.manifest.artifact(one.id).size, rel=0.02), one.id


def test_every_file_is_listed_and_each_artifact_lists_the_shared_one(shared: Bundle) -> None:
    manifest = shared.manifest
    listed = {entry.path for one in manifest.artifacts for entry in one.files}
    listed |= {entry.path for entry in manifest.extras} | {"bundle.json", "bundle.json.sha256"}
    assert {file.relative_to(shared.path).as_posix() for file in files_of(shared.path)} == listed
    assert all(one.files[1].path == SHARED_WEIGHTS for one in manifest.artifacts)


def test_constants_begin_at_whole_cache_lines(shared: Bundle) -> None:
    graph = onnx.load(shared.path / "model.onnx", load_external_data=False).graph
    places = [
        {entry.key: entry.value for entry in one.external_data}
        for one in graph.initializer
        if one.external_data
    ]
    assert places
    assert all(int(place["offset"]) % 64 == 0 for place in places)


def test_a_small_model_keeps_files_that_stand_alone(built: Path) -> None:
    assert not (built / SHARED_WEIGHTS).exists()
    assert (built / "openvino" / "fp32.bin").exists()
    weights = sum(x.nbytes for x in _tensors(built / "model.onnx").values())
    assert weights < LEAST_SAVED


def test_a_model_with_nothing_there_twice_stays_one_file(tmp_path: Path) -> None:
    bundle = wide_bundle(tmp_path / "one.edge", load_recipe("fp32"), ("onnxruntime",))
    (artifact,) = bundle.manifest.artifacts
    assert [entry.path for entry in artifact.files] == ["model.onnx"]
    assert artifact.size > LEAST_SAVED


def test_onnx_files_are_listed_where_no_artifact_is_one(tmp_path: Path) -> None:
    bundle = wide_bundle(tmp_path / "one.edge", load_recipe("fp32"), ("openvino",))
    (artifact,) = bundle.manifest.artifacts
    assert [entry.path for entry in artifact.files] == ["openvino/fp32.xml", SHARED_WEIGHTS]
    assert "model.onnx" in {entry.path for entry in bundle.manifest.extras}
    run("onnxruntime", bundle.path / "model.onnx")


def test_a_damaged_shared_file_is_refused_with_the_bundle(copy: Path) -> None:
    file = copy / SHARED_WEIGHTS
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match=r"weights\.bin: was changed"):
        Bundle.open(copy)
    file.unlink()
    with pytest.raises(BundleError, match=r"weights\.bin: is missing"):
        Bundle.open(copy)


def test_a_kill_while_weights_are_shared_leaves_the_old_bundle(
    shared: Bundle, tmp_path: Path
) -> None:
    old = Path(shutil.copytree(shared.path, tmp_path / "wide.edge"))
    code = (
        "import sys; from pathlib import Path; from tests.wide import wide_bundle; "
        "from edgekit.compress.recipe import load_recipe; "
        "wide_bundle(Path(sys.argv[1]), load_recipe('fp32'))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(old)], cwd=ROOT) as process:
        while process.poll() is None and not list(tmp_path.glob(".*/weights.bin")):
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert Bundle.open(old).manifest == shared.manifest
    assert list(tmp_path.glob(".*/weights.bin"))
    again = wide_bundle(old, load_recipe("fp32"))
    assert [one.precision for one in again.manifest.artifacts] == ["fp32", "fp32"]
    assert not list(tmp_path.glob(".*"))


def test_verify_and_serve_work(shared: Bundle) -> None:
    assert all(record.passed for record in verify_bundle(shared))
    for name in ENGINES:
        for session in load(shared, ModelConfig(runtime=name, threads=1)).sessions:
            session.close()


def test_diff_opens_what_is_inside(shared: Bundle) -> None:
    sides = [open_side(f"{shared.path}:{name}-fp32") for name in ENGINES]
    found = compare(*sides, shared_feeds(*sides))
    assert found.guilty is None
    assert found.layers


def test_the_report_tells_what_each_artifact_needs(shared: Bundle, tmp_path: Path) -> None:
    write_report(shared, tmp_path)
    table = json.loads((tmp_path / "report.json").read_text())["table"]
    sizes = {row["artifact"]: row["size"] for row in table}
    assert sizes == {one.id: one.size for one in shared.manifest.artifacts}


def test_a_packed_bundle_comes_out_whole(shared: Bundle, tmp_path: Path) -> None:
    pack(shared, tmp_path / "p.edge.tar.zst")
    again = unpack(tmp_path / "p.edge.tar.zst", tmp_path / "again.edge")
    assert again.manifest == shared.manifest
    assert bits(run("openvino", again.path / "openvino" / "int8.xml")) == bits(
        run("openvino", shared.path / "openvino" / "int8.xml")
    )


def test_a_bundle_is_a_model_to_export_again(shared: Bundle, tmp_path: Path) -> None:
    workload = modelref.resolve(str(shared.path))
    again = make_bundle(
        workload,
        tmp_path / "again.edge",
        recipe=load_recipe("fp32"),
        targets=parse_targets([], None),
        timing=None,
    )
    assert (again.path / SHARED_WEIGHTS).stat().st_size < 1.1 * 4 * 2048 * 160
    np.testing.assert_array_equal(
        run("onnxruntime", again.path / "model.onnx")["logits"],
        run("onnxruntime", shared.path / "model.onnx")["logits"],
    )


def test_other_runtimes_keep_what_they_have(tmp_path: Path) -> None:
    names = ("onnxruntime", "openvino", "onnxruntime-minimal")
    bundle = wide_bundle(tmp_path / "m.edge", load_recipe("fp32"), names)
    files = {one.runtime: [entry.path for entry in one.files] for one in bundle.manifest.artifacts}
    assert SHARED_WEIGHTS in files["onnxruntime"]
    assert SHARED_WEIGHTS not in files["onnxruntime-minimal"]
    assert all(record.passed for record in verify_bundle(bundle))


def test_four_bit_weights_are_shared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_weights, "LEAST_SAVED", 1)
    passes = [{"type": "weight-only", "bits": 4, "group": 32, "method": "rtn"}]
    recipe = Recipe.model_validate({"name": "w", "passes": passes})
    bundle = wide_bundle(tmp_path / "w.edge", recipe)
    assert all(record.passed for record in verify_bundle(bundle))
    (made,) = [one for one in bundle.manifest.artifacts if one.id.startswith("onnxruntime-int4")]
    graph = onnx.load(bundle.file(made), load_external_data=False).graph
    outside = {one.data_type for one in graph.initializer if one.external_data}
    assert outside & {TensorProto.INT4, TensorProto.UINT4, TensorProto.UINT8}


def test_weights_beyond_the_limit_of_a_protobuf_move_from_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a protobuf message held 4 kB."""
    monkeypatch.setattr(save, "INLINE_BYTES", 4096)
    bundle = wide_bundle(tmp_path / "l.edge", load_recipe("int8"))
    assert {file.name for file in files_of(bundle.path)} & {"model.data", "fp32.bin"} == set()
    assert [entry.path for entry in bundle.manifest.artifacts[0].files] == [
        "model.onnx",
        SHARED_WEIGHTS,
    ]
    assert all(record.passed for record in verify_bundle(bundle))


def _branching(folder: Path) -> Path:
    """An If whose branches hold 1 MB each, the same in both: x + w, or x - w."""
    weight = numpy_helper.from_array(np.arange(2**18, dtype=np.float32), "w")
    branches = [
        helper.make_graph(
            [helper.make_node(kind, ["x", "w"], [f"y_{kind}"], name=kind)],
            kind,
            [],
            [helper.make_tensor_value_info(f"y_{kind}", TensorProto.FLOAT, [2**18])],
            [weight],
        )
        for kind in ("Add", "Sub")
    ]
    choose = helper.make_node(
        "If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1], name="choose"
    )
    graph = helper.make_graph(
        [choose],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2**18]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2**18])],
    )
    opsets = [helper.make_opsetid("", 20)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=opsets), path)
    return path


def _artifact(folder: Path, runtime: str, files: list[Path]) -> Artifact:
    entries = tuple(hash_file(folder, file) for file in files)
    kind = "onnx" if runtime == "onnxruntime" else "openvino-ir"
    return Artifact(
        id=runtime, runtime=runtime, precision="fp32", format=kind, files=entries, opset=20
    )


def test_constants_inside_branches_are_shared(tmp_path: Path) -> None:
    model = _branching(tmp_path)
    (tmp_path / "openvino").mkdir()
    graph = tmp_path / "openvino" / "fp32.xml"
    ov.save_model(ov.Core().read_model(model), graph, compress_to_fp16=False)
    artifacts = [
        _artifact(tmp_path, "onnxruntime", [model]),
        _artifact(tmp_path, "openvino", [graph, graph.with_suffix(".bin")]),
    ]
    share_weights(tmp_path, model, artifacts)
    assert (tmp_path / SHARED_WEIGHTS).stat().st_size < 1.01 * 2**20
    x = np.ones(2**18, np.float32)
    for name, path in (("onnxruntime", model), ("openvino", graph)):
        for choice, sign in ((True, 1), (False, -1)):
            with runtimes.require(name).load(path, OPTIONS) as session:
                (found,) = session.run({"x": x, "c": np.array(choice)}).values()
            np.testing.assert_array_equal(found, x + sign * np.arange(2**18, dtype=np.float32))
