from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from edgekit.runtimes import SessionOptions

from edgekit import runtimes
from edgekit.errors import RuntimeUnavailableError, SpecError
from tests.conftest import batches
from tests.runtimes.conftest import Artifacts

FEEDS = next(batches())
#: LiteRT's converter is not among the packages for tests; where it is there, so is LiteRT here.
ABSENT = {"litert"} if importlib.util.find_spec("litert_torch") is None else set()
NAMES = [x for x in runtimes.names() if runtimes.get(x).status().usable and x not in ABSENT]
CACHING = ["onnxruntime", "openvino"]


@pytest.mark.parametrize("name", NAMES)
def test_a_session_runs_any_batch_and_returns_owned_arrays(name: str, artifacts: Artifacts) -> None:
    with runtimes.get(name).load(artifacts(name), SessionOptions(threads=1)) as session:
        first = session.run(FEEDS)["logits"]
        copy = first.copy()
        one = session.run({"image": FEEDS["image"][:1]})["logits"]
        np.testing.assert_array_equal(first, copy)  # the second run did not reuse its memory
        np.testing.assert_allclose(one[0], first[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_feeds_are_refused_before_the_engine_sees_them(
    name: str, artifacts: Artifacts
) -> None:
    with runtimes.get(name).load(artifacts(name)) as session:
        with pytest.raises(SpecError, match="dtype is float64"):
            session.run({"image": FEEDS["image"].astype(np.float64)})
        with pytest.raises(SpecError, match="missing"):
            session.run({})


@pytest.mark.parametrize("name", NAMES)
def test_wrong_feeds_are_refused_after_right_ones(name: str, artifacts: Artifacts) -> None:
    image = FEEDS["image"]
    with runtimes.get(name).load(artifacts(name)) as session:
        wanted = session.run({"image": image})["logits"]
        for wrong, told in (
            ({"image": image.astype(np.float64)}, "dtype is float64"),
            ({"image": image.astype(">f4")}, "dtype is >f4"),
            ({"image": image[0]}, "3 dimensions instead of 4"),
            ({"image": image[:, :, :8]}, "expected"),
            ({"image": image, "mask": image}, "'mask' is not an input"),
            ({"image": image.tolist()}, "neither an array"),
            ({"picture": image}, "missing"),
        ):
            with pytest.raises(SpecError, match=told):
                session.run(wrong)
            np.testing.assert_array_equal(session.run({"image": image})["logits"], wanted)


@pytest.mark.parametrize("name", NAMES)
def test_a_closed_session_says_so(name: str, artifacts: Artifacts) -> None:
    session = runtimes.get(name).load(artifacts(name))
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        session.run(FEEDS)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_no_model_is_one_line(
    name: str, artifacts: Artifacts, tmp_path: Path
) -> None:
    whole = artifacts(name)
    for file in whole.parent.glob(f"{whole.stem}.*"):  # what lies beside it is in order
        shutil.copy(file, tmp_path)
    path = tmp_path / whole.name
    path.write_bytes(b"not a model")
    with pytest.raises(RuntimeUnavailableError) as caught:
        runtimes.get(name).load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_runtimes_agree(artifacts: Artifacts) -> None:
    results = []
    for name in NAMES:
        with runtimes.get(name).load(artifacts(name)) as session:
            results.append(session.run(FEEDS)["logits"])
    for other in results[1:]:
        np.testing.assert_allclose(results[0], other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_non_contiguous_and_read_only_feeds_are_read_right(name: str, artifacts: Artifacts) -> None:
    flipped = FEEDS["image"][:, :, ::-1, :]
    same = np.ascontiguousarray(flipped)
    same.flags.writeable = False
    with runtimes.get(name).load(artifacts(name)) as session:
        made, wanted = (session.run({"image": image})["logits"] for image in (flipped, same))
    np.testing.assert_allclose(made, wanted, rtol=1e-5)


def test_an_unknown_runtime_suggests_the_nearest() -> None:
    with pytest.raises(RuntimeUnavailableError, match="did you mean 'onnxruntime'"):
        runtimes.get("onxruntime")


@pytest.mark.parametrize("name", ["executorch", "litert", "ncnn", "openvino", "torch"])
def test_a_missing_package_tells_the_install_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RuntimeUnavailableError, match=rf"pip install 'edgekit\[{name}\]'"):
        runtimes.require(name)


@pytest.mark.parametrize("name", NAMES)
def test_results_are_written_into_arrays_that_are_given(name: str, artifacts: Artifacts) -> None:
    with runtimes.get(name).load(artifacts(name)) as session:
        wanted = session.run(FEEDS)["logits"]
        out = {"logits": np.full_like(wanted, np.nan)}
        made = session.run(FEEDS, out)
        assert made["logits"] is out["logits"]
        np.testing.assert_array_equal(out["logits"], wanted)
        written = out["logits"].copy()
        session.run({"image": -FEEDS["image"]})
        np.testing.assert_array_equal(out["logits"], written)  # let go of afterwards


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ({"logit": np.empty((8, 5), np.float32)}, "not an output"),
        ({"logits": np.empty((8, 5), np.float64)}, "dtype is float64"),
        ({"logits": np.empty((8, 6), np.float32)}, "expected 5"),
        ({"logits": np.empty((5, 8), np.float32).T}, "not contiguous"),
        ({"logits": np.empty((7, 5), np.float32)}, "out"),
    ],
)
def test_arrays_that_do_not_fit_the_results_are_refused(
    name: str, artifacts: Artifacts, out: dict[str, np.ndarray], reason: str
) -> None:
    with runtimes.get(name).load(artifacts(name)) as session:
        with pytest.raises(SpecError, match=reason):
            session.run(FEEDS, out)
        assert session.run(FEEDS)["logits"].shape == (8, 5)  # and nothing is broken by it


@pytest.mark.parametrize("name", NAMES)
def test_threads_get_their_own_results(name: str, artifacts: Artifacts) -> None:
    feeds = [{"image": FEEDS["image"] * scale} for scale in range(1, 9)]
    with runtimes.get(name).load(artifacts(name)) as session:
        wanted = [session.run(one)["logits"] for one in feeds]
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda i: session.run(feeds[i % 8])["logits"], range(200)))
    for index, result in enumerate(made):
        np.testing.assert_allclose(result, wanted[index % 8], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_can_be_started_and_waited_for(name: str, artifacts: Artifacts) -> None:
    with runtimes.get(name).load(artifacts(name)) as session:
        started = [session.submit(FEEDS) for _ in range(3)]
        wanted = session.run(FEEDS)["logits"]
        for one in started:
            np.testing.assert_allclose(one.result()["logits"], wanted, rtol=1e-5)
        with pytest.raises(SpecError):
            session.submit({}).result()


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_tensors_are_fed_as_they_are(name: str, artifacts: Artifacts) -> None:
    image = torch.from_numpy(FEEDS["image"])
    with runtimes.get(name).load(artifacts(name)) as session:
        np.testing.assert_array_equal(
            session.run({"image": image})["logits"], session.run(FEEDS)["logits"]
        )
        with pytest.raises(SpecError, match="DLPack"):
            session.run({"image": image.requires_grad_()})
        with pytest.raises(SpecError, match="a list is neither"):
            session.run({"image": FEEDS["image"].tolist()})


@pytest.mark.parametrize("name", CACHING)
def test_a_second_load_uses_what_the_first_one_kept(
    name: str, onnx_file: Path, tmp_path: Path
) -> None:
    options = SessionOptions(threads=1, cache=tmp_path / "a" / "cache")
    with runtimes.get(name).load(onnx_file, options) as session:
        wanted = session.run(FEEDS)["logits"]
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "a" / "cache").rglob("*.*")}
    assert kept
    with runtimes.get(name).load(onnx_file, options) as session:
        np.testing.assert_array_equal(session.run(FEEDS)["logits"], wanted)
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "a" / "cache").rglob("*.*")} == kept


@pytest.mark.parametrize("name", CACHING)
def test_a_damaged_cache_costs_time_only(name: str, onnx_file: Path, tmp_path: Path) -> None:
    options = SessionOptions(threads=1, cache=tmp_path / "cache")
    with runtimes.get(name).load(onnx_file, options) as session:
        wanted = session.run(FEEDS)["logits"]
    for file in (tmp_path / "cache").rglob("*.*"):
        file.write_bytes(file.read_bytes()[:100])
    with runtimes.get(name).load(onnx_file, options) as session:
        np.testing.assert_array_equal(session.run(FEEDS)["logits"], wanted)


@pytest.mark.parametrize("name", CACHING)
def test_another_artifact_at_the_same_path_is_not_taken_for_the_cached_one(
    name: str, onnx_file: Path, tmp_path: Path
) -> None:
    options = SessionOptions(threads=1, cache=tmp_path / "cache")
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_file.read_bytes())
    with runtimes.get(name).load(path, options) as session:
        before = session.run(FEEDS)["logits"]
    model = onnx.load(path)
    (weight,) = [t for t in model.graph.initializer if t.name == "head.weight"]
    doubled = 2 * onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array(doubled, weight.name))
    onnx.save(model, path)
    with runtimes.get(name).load(path, options) as session:
        assert np.abs(session.run(FEEDS)["logits"] - before).max() > 0.01


@pytest.mark.parametrize("name", CACHING)
def test_a_cache_that_cannot_be_written_is_told_and_passed_over(
    name: str, onnx_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    options = SessionOptions(cache=tmp_path / "file" / "cache")
    with runtimes.get(name).load(onnx_file, options) as session:
        session.run(FEEDS)
    assert "nothing is cached" in caplog.text


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from edgekit import runtimes
from edgekit.runtimes import SessionOptions
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
options = SessionOptions(threads=1, cache=Path(sys.argv[3]))
with runtimes.get(sys.argv[1]).load(Path(sys.argv[2]), options) as session:
    print(session.run({"image": np.zeros((1, 3, 16, 16), np.float32)})["logits"].shape)
"""


@pytest.mark.parametrize("name", CACHING)
def test_a_cache_on_a_full_disk_costs_time_only(name: str, onnx_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, name, str(onnx_file), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 5)\n"
    assert not list(tmp_path.iterdir())
