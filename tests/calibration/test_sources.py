from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edgekit.calibration.sources import file_source, held_out, kept

from edgekit.errors import CalibrationError
from edgekit.spec import TensorSpec

X = TensorSpec("x", "float32", ("batch", 2))
Y = TensorSpec("y", "int64", ("batch",))


def test_a_file_is_read_sample_by_sample(tmp_path: Path) -> None:
    data = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.savez(tmp_path / "d.npz", x=data, y=np.arange(5))
    feeds = list(file_source(tmp_path / "d.npz", [X, Y])())
    assert len(feeds) == 5
    np.testing.assert_array_equal(np.concatenate([f["x"] for f in feeds]), data)
    assert feeds[3]["y"].tolist() == [3]


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name, value in (("b", 2.0), ("a", 1.0)):
        np.savez(tmp_path / f"{name}.npz", x=np.full((1, 2), value, np.float32))
    assert [f["x"][0, 0] for f in file_source(tmp_path, [X])()] == [1.0, 2.0]


def test_one_array_of_any_name_serves_a_model_with_one_input(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", np.zeros((3, 2), np.float32))
    assert len(list(file_source(tmp_path / "d.npz", [X])())) == 3


def test_a_fixed_first_dimension_takes_that_many_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((6, 2), np.float32))
    feeds = list(file_source(tmp_path / "d.npz", [TensorSpec("x", "float32", (2, 2))])())
    assert [f["x"].shape for f in feeds] == [(2, 2)] * 3


def test_missing_empty_and_broken_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no such file"):
        file_source(tmp_path / "no.npz", [X])
    with pytest.raises(CalibrationError, match=r"no \.npz files"):
        file_source(tmp_path, [X])
    (tmp_path / "broken.npz").write_bytes(b"PK not really")
    with pytest.raises(CalibrationError, match="cannot be read"):
        list(file_source(tmp_path / "broken.npz", [X])())


def test_a_pickle_inside_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CalibrationError, match="cannot be read"):
        list(file_source(tmp_path / "d.npz", [X])())


def test_wrong_names_ranks_and_counts_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "names.npz", x=np.zeros((1, 2), np.float32), z=np.zeros(1))
    with pytest.raises(CalibrationError, match="has no array 'y'"):
        list(file_source(tmp_path / "names.npz", [X, Y])())
    np.savez(tmp_path / "rank.npz", x=np.zeros((2, 2, 2), np.float32))
    with pytest.raises(CalibrationError, match=r"the input is \[batch, 2\]"):
        list(file_source(tmp_path / "rank.npz", [X])())
    np.savez(tmp_path / "counts.npz", x=np.zeros((2, 2), np.float32), y=np.zeros(3, np.int64))
    with pytest.raises(CalibrationError, match="different numbers of samples"):
        list(file_source(tmp_path / "counts.npz", [X, Y])())


@pytest.mark.parametrize("count", [1, 4, 5, 23])
def test_held_out_samples_are_not_calibrated_on(count: int) -> None:
    def feeds() -> list[dict[str, np.ndarray]]:
        return [{"x": np.array([i])} for i in range(count)]

    calibrated = {int(f["x"][0]) for f in kept(feeds)()}
    judged = {int(f["x"][0]) for f in held_out(feeds)()}
    assert judged
    if count >= 5:
        assert not calibrated & judged
        assert calibrated | judged == set(range(count))
