from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.compress.quantize.weight_only.forms import openvino_grid, pack_nibbles
from edgekit.compress.quantize.weight_only.grid import Grid
from edgekit.compress.quantize.weight_only.rtn import round_to_nearest
from edgekit.spec import Array

WEIGHTS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
    elements=st.floats(-100, 100, width=32),
)
GRIDS = st.builds(Grid, st.sampled_from([4, 8]), st.sampled_from([0, 3, 16, 64]), st.booleans())


def _per_weight(parameters: Array, grid: Grid, inputs: int) -> Array:
    return parameters[np.arange(inputs) // (grid.rows or inputs)]


@given(weight=WEIGHTS, grid=GRIDS)
def test_every_weight_moves_by_half_a_step_at_most(weight: Array, grid: Grid) -> None:
    made = round_to_nearest(weight, grid)
    scale = _per_weight(made.scale, grid, len(weight)).astype(np.float64)
    error = np.abs(made.dequantized().astype(np.float64) - weight)
    # A rounded zero point may leave the end of the range up to half a step outside.
    reach = 0.5 if grid.symmetric else 1.0
    assert (error <= scale * (reach + 1e-4)).all()


@given(weight=WEIGHTS, grid=GRIDS)
def test_real_weights_are_scale_times_steps_from_the_zero_point(weight: Array, grid: Grid) -> None:
    made = round_to_nearest(weight, grid)
    steps = made.steps.astype(np.float64) - _per_weight(made.zero_point, grid, len(weight))
    wanted = steps * _per_weight(made.scale, grid, len(weight)).astype(np.float64)
    np.testing.assert_allclose(made.dequantized(), wanted, rtol=1e-6)
    assert made.steps.dtype == (np.int8 if grid.symmetric else np.uint8)
    assert grid.lowest <= made.steps.min() <= made.steps.max() <= grid.highest
    assert made.scale.shape == made.zero_point.shape
    assert len(made.scale) == len(grid.starts(len(weight)))


@given(weight=WEIGHTS, grid=GRIDS)
def test_groups_do_not_touch_each_other(weight: Array, grid: Grid) -> None:
    made = round_to_nearest(weight, grid)
    for index, start in enumerate(grid.starts(len(weight))):
        alone = round_to_nearest(weight[start : start + (grid.rows or len(weight))], grid)
        assert np.array_equal(made.scale[index], alone.scale[0])
        assert np.array_equal(made.steps[start : start + len(alone.steps)], alone.steps)


@given(weight=WEIGHTS, grid=GRIDS)
def test_quantizing_twice_changes_nothing_more(weight: Array, grid: Grid) -> None:
    once = round_to_nearest(weight, grid).dequantized()
    twice = round_to_nearest(once, grid).dequantized()
    np.testing.assert_allclose(once, twice, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(weight).max()))


def test_zeros_stay_exactly_zero() -> None:
    weight = np.zeros((8, 3), np.float32)
    weight[0] = 5.0
    for symmetric in (True, False):
        made = round_to_nearest(weight, Grid(4, 4, symmetric)).dequantized()
        assert not made[1:].any()


@given(
    values=hnp.arrays(
        np.uint8, hnp.array_shapes(max_dims=3, max_side=9), elements=st.integers(0, 15)
    )
)
def test_nibbles_unpack_to_what_was_packed(values: Array) -> None:
    packed = pack_nibbles(values)
    pairs = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*values.shape[:-1], -1)
    assert np.array_equal(pairs[..., : values.shape[-1]], values)
    assert not pairs[..., values.shape[-1] :].any()


@pytest.mark.parametrize(
    ("inputs", "group", "wanted"),
    [
        (384, 128, (4, 128)),
        (304, 128, (4, 16)),
        (96, 256, (4, 32)),
        (128, 128, (4, 0)),
        (64, 0, (4, 0)),
        (300, 128, (8, 0)),
        (17, 16, (8, 0)),
    ],
)
def test_openvino_gets_groups_that_it_computes_rightly_with(
    inputs: int, group: int, wanted: tuple[int, int]
) -> None:
    grid = openvino_grid(Grid(4, group, symmetric=True), inputs)
    assert (grid.bits, grid.rows) == wanted
