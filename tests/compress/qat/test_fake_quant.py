"""The forward pass against integer arithmetic, the backward pass against the papers' formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from edgekit.calibration import Range
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekit.compress.qat.fake_quant import InputFakeQuant, WeightFakeQuant, fake_quantize
from edgekit.compress.quantize.arithmetic import (
    AffineParameters,
    asymmetric_uint8,
    dequantize,
    quantize,
    quantize_weight,
    weight_scale,
)

finite = st.floats(-1e4, 1e4, width=32)
# a tenth of the logarithm of a scale over its first value, as training may leave it
ratio = st.floats(-0.125, 0.125, width=32)
ranges = st.tuples(finite, finite).map(lambda pair: (min(pair), max(pair)))
weights = arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 12)), elements=finite)
levels = st.sampled_from([63, 127])
inputs = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=finite)


def _trained(low: float, high: float, ratios: tuple[float, float]) -> InputFakeQuant:
    quantizer = InputFakeQuant(low, high)
    with torch.no_grad():
        quantizer.learned.copy_(torch.tensor(ratios))
    return quantizer


def _grid(quantizer: InputFakeQuant) -> AffineParameters:
    scale, zero_point = quantizer.parameters_of_grid()
    return AffineParameters(np.asarray(np.float32(scale)), np.asarray(zero_point, dtype=np.uint8))


@given(weights, ratio, levels)
def test_weights_forward_is_quantize_and_dequantize(
    weight: np.ndarray, moved: float, levels: int
) -> None:
    quantizer = WeightFakeQuant(torch.from_numpy(weight), levels)
    with torch.no_grad():
        quantizer.learned.fill_(moved)
    scale = quantizer.scale().detach().numpy()
    zero = np.zeros(scale.shape, np.int8)
    steps = np.clip(quantize(weight, AffineParameters(scale, zero)), -levels, levels)
    expected = dequantize(steps, AffineParameters(scale, zero))
    np.testing.assert_array_equal(quantizer(torch.from_numpy(weight)).detach().numpy(), expected)


@given(weights, levels)
def test_weights_start_on_the_grid_of_post_training_quantization(
    weight: np.ndarray, levels: int
) -> None:
    scale = weight_scale(weight, 0, levels=levels)
    steps, parameters = quantize_weight(weight, 0, scale, levels)
    got = WeightFakeQuant(torch.from_numpy(weight), levels)(torch.from_numpy(weight))
    np.testing.assert_array_equal(got.detach().numpy(), dequantize(steps, parameters))


# A quotient beyond float32: the range is that of a layer that is all but dead.
@example((0.0, 1.9879964191923558e-35), np.array([[27.0]], np.float32), (0.0, 0.0))
@given(ranges, inputs, st.tuples(ratio, ratio))
def test_inputs_forward_is_quantize_and_dequantize(
    observed: tuple[float, float], values: np.ndarray, ratios: tuple[float, float]
) -> None:
    quantizer = _trained(*observed, ratios)
    expected = dequantize(quantize(values, _grid(quantizer)), _grid(quantizer))
    np.testing.assert_array_equal(quantizer(torch.from_numpy(values)).detach().numpy(), expected)


@given(ranges, inputs, st.tuples(ratio, ratio))
def test_inputs_forward_is_within_half_a_step_of_float64(
    observed: tuple[float, float], values: np.ndarray, ratios: tuple[float, float]
) -> None:
    quantizer = _trained(*observed, ratios)
    scale, zero_point = quantizer.parameters_of_grid()
    low, high = -zero_point * scale, (255 - zero_point) * scale
    got = quantizer(torch.from_numpy(values)).detach().numpy().astype(np.float64)
    clipped = np.clip(values.astype(np.float64), low, high)
    assert np.abs(got - clipped).max() <= 0.5 * scale * (1 + 1e-4)
    assert scale > 0


@given(ranges, st.tuples(ratio, ratio))
def test_a_real_zero_is_exact_wherever_training_goes(
    observed: tuple[float, float], ratios: tuple[float, float]
) -> None:
    assert _trained(*observed, ratios)(torch.zeros(1, 1)).item() == 0.0


@given(ranges)
def test_inputs_start_with_the_parameters_of_post_training_quantization(
    observed: tuple[float, float],
) -> None:
    expected = asymmetric_uint8(Range(low=observed[0], high=observed[1]))
    scale, zero_point = InputFakeQuant(*observed).parameters_of_grid()
    # PTQ divides in float64: one bit of the scale, and with it a tie, may fall either way
    assert scale == pytest.approx(float(expected.scale), rel=3e-7)
    assert abs(zero_point - int(expected.zero_point)) <= 1


def test_an_input_of_zeros_only_gets_a_usable_scale() -> None:
    assert InputFakeQuant(0.0, 0.0).parameters_of_grid() == (1.0, 0)


def test_halves_round_to_even() -> None:
    values = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5])
    got = fake_quantize(values, torch.tensor(1.0), torch.tensor(0.0), (-127, 127), 1)
    assert got.tolist() == [0.0, 2.0, 2.0, 0.0, -2.0]


@given(weights, ratio)
def test_gradient_of_weight_scale_is_that_of_lsq(weight: np.ndarray, moved: float) -> None:
    quantizer = WeightFakeQuant(torch.from_numpy(weight))
    with torch.no_grad():
        quantizer.learned.fill_(moved)
    leaf = torch.from_numpy(weight).requires_grad_()
    upstream = np.linspace(-1, 1, weight.size, dtype=np.float32).reshape(weight.shape)
    quantizer(leaf).backward(torch.from_numpy(upstream))
    scale = quantizer.scale().detach().numpy()
    ratio_ = weight / scale[:, None]  # float32, as in the forward pass, so that ties agree
    inside = (ratio_ > -127) & (ratio_ < 127)
    # Esser et al. 2020, equation 3: -v/s + round(v/s) inside, -Q_N below, Q_P above
    slope = np.where(inside, np.rint(ratio_) - ratio_, np.sign(ratio_) * 127.0).astype(np.float64)
    step = 1 / math.sqrt(weight.shape[1] * 127)  # section 2.2
    expected = (upstream * slope).sum(axis=1) * step * scale * 10  # d scale / d parameter
    tolerance = 1e-5 * (np.abs(upstream * slope).sum(axis=1) * step * scale * 10) + 1e-30
    got = quantizer.learned.grad
    assert got is not None
    assert (np.abs(got.numpy() - expected) <= tolerance).all()
    assert leaf.grad is not None  # equation 5, straight through
    np.testing.assert_array_equal(leaf.grad.numpy(), np.where(inside, upstream, 0))


def test_gradients_of_scale_and_offset_are_those_of_lsq_plus() -> None:
    values = torch.tensor([[-9.0, -1.0, 0.3, 0.9, 40.0]], requires_grad=True)
    scale = torch.tensor(0.1, requires_grad=True)
    offset = torch.tensor(-2.0, requires_grad=True)
    upstream = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])
    fake_quantize(values, scale, offset, (0, 255), 5).backward(upstream)
    factor = 1 / math.sqrt(5 * 255)
    real = values.detach() / 0.1
    inside = (upstream * (real.round() - real))[0, 1:4].sum().item()
    # Bhalgat et al. 2020, equations 4 and 5: n = 0 below, p = 255 above; 1 outside, 0 inside
    assert scale.grad is not None
    assert offset.grad is not None
    assert values.grad is not None
    assert scale.grad.item() == pytest.approx((inside + 5 * 255) * factor, rel=1e-5)
    assert offset.grad.item() == pytest.approx((1 + 5) * factor)
    assert values.grad.tolist() == [[0.0, 2.0, 3.0, 4.0, 0.0]]


def test_a_range_that_clips_too_much_learns_to_widen() -> None:
    torch.manual_seed(0)
    values = torch.randn(64, 32)
    quantizer = InputFakeQuant(-0.5, 0.5)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.005)
    errors = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = ((quantizer(values) - values) ** 2).mean()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    low, high = (quantizer.initial * torch.exp(10 * quantizer.learned)).tolist()
    assert errors[-1] < errors[0] / 100
    assert low < -2.0
    assert high > 2.0


def test_the_zero_end_of_a_range_behind_a_relu_stays() -> None:
    quantizer = InputFakeQuant(0.0, 1.0)
    quantizer(torch.rand(8, 4) * 3).sum().backward()
    grad = quantizer.learned.grad
    assert grad is not None
    assert grad[0] == 0.0
    assert grad[1] != 0.0


def test_no_rows_are_no_trouble() -> None:
    quantizer = InputFakeQuant(-1.0, 1.0)
    quantizer(torch.zeros(0, 3, requires_grad=True)).sum().backward()


def test_half_precision_comes_back_as_half_precision() -> None:
    values = torch.tensor([[0.1, 0.7]], dtype=torch.bfloat16)
    assert InputFakeQuant(0.0, 1.0)(values).dtype == torch.bfloat16
