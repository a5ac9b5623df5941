from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekit.fidelity import FidelityMeter, fidelity_evaluate
from edgekit.workload import Predict

rows = arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(2, 8)),
    elements=st.floats(-100, 100, width=32),
)


@given(rows, st.floats(-3, 3))
def test_figures_are_those_of_a_float64_reference(wanted: np.ndarray, noise: float) -> None:
    got = wanted + np.float32(noise) * np.linspace(-1, 1, wanted.size, dtype=np.float32).reshape(
        wanted.shape
    )
    meter = FidelityMeter()
    meter.add(wanted, got)
    result = meter.result()
    error = np.float64(wanted) - np.float64(got)
    assert result.max_abs == pytest.approx(np.abs(error).max())
    if (error**2).sum() > 0 and (np.float64(wanted) ** 2).sum() > 0:
        expected = 10 * np.log10((np.float64(wanted) ** 2).sum() / (error**2).sum())
        assert result.sqnr_db == pytest.approx(expected)
    assert result.argmax_agreement == (wanted.argmax(1) == got.argmax(1)).mean()


@given(rows)
def test_batches_do_not_change_the_figures(wanted: np.ndarray) -> None:
    got = wanted * np.float32(1.1) + np.float32(0.1)
    whole, parts = FidelityMeter(), FidelityMeter()
    whole.add(wanted, got)
    for row in range(len(wanted)):
        parts.add(wanted[row : row + 1], got[row : row + 1])
    for name, value in whole.result().model_dump().items():
        assert parts.result().model_dump()[name] == pytest.approx(value)


def test_an_exact_match_is_infinite_sqnr_and_cosine_one() -> None:
    meter = FidelityMeter()
    meter.add(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))
    result = meter.result()
    assert (result.sqnr_db, result.cosine, result.max_abs) == (float("inf"), 1.0, 0.0)


def test_an_output_that_collapsed_to_zero_is_not_alike() -> None:
    meter = FidelityMeter()
    meter.add(np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32))
    assert meter.result().cosine == 0.0


def test_a_single_score_has_no_argmax() -> None:
    meter = FidelityMeter()
    meter.add(np.ones((4, 1), np.float32), np.ones((4, 1), np.float32))
    assert meter.result().argmax_agreement is None


def test_the_reference_runs_once_for_many_candidates() -> None:
    opened = []

    @contextmanager
    def reference() -> Iterator[Predict]:
        opened.append(1)
        yield lambda feeds: {"y": feeds["x"]}

    evaluate = fidelity_evaluate(reference, lambda: [{"x": np.eye(3, dtype=np.float32)}])
    assert evaluate(lambda feeds: {"y": feeds["x"]})["argmax_agreement"] == 1.0
    assert evaluate(lambda feeds: {"y": -feeds["x"]})["cosine"] == -1.0
    assert len(opened) == 1
