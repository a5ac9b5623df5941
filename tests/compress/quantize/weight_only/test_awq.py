from __future__ import annotations

import numpy as np
from edgekit.calibration import Gram
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compress.quantize.weight_only.awq import channel_scale
from edgekit.compress.quantize.weight_only.grid import Grid
from edgekit.compress.quantize.weight_only.rtn import round_to_nearest
from edgekit.spec import Array

INT4 = Grid(4, 32, symmetric=True)


def _layer(seed: int, loud: float) -> tuple[Array, Array, Gram]:
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((64, 8)).astype(np.float32)
    rows = generator.standard_normal((300, 64)).astype(np.float32)
    rows[:, ::16] *= loud
    gram = Gram(64)
    gram.update(rows)
    return weight, rows, gram


def _output_error(weight: Array, rows: Array, scale: Array) -> float:
    rounded = round_to_nearest(weight * scale[:, None], INT4).dequantized()
    got = (rows / scale).astype(np.float64) @ rounded
    return float(np.square(got - rows.astype(np.float64) @ weight).sum())


@given(seed=st.integers(0, 999))
def test_the_gain_is_that_of_the_outputs_on_the_rows_themselves(seed: int) -> None:
    weight, rows, gram = _layer(seed, 30.0)
    found = channel_scale([weight], gram, INT4)
    assert found is not None
    scale, gain = found
    before = _output_error(weight, rows, np.ones(64, np.float32))
    np.testing.assert_allclose(gain, before / _output_error(weight, rows, scale), rtol=1e-2)
    assert gain > 1.0


def test_channels_that_matter_are_scaled_up() -> None:
    weight, _, gram = _layer(0, 30.0)
    found = channel_scale([weight], gram, INT4)
    assert found is not None
    assert found[0][::16].min() > found[0][1::16].max()


def test_a_gain_that_is_too_small_changes_nothing() -> None:
    weight, _, gram = _layer(0, 1.0)
    assert channel_scale([weight], gram, INT4, least_gain=2.0) is None


def test_channels_that_are_always_zero_keep_their_scale() -> None:
    weight, rows, _ = _layer(0, 30.0)
    rows[:, 1] = 0.0
    gram = Gram(64)
    gram.update(rows)
    found = channel_scale([weight], gram, INT4)
    assert found is not None
    assert np.isfinite(found[0]).all()
    assert found[0][1] == 1.0
