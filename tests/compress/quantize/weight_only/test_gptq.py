from __future__ import annotations

import warnings

import numpy as np
import onnx_ir as ir
import pytest
from edgekit.calibration import Calibrator, Gram
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compress.quantize.linears import fold_transposes
from edgekit.compress.quantize.weight_only.constants import linear_weights
from edgekit.compress.quantize.weight_only.gptq import gptq, output_error
from edgekit.compress.quantize.weight_only.grid import Grid, GroupedWeight
from edgekit.compress.quantize.weight_only.rtn import round_to_nearest
from edgekit.spec import Array, Feeds

INT4 = Grid(4, 128, symmetric=False)


def _case(seed: int, inputs: int, outputs: int, rank: int) -> tuple[Array, Array, int]:
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((inputs, outputs)).astype(np.float32)
    data = generator.standard_normal((200, rank)) @ generator.standard_normal((rank, inputs))
    return weight, data.T @ data, len(data)


@given(
    seed=st.integers(0, 999),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 9),
    rank=st.integers(1, 70),
    grid=st.builds(Grid, st.sampled_from([4, 8]), st.sampled_from([0, 16]), st.booleans()),
    act_order=st.booleans(),
)
def test_the_output_error_is_never_above_that_of_rounding_to_nearest(
    seed: int, inputs: int, outputs: int, rank: int, grid: Grid, act_order: bool
) -> None:
    weight, moment, rows = _case(seed, inputs, outputs, rank)
    made = gptq(weight, moment, grid, rows=rows, act_order=act_order)
    plain = round_to_nearest(weight, grid)
    assert output_error(weight, made, moment) <= output_error(weight, plain, moment)
    assert made.steps.min() >= grid.lowest
    assert made.steps.max() <= grid.highest
    assert np.array_equal(made.scale, plain.scale)


@given(seed=st.integers(0, 999), block=st.sampled_from([1, 16, 128]))
def test_columns_updated_in_blocks_give_what_algorithm_1_gives_one_by_one(
    seed: int, block: int
) -> None:
    grid = Grid(4, 0, symmetric=True)
    weight, moment, rows = _case(seed, 40, 3, 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgekit.compress.quantize.weight_only.gptq._BLOCK", block)
        made = gptq(weight, moment, grid, rows=rows, act_order=False)
    nearest = round_to_nearest(weight, grid)
    exact = _reference(weight, moment, 0.01 + 0.4 * 40 / rows, nearest.scale)
    reference = GroupedWeight.of(grid, _rounded(exact), nearest.scale, nearest.zero_point)
    if output_error(weight, reference, moment) > output_error(weight, nearest, moment):
        np.testing.assert_array_equal(made.steps, nearest.steps)
        return
    for steps, wanted in zip(made.steps.T, exact.T, strict=True):
        apart = np.flatnonzero(steps != _rounded(wanted))
        if len(apart):  # float32 against float64: halfway between two steps either is right
            assert abs(abs(wanted[apart[0]] - np.trunc(wanted[apart[0]])) - 0.5) < 1e-3


def _rounded(exact: Array) -> Array:
    return np.clip(np.rint(exact), -7, 7)


def _reference(weight: Array, moment: Array, damping: float, scale: Array) -> Array:
    """Equations 2 and 3 of the paper in float64: the inverse is reduced after every input.

    Returns:
        What is rounded to the steps, in units of the scale.
    """
    rest = weight.astype(np.float64)
    identity = np.eye(len(moment))
    inverse = np.linalg.inv(moment + damping * np.diagonal(moment).mean() * identity)
    exact = np.zeros(weight.shape)
    for row in range(len(rest)):
        exact[row] = rest[row] / scale[0]
        error = (rest[row] - _rounded(exact[row]) * scale[0]) / inverse[row, row]
        rest[row + 1 :] -= np.outer(inverse[row + 1 :, row], error)
        inverse -= np.outer(inverse[:, row], inverse[row]) / inverse[row, row]
    return exact


@pytest.mark.parametrize("moment", [np.zeros((32, 32)), np.diag([0.0] * 31 + [1.0])])
def test_inputs_that_were_always_zero_are_rounded_to_nearest(moment: Array) -> None:
    weight = np.random.default_rng(0).standard_normal((32, 4)).astype(np.float32)
    grid = Grid(4, 16, symmetric=True)
    made = gptq(weight, moment, grid, rows=10)
    assert np.array_equal(made.steps, round_to_nearest(weight, grid).steps)


def test_a_moment_that_is_not_positive_definite_is_damped_until_it_is() -> None:
    weight = np.random.default_rng(0).standard_normal((32, 4)).astype(np.float32)
    moment = np.ones((32, 32)) - 0.5 * np.eye(32)  # eigenvalues of -0.5: no data gives that
    with warnings.catch_warnings(action="error"):
        made = gptq(weight, moment, Grid(4, 16, symmetric=True), rows=10**9)
    assert np.isfinite(made.dequantized()).all()


@pytest.mark.slow
@pytest.mark.parametrize("model_name", ["encoder", "decoder"])
def test_every_layer_of_a_language_model_loses_less_on_unseen_sentences(
    model_name: str, request: pytest.FixtureRequest
) -> None:
    language = request.getfixturevalue(model_name)
    model = ir.load(language.path)
    fold_transposes(model, frozenset())
    weights = linear_weights(model, frozenset())
    sizes = {name: size for weight in weights for name, size in weight.sources.items()}
    seen, unseen = _grams(model, sizes, language.seen), _grams(model, sizes, language.unseen)
    ratios = {}
    for weight in weights:
        (source,) = weight.sources
        made = gptq(weight.array, seen[source].matrix, INT4, rows=seen[source].rows)
        plain = round_to_nearest(weight.array, INT4)
        judge = unseen[source].matrix
        ratios[weight.name] = output_error(weight.array, made, judge) / output_error(
            weight.array, plain, judge
        )
    assert len(ratios) == {"encoder": 36, "decoder": 9}[model_name]
    assert max(ratios.values()) < 1.0


def _grams(model: ir.Model, sizes: dict[str, int], feeds: list[Feeds]) -> dict[str, Gram]:
    grams = {name: Gram(size) for name, size in sizes.items()}
    Calibrator(lambda: feeds).observe(model, grams)
    return grams
