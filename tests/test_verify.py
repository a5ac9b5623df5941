from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Bundle
from edgekit.errors import BundleError, EdgekitError, RuntimeUnavailableError
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
