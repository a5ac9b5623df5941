"""Both engines find the weights that artifacts of a bundle share, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from edgekit.runtimes import SessionOptions

from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.external_data import SHARED_WEIGHTS
from tests.conftest import ARTIFACTS
from tests.wide import ENGINES, FEEDS, bits, files_of, run


@pytest.fixture
def copy(shared: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared.path, tmp_path / "copy.edge"))


@pytest.mark.parametrize("name", ["fp32", "int8"])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_artifact_is_refused_without_the_whole_shared_file(
    copy: Path, engine: str, name: str
) -> None:
    path = Bundle(copy, Bundle.open(copy).manifest).file(
        Bundle.open(copy).manifest.artifact(f"{engine}-{name}")
    )
    file = copy / SHARED_WEIGHTS
    with file.open("r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(EdgekitError) as caught:
        run(engine, path)
    assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(EdgekitError, match=r"does not exist|no such file"):
        run(engine, path)


def test_an_ir_without_its_own_file_takes_no_other_from_the_folder_above(
    built: Path, shared: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "ir").mkdir()
    shutil.copy(built / "openvino" / "fp32.xml", tmp_path / "ir")
    shutil.copy(shared.path / SHARED_WEIGHTS, tmp_path)
    with pytest.raises(EdgekitError, match=r"fp32\.bin: no such file"):
        run("openvino", tmp_path / "ir" / "fp32.xml")


@pytest.mark.parametrize("artifact", sorted(ARTIFACTS))
def test_the_files_of_one_artifact_work_elsewhere(
    shared: Bundle, tmp_path: Path, artifact: str
) -> None:
    one = shared.manifest.artifact(artifact)
    for entry in one.files:
        target = tmp_path / entry.path
        target.parent.mkdir(exist_ok=True)
        shutil.copy(shared.path / entry.path, target)
    moved = run(one.runtime, tmp_path / one.files[0].path)
    assert bits(moved) == bits(run(one.runtime, shared.file(one)))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_path_relative_to_its_own_folder_finds_the_weights(
    shared: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    path = shared.file(shared.manifest.artifact(f"{engine}-fp32"))
    wanted = bits(run(engine, path))
    monkeypatch.chdir(path.parent)
    for _ in ("compiled", "kept"):
        found = run(engine, Path(path.name), SessionOptions(threads=1, cache=tmp_path))
        assert bits(found) == wanted


@pytest.mark.parametrize("name", ["fp32", "int8"])
def test_what_onnx_runtime_keeps_refers_to_the_shared_weights(
    shared: Bundle, tmp_path: Path, name: str
) -> None:
    path = shared.file(shared.manifest.artifact(f"onnxruntime-{name}"))
    options = SessionOptions(threads=1, cache=tmp_path)
    first = run("onnxruntime", path, options)
    (kept,) = files_of(tmp_path)
    assert kept.stat().st_size < 50_000
    written = kept.stat().st_mtime_ns
    assert bits(run("onnxruntime", path, options)) == bits(first)
    assert kept.stat().st_mtime_ns == written


@pytest.mark.parametrize("engine", ENGINES)
def test_other_weights_are_not_taken_for_the_ones_of_before(
    copy: Path, tmp_path: Path, engine: str
) -> None:
    path = copy / ("model.onnx" if engine == "onnxruntime" else "openvino/fp32.xml")
    options = SessionOptions(threads=1, cache=tmp_path / "cache")
    before = run(engine, path, options)["logits"]
    file = copy / SHARED_WEIGHTS
    weights = np.frombuffer(file.read_bytes(), np.float32).copy()
    weights[: 2048 * 160] *= 2
    file.write_bytes(weights.tobytes())
    assert np.abs(run(engine, path, options)["logits"] - before).max() > 0.01


def test_plain_onnx_and_openvino_read_it(shared: Bundle) -> None:
    wanted = run("openvino", shared.path / "openvino" / "fp32.xml")["logits"]
    onnx.checker.check_model(shared.path / "model.onnx", full_check=True)
    core = ov.Core()
    model = core.read_model(shared.path / "openvino" / "fp32.xml", shared.path / SHARED_WEIGHTS)
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    (found,) = core.compile_model(model, "CPU", config)(FEEDS).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
