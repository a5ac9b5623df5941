from __future__ import annotations

from itertools import product

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.compress.quantize.adaround import round_adaptively
from edgekit.compress.quantize.ptq import Int8Ptq
from tests.compress.graphs import context, model_of, node, random, run, sqnr


def _loss(steps: np.ndarray, weight: np.ndarray, scale: np.ndarray, moment: np.ndarray) -> float:
    """``tr(E H E^T)`` in float64, in units of steps."""
    error = steps - weight / scale[..., None].astype(np.float64)
    return float(np.einsum("gri,gij,grj->", error, moment, error))


@st.composite
def problems(
    draw: st.DrawFn, largest: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weight, scale, moment and nearest rounding of a layer with correlated inputs."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups, rows, fan_in = (draw(st.integers(1, n)) for n in (2, 3, largest))
    inputs = generator.standard_normal((groups, draw(st.integers(1, 20)), fan_in))
    inputs += 3 * draw(st.floats(0, 3)) * generator.standard_normal((groups, 1, fan_in))
    moment = np.matmul(inputs.swapaxes(1, 2), inputs)
    weight = generator.standard_normal((groups, rows, fan_in)).astype(np.float32)
    scale = (np.abs(weight).max(axis=2) / draw(st.sampled_from([3, 20, 127]))).astype(np.float32)
    nearest = np.clip(np.rint(weight / scale[..., None]), -127, 127)
    return weight, scale, moment, nearest


@given(problems())
def test_the_error_is_never_above_that_of_nearest_rounding(problem: tuple) -> None:
    weight, scale, moment, nearest = problem
    found = _loss(round_adaptively(weight, scale, moment), weight, scale, moment)
    worst = _loss(nearest, weight, scale, moment)
    assert found <= worst * (1 + 1e-5) + 1e-6 * np.abs(moment).max()


@given(problems())
def test_every_weight_stays_within_one_step(problem: tuple) -> None:
    weight, scale, moment, _ = problem
    steps = round_adaptively(weight, scale, moment)
    assert steps.dtype == np.int8
    assert (np.abs(steps - weight / scale[..., None]) < 1.0 + 1e-5).all()


@settings(max_examples=50)
@given(problems(largest=6))
def test_no_single_flip_would_improve_it(problem: tuple) -> None:
    """The optimum of a greedy descent, against brute force; the global one is a bound."""
    weight, scale, moment, nearest = problem
    exact = (weight / scale[..., None]).astype(np.float64)
    steps = round_adaptively(weight, scale, moment).astype(float)
    own = _loss(steps, weight, scale, moment)
    slack = 1e-4 * np.abs(moment).max() * weight.size + 1e-4 * own
    for at in np.ndindex(weight.shape):
        for choice in (np.floor(exact[at]), np.ceil(exact[at])):
            other = steps.copy()
            other[at] = np.clip(choice, -127, 127)
            assert own <= _loss(other, weight, scale, moment) + slack
    total = 0.0
    for g, r in np.ndindex(weight.shape[:2]):
        rows = product(*zip(np.floor(exact[g, r]), np.ceil(exact[g, r]), strict=True))
        errors = (np.array(row) - exact[g, r] for row in rows)
        total += min(float(e @ moment[g] @ e) for e in errors)
    assert total - slack <= own <= _loss(nearest, weight, scale, moment) + slack


def test_weights_beyond_the_levels_are_clipped_and_not_flipped_back() -> None:
    weight = np.array([[[200.0, -200.0, 0.4]]], np.float32)
    steps = round_adaptively(weight, np.ones((1, 1), np.float32), np.eye(3)[None], levels=63)
    assert steps.tolist() == [[[63, -63, 0]]]


def test_inputs_of_zeros_leave_nearest_rounding() -> None:
    weight = random(0, 1, 2, 5)
    scale = np.full((1, 2), 0.1, np.float32)
    steps = round_adaptively(weight, scale, np.zeros((1, 5, 5)))
    np.testing.assert_array_equal(steps, np.rint(weight / scale[..., None]))


def _correlated(seed: int, *shape: int) -> np.ndarray:
    data = np.maximum(random(seed, *shape), 0)
    return data + 2 * np.abs(random(seed + 100, shape[0], 1, *shape[2:]))


CONV = [{"x": _correlated(i, 8, 8, 9, 9)} for i in range(4)]
FLAT = [{"x": _correlated(i, 64, 8)} for i in range(4)]


def _conv(**attributes: object) -> ir.Model:
    group = int(attributes.get("group", 1))
    nodes = [node("Conv", ["x", "w"], ["y"], **attributes)]
    return model_of(nodes, {"w": random(1, 8, 8 // group, 3, 3)}, {"x": ["n", 8, 9, 9]})


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (_conv(pads=[1] * 4), CONV),
        (_conv(group=4, strides=[2, 2]), CONV),
        (_conv(dilations=[2, 2]), CONV),
        (_conv(auto_pad="SAME_UPPER", strides=[2, 2]), CONV),
        (
            model_of(
                [node("Gemm", ["x", "w"], ["y"], transB=1)], {"w": random(1, 5, 8)}, {"x": ["n", 8]}
            ),
            FLAT,
        ),
        (
            model_of([node("MatMul", ["x", "w"], ["y"])], {"w": random(1, 8, 5)}, {"x": ["n", 8]}),
            FLAT,
        ),
    ],
    ids=["conv", "grouped", "dilated", "auto_pad", "gemm", "matmul"],
)  # fmt: skip
def test_learnt_rounding_lowers_the_output_error(model: ir.Model, data: list) -> None:
    found = {}
    for rounding in ("nearest", "adaround"):
        changed = model.clone()
        step = Int8Ptq(type="int8-ptq", observer="min-max", rounding=rounding)
        step.apply(changed, context(data, "openvino", target="x86-avx2"))
        found[rounding] = np.mean([sqnr(run(model, f), run(changed, f)) for f in data])
    assert found["adaround"] > found["nearest"] + 0.3


def test_a_kernel_larger_than_an_automatically_padded_image_is_no_error() -> None:
    model = model_of(
        [node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER")],
        {"w": random(1, 4, 4, 5, 5)},
        {"x": ["n", 4, 3, 3]},
    )
    data = [{"x": random(0, 2, 4, 3, 3)}]
    wanted = run(model, data[0])
    Int8Ptq(type="int8-ptq", rounding="adaround").apply(model, context(data))
    assert sqnr(wanted, run(model, data[0])) > 25


@pytest.mark.parametrize("rounding", ["nearest", "adaround"])
def test_a_large_bias_on_tiny_weights_survives(rounding: str) -> None:
    weight, bias = random(1, 4, 4, 1, 1), np.array([0.1, 50.0, -0.2, 0.3], np.float32)
    weight[1] *= 1e-9  # what folding the BatchNorm of a dead channel leaves
    model = model_of(
        [node("Conv", ["x", "w", "b"], ["y"])], {"w": weight, "b": bias}, {"x": ["n", 4, 3, 3]}
    )
    data = [{"x": random(0, 8, 4, 3, 3)}]
    wanted = run(model, data[0])["y"]
    Int8Ptq(type="int8-ptq", observer="min-max", rounding=rounding).apply(model, context(data))
    np.testing.assert_allclose(run(model, data[0])["y"][:, 1], wanted[:, 1], atol=0.3)


@pytest.mark.parametrize("settings", [{"rounding": "adaround"}, {"bias_correction": True}, {}])
def test_a_stack_of_weights_is_quantized_or_left_float(settings: dict) -> None:
    model = model_of(
        [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["y"])],
        {"w": random(1, 3, 8, 5), "b": random(2, 5)},
        {"x": ["n", 3, 4, 8]},
    )
    data = [{"x": random(0, 2, 3, 4, 8)}]
    wanted = run(model, data[0])
    Int8Ptq(type="int8-ptq", observer="min-max", **settings).apply(model, context(data))
    assert sqnr(wanted, run(model, data[0])) > 30
