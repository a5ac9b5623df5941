from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Bundle
from edgekit.errors import (
    BundleError,
    EdgekitError,
    OutOfRangeError,
    RuntimeUnavailableError,
)
from edgekit.extremes import VALUES
from edgekit.spec import Feeds, Outputs
from edgekit.verify import Reference, verify_artifact, verify_bundle
from tests.conftest import ARTIFACTS

FEEDS = [{"x": np.full((1, 4), i, np.float32)} for i in (1, 2, 3)]


def original(feeds: Feeds) -> Outputs:
    return {"y": feeds["x"] * np.arange(4, dtype=np.float32)}


REFERENCE = Reference.record(original, FEEDS)


def test_every_artifact_of_a_fresh_bundle_passes(bundle: Bundle) -> None:
    records = verify_bundle(bundle)
    assert [record.artifact for record in records] == [a.id for a in bundle.manifest.artifacts]
    assert all(record.ran and record.passed for record in records)


def test_one_runtime_can_be_asked_for(bundle: Bundle) -> None:
    assert {r.artifact for r in verify_bundle(bundle, "openvino")} == {
        name for name in ARTIFACTS if name.startswith("openvino")
    }
    with pytest.raises(RuntimeUnavailableError, match="holds nothing"):
        verify_bundle(bundle, "tensorrt-rtx")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda feeds: {"z": feeds["x"]}, "'y' is missing"),
        (lambda feeds: {"y": feeds["x"][:, :2]}, "shape"),
        (lambda feeds: {"y": feeds["x"] * np.nan}, "NaN"),
        (lambda feeds: {"y": -original(feeds)["y"]}, "SQNR"),
    ],
)
def test_what_is_wrong_is_said(broken: object, reason: str) -> None:
    record = verify_artifact("a", "int8", broken, REFERENCE)
    assert not record.passed
    assert reason in record.reason


def test_float_artifacts_have_a_stricter_gate_than_quantized_ones() -> None:
    def noisy(feeds: Feeds) -> Outputs:
        return {"y": original(feeds)["y"] * np.float32(1.01)}

    assert verify_artifact("a", "int8", noisy, REFERENCE).passed
    assert not verify_artifact("a", "fp32", noisy, REFERENCE).passed


def test_a_reference_survives_the_disk(tmp_path: Path) -> None:
    REFERENCE.save(tmp_path / "r.npz", max_bytes=10_000)
    loaded = Reference.load(tmp_path / "r.npz")
    assert len(loaded.feeds) == 3
    np.testing.assert_array_equal(loaded.outputs[2]["y"], REFERENCE.outputs[2]["y"])


def test_at_least_one_sample_is_stored_however_small_the_room(tmp_path: Path) -> None:
    REFERENCE.save(tmp_path / "r.npz", max_bytes=1)
    assert len(Reference.load(tmp_path / "r.npz").feeds) == 1


def test_a_broken_archive_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "r.npz").write_bytes(b"nonsense")
    with pytest.raises(BundleError, match="cannot be read"):
        Reference.load(tmp_path / "r.npz")


def test_an_original_that_computes_nan_is_refused() -> None:
    with pytest.raises(EdgekitError, match="original model computes NaN"):
        Reference.record(lambda feeds: {"y": np.full_like(feeds["x"], np.nan)}, FEEDS)


EXTREMES = {
    "large": {"x": np.full((1, 4), 100, np.float32)},
    "batch 8": {"x": FEEDS[0]["x"][[0] * 8]},
}


def broken_on(kind: str, value: float) -> Callable[[Feeds], Outputs]:
    """Right on the data and on other extremes, another value on that one."""

    def predict(feeds: Feeds) -> Outputs:
        made = original(feeds)
        if np.array_equal(feeds["x"], EXTREMES[kind]["x"]):
            made["y"] = np.full_like(made["y"], value)
        return made

    return predict


def test_extreme_inputs_are_compared_apart_from_the_data() -> None:
    record = verify_artifact("a", "fp32", original, Reference.record(original, FEEDS, EXTREMES))
    assert record.passed
    assert set(record.extremes) == {"large", "batch 8"}
    assert record.extremes["large"].outputs["y"].sqnr_db == float("inf")
    assert record.outputs["y"].max_abs == 0


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_another_size_fails_every_precision(precision: str) -> None:
    reference = Reference.record(original, FEEDS, EXTREMES)
    record = verify_artifact("a", precision, broken_on("batch 8", 0.0), reference)
    assert not record.passed
    assert "with input 'batch 8'" in record.reason
    assert "SQNR" in record.extremes["batch 8"].reason


def test_extreme_values_fail_fp32_and_are_only_told_of_less() -> None:
    reference = Reference.record(original, FEEDS, EXTREMES)
    assert not verify_artifact("a", "fp32", broken_on("large", np.inf), reference).passed
    record = verify_artifact("a", "int8", broken_on("large", np.inf), reference)
    assert record.passed
    assert "NaN or infinite" in record.extremes["large"].reason


def test_an_engine_that_refuses_an_extreme_input_fails() -> None:
    def refusing(feeds: Feeds) -> Outputs:
        if len(feeds["x"]) > 1:
            raise RuntimeError("batch 8 is too much")
        return original(feeds)

    record = verify_artifact("a", "fp32", refusing, Reference.record(original, FEEDS, EXTREMES))
    assert not record.passed
    assert "batch 8 is too much" in record.reason


def small_only(feeds: Feeds) -> Outputs:
    """An engine that was built for batches of up to 4."""
    if len(feeds["x"]) > 4:
        raise OutOfRangeError("axis 0 is too large")
    return original(feeds)


def test_sizes_that_an_engine_was_not_built_for_are_left_out() -> None:
    feeds = [*REFERENCE.feeds, {"x": np.ones((6, 4), np.float32)}]
    reference = Reference.record(original, feeds, {"batch 8": {"x": np.ones((8, 4), np.float32)}})
    record = verify_artifact("a", "fp32", small_only, reference)
    assert record.passed
    assert record.extremes == {}


def test_an_engine_that_takes_none_of_the_samples_fails() -> None:
    reference = Reference.record(original, [{"x": np.ones((6, 4), np.float32)}])
    record = verify_artifact("a", "fp32", small_only, reference)
    assert not record.passed
    assert "none of the samples" in record.reason


def test_what_the_original_cannot_take_is_left_out() -> None:
    def picky(feeds: Feeds) -> Outputs:
        if len(feeds["x"]) > 1:
            raise ValueError("one at a time")
        with np.errstate(over="ignore"):
            return {"y": feeds["x"] * np.where(feeds["x"] > 50, np.float32(np.inf), 1)}

    assert Reference.record(picky, FEEDS, EXTREMES).kinds == ["data"] * 3


def test_the_first_sample_and_the_extremes_are_stored_before_the_rest(tmp_path: Path) -> None:
    reference = Reference.record(original, FEEDS, EXTREMES)
    reference.save(tmp_path / "r.npz", max_bytes=2 * 16 * 10)
    loaded = Reference.load(tmp_path / "r.npz")
    assert loaded.kinds == ["data", "large", "batch 8"]
    np.testing.assert_array_equal(loaded.feeds[0]["x"], FEEDS[0]["x"])
    np.testing.assert_array_equal(
        loaded.of_kind("large").outputs[0]["y"], original(EXTREMES["large"])["y"]
    )


def test_a_bundle_is_verified_on_extreme_inputs(bundle: Bundle) -> None:
    for record in verify_bundle(bundle):
        assert set(record.extremes) == {*VALUES, "batch 1", "batch 8"}
