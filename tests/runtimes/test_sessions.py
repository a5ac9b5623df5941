from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edgekit.runtimes import SessionOptions

from edgekit import runtimes
from edgekit.errors import RuntimeUnavailableError, SpecError
from tests.conftest import batches

FEEDS = next(batches())


@pytest.mark.parametrize("name", runtimes.names())
def test_a_session_runs_any_batch_and_returns_owned_arrays(name: str, onnx_file: Path) -> None:
    with runtimes.get(name).load(onnx_file, SessionOptions(threads=1)) as session:
        first = session.run(FEEDS)["logits"]
        copy = first.copy()
        one = session.run({"image": FEEDS["image"][:1]})["logits"]
        np.testing.assert_array_equal(first, copy)  # the second run did not reuse its memory
        np.testing.assert_allclose(one[0], first[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", runtimes.names())
def test_wrong_feeds_are_refused_before_the_engine_sees_them(name: str, onnx_file: Path) -> None:
    with runtimes.get(name).load(onnx_file) as session:
        with pytest.raises(SpecError, match="dtype is float64"):
            session.run({"image": FEEDS["image"].astype(np.float64)})
        with pytest.raises(SpecError, match="missing"):
            session.run({})


@pytest.mark.parametrize("name", runtimes.names())
def test_a_closed_session_says_so(name: str, onnx_file: Path) -> None:
    session = runtimes.get(name).load(onnx_file)
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        session.run(FEEDS)


@pytest.mark.parametrize("name", runtimes.names())
def test_a_file_that_is_no_model_is_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(RuntimeUnavailableError) as caught:
        runtimes.get(name).load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_runtimes_agree(onnx_file: Path) -> None:
    results = []
    for name in runtimes.names():
        with runtimes.get(name).load(onnx_file) as session:
            results.append(session.run(FEEDS)["logits"])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-3, atol=1e-5)


def test_non_contiguous_feeds_are_read_right(onnx_file: Path) -> None:
    flipped = FEEDS["image"][:, :, ::-1, :]
    for name in runtimes.names():
        with runtimes.get(name).load(onnx_file) as session:
            np.testing.assert_allclose(
                session.run({"image": flipped})["logits"],
                session.run({"image": np.ascontiguousarray(flipped)})["logits"],
                rtol=1e-5,
            )


def test_an_unknown_runtime_suggests_the_nearest() -> None:
    with pytest.raises(RuntimeUnavailableError, match="did you mean 'onnxruntime'"):
        runtimes.get("onxruntime")


def test_a_missing_package_tells_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RuntimeUnavailableError, match=r"pip install 'edgekit\[openvino\]'"):
        runtimes.require("openvino")
