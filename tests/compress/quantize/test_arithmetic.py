"""The integer arithmetic against float64 references and ONNX Runtime's own operators."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from edgekit.calibration import Range
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekit.compress.quantize.arithmetic import (
    AffineParameters,
    asymmetric_uint8,
    dequantize,
    quantize,
    quantize_bias,
    quantize_weight,
    symmetric_int8,
    weight_scale,
)

finite = st.floats(-1e4, 1e4, width=32)
ranges = st.tuples(finite, finite).map(lambda pair: Range(low=min(pair), high=max(pair)))
weights = arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 12)), elements=finite)


def _ort_quantize(values: np.ndarray, parameters: AffineParameters) -> np.ndarray:
    node = onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
    kind = onnx.helper.np_dtype_to_tensor_dtype(parameters.zero_point.dtype)
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, values.shape)],
        [onnx.helper.make_tensor_value_info("y", kind, values.shape)],
        [
            onnx.numpy_helper.from_array(parameters.scale, "s"),
            onnx.numpy_helper.from_array(parameters.zero_point, "z"),
        ],
    )
    model = onnx.helper.make_model(
        graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)]
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": values})[0]


@given(ranges)
def test_zero_is_exact_in_every_format(observed: Range) -> None:
    for parameters in (asymmetric_uint8(observed), symmetric_int8(observed)):
        zero = np.zeros(1, np.float32)
        assert dequantize(quantize(zero, parameters), parameters)[0] == 0.0


@given(ranges, st.floats(0, 1))
def test_values_inside_the_range_are_off_by_half_a_step_at_most(
    observed: Range, position: float
) -> None:
    value = np.float32(observed.low + position * (observed.high - observed.low))
    for parameters in (asymmetric_uint8(observed), symmetric_int8(observed)):
        back = dequantize(quantize(np.array([value]), parameters), parameters)[0]
        # the zero point is rounded, too, so that an end of the range can lose half a step more
        assert abs(float(back) - float(value)) <= 1.001 * float(parameters.scale) + 1e-30


@given(ranges)
def test_quantizing_twice_changes_nothing(observed: Range) -> None:
    values = np.linspace(observed.low, observed.high, 50, dtype=np.float32)
    for parameters in (asymmetric_uint8(observed), symmetric_int8(observed)):
        once = dequantize(quantize(values, parameters), parameters)
        twice = dequantize(quantize(once, parameters), parameters)
        np.testing.assert_array_equal(once, twice)


@settings(max_examples=25)
@given(ranges, arrays(np.float32, 20, elements=st.floats(-2e4, 2e4, width=32)))
def test_quantize_is_what_onnx_runtime_computes(observed: Range, values: np.ndarray) -> None:
    for parameters in (asymmetric_uint8(observed), symmetric_int8(observed)):
        expected = _ort_quantize(values, parameters).astype(int)
        got = quantize(values, parameters).astype(int)
        # a quotient that lies between two steps to the last bit may round either way
        assert np.abs(expected - got).max() <= 1
        assert (expected == got).mean() >= 0.9


@given(weights, st.sampled_from([0, 1]))
def test_each_weight_channel_keeps_half_a_step_and_uses_its_range(
    weight: np.ndarray, axis: int
) -> None:
    quantized, parameters = quantize_weight(weight, axis, weight_scale(weight, axis))
    assert quantized.min() >= -127
    back = dequantize(quantized, parameters, axis).astype(np.float64)
    steps = np.expand_dims(parameters.scale, 1 - axis).astype(np.float64)
    assert (np.abs(back - weight) <= 0.501 * steps).all()


def test_a_channel_of_zeros_stays_zero_with_a_usable_scale() -> None:
    weight = np.array([[0.0, 0.0], [1.0, -2.0]], np.float32)
    quantized, parameters = quantize_weight(weight, 0, weight_scale(weight, 0))
    assert quantized[0].tolist() == [0, 0]
    assert parameters.scale[0] == parameters.scale[1]


def test_all_zero_weights_and_ranges_have_positive_scales() -> None:
    assert (weight_scale(np.zeros((3, 4), np.float32), 0) > 0).all()
    assert asymmetric_uint8(Range(low=0.0, high=0.0)).scale > 0
    assert symmetric_int8(Range(low=0.0, high=0.0)).scale > 0


@given(st.floats(1e-6, 1e-2), st.floats(-1e6, 1e6))
def test_a_large_bias_on_tiny_weights_does_not_overflow(size: float, bias: float) -> None:
    input_scale = np.float32(0.01)
    weight = np.full((1, 4), size, np.float32)
    smallest = np.abs(np.array([bias], np.float32)) / (2.0**30 * input_scale)
    scale = input_scale * weight_scale(weight, 0, smallest=smallest)
    stored = quantize_bias(np.array([bias]), scale)
    assert stored[0] * float(scale[0]) == pytest.approx(bias, abs=float(scale[0]), rel=1e-6)
