"""Engines that run: needs a GPU, and says so where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edgekit.exporters import ExportOptions, ShapeRange
from edgekit.runtimes import Session, SessionOptions

from edgekit import exporters, runtimes
from edgekit.engine_file import GPU_TARGETS
from edgekit.errors import RuntimeUnavailableError, SpecError
from edgekit.serve.loading import choose_artifact
from tests.conftest import SHAPE, batches
from tests.engines import engine_for, small_bundle

FEEDS = next(batches())
SHAPES = {"image": ShapeRange((1, *SHAPE), (1, *SHAPE), (8, *SHAPE))}


def _able() -> list[str]:
    """The runtimes that can be used here."""
    return [name for name in GPU_TARGETS if runtimes.get(name).status().usable]


pytestmark = pytest.mark.skipif(
    not _able(),
    reason="; ".join(f"{name}: {runtimes.get(name).status().reason}" for name in GPU_TARGETS),
)


@pytest.fixture(params=_able() or ["tensorrt-rtx"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _built(name: str, onnx_file: Path, folder: Path, **settings: object) -> Path:
    gpu = runtimes.get(name).status().gpu
    options = ExportOptions(gpu, SHAPES, **settings)
    return exporters.get(name).export(onnx_file, folder / "m", options)[0]


@pytest.fixture
def session(name: str, onnx_file: Path, tmp_path: Path):
    with runtimes.get(name).load(_built(name, onnx_file, tmp_path)) as opened:
        yield opened


def test_an_engine_computes_what_onnx_runtime_does(session: Session, onnx_file: Path) -> None:
    with runtimes.get("onnxruntime").load(onnx_file) as reference:
        for size in (1, 3, 8):
            feeds = {"image": FEEDS["image"][:size]}
            got, wanted = session.run(feeds)["logits"], reference.run(feeds)["logits"]
            np.testing.assert_allclose(got, wanted, rtol=2e-2, atol=2e-3)  # TF32


def test_results_belong_to_the_caller(session: Session) -> None:
    first = session.run(FEEDS)["logits"]
    copy = first.copy()
    session.run({"image": 2 * FEEDS["image"]})
    np.testing.assert_array_equal(first, copy)


def test_specs_are_those_of_the_model(session: Session) -> None:
    (given,), (made,) = session.inputs, session.outputs
    assert (given.name, given.dtype, given.shape[1:]) == ("image", "float32", SHAPE)
    assert (made.name, made.dtype, made.shape[1:]) == ("logits", "float32", (5,))
    assert isinstance(given.shape[0], str)


def test_a_batch_beyond_the_profile_is_refused_and_the_session_lives(session: Session) -> None:
    image = np.concatenate([FEEDS["image"]] * 2)
    with pytest.raises(SpecError, match="the engine takes 1 to 8"):
        session.run({"image": image})
    assert session.run(FEEDS)["logits"].shape == (8, 5)


def test_a_closed_session_says_so(name: str, onnx_file: Path, tmp_path: Path) -> None:
    opened = runtimes.get(name).load(_built(name, onnx_file, tmp_path))
    opened.close()
    with pytest.raises(RuntimeError, match="closed"):
        opened.run(FEEDS)


def test_what_is_compiled_is_kept(onnx_file: Path, tmp_path: Path) -> None:
    if "tensorrt-rtx" not in _able():
        pytest.skip("TensorRT-RTX does not run on this GPU")
    path = _built("tensorrt-rtx", onnx_file, tmp_path)
    options = SessionOptions(cache=tmp_path / "cache")
    for _ in range(2):
        with runtimes.get("tensorrt-rtx").load(path, options) as opened:
            wanted = opened.run(FEEDS)["logits"]
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert np.isfinite(wanted).all()


def test_an_engine_for_another_gpu_is_refused(tmp_path: Path) -> None:
    if "tensorrt-rtx" not in _able():
        pytest.skip("TensorRT-RTX does not run on this GPU")
    here = runtimes.get("tensorrt-rtx").status().gpu
    other = next(gpu for gpu in GPU_TARGETS["tensorrt-rtx"] if gpu != here)
    with pytest.raises(RuntimeUnavailableError, match=f"was built for {other}, this GPU is {here}"):
        runtimes.get("tensorrt-rtx").load(engine_for(other, tmp_path))


def test_a_bundle_without_an_engine_for_this_gpu_says_what_to_build(tmp_path: Path) -> None:
    if "tensorrt-rtx" not in _able():
        pytest.skip("TensorRT-RTX does not run on this GPU")
    here = runtimes.get("tensorrt-rtx").status().gpu
    other = next(gpu for gpu in GPU_TARGETS["tensorrt-rtx"] if gpu != here)
    bundle = small_bundle(tmp_path / "m.edge", "fp32", other)
    with pytest.raises(RuntimeUnavailableError, match=f"--gpu {other},{here}"):
        choose_artifact(bundle, None)


def test_refittable_engines_are_built_where_there_is_a_gpu(
    name: str, onnx_file: Path, tmp_path: Path
) -> None:
    assert _built(name, onnx_file, tmp_path, refit=True).stat().st_size > 0
