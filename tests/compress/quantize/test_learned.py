from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
import pytest
from edgekit.calibration import Range

from edgekit.compress.quantize.learned import apply_learned, weight_key
from edgekit.compress.quantize.placement import plan
from edgekit.compress.quantize.profiles import PROFILES
from edgekit.compress.quantize.ptq import Int8Ptq
from edgekit.errors import CompressError
from tests.compress.graphs import context, model_of, node, random, run


@dataclass(frozen=True)
class Layer:
    weight: np.ndarray
    weight_scale: np.ndarray
    low: float = -0.5
    high: float = 2.0


def _layer(seed: int, *shape: int) -> Layer:
    """A weight on a grid whose steps no calibration would choose."""
    scale = np.linspace(0.01, 0.03, shape[0]).astype(np.float32)
    steps = np.random.default_rng(seed).integers(-90, 90, shape)
    return Layer((steps * scale.reshape(-1, *[1] * (len(shape) - 1))).astype(np.float32), scale)


def _steps(layer: Layer) -> np.ndarray:
    scale = layer.weight_scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    return np.rint(layer.weight / scale).astype(np.int8)


def _model(op: str, layer: Layer) -> ir.Model:
    weight = layer.weight
    if op == "Conv":
        nodes, shape = [node("Conv", ["x", "w"], ["y"], name="layer")], ["n", 4, 5, 5]
    elif op == "Gemm":
        nodes, shape = [node("Gemm", ["x", "w"], ["y"], transB=1, name="layer")], ["n", 4]
    else:  # exporters transpose the weight of a linear layer of a tensor of rank 3
        nodes, shape = [node("MatMul", ["x", "w"], ["y"], name="layer")], ["n", 3, 4]
        weight = np.ascontiguousarray(weight.T)
    return model_of(nodes, {"w": weight}, {"x": shape})


CASES = [("Conv", (6, 4, 3, 3)), ("Gemm", (6, 4)), ("MatMul", (6, 4))]


@pytest.mark.parametrize(("op", "shape"), CASES)
def test_learnt_integers_and_ranges_replace_calibrated_ones(
    op: str, shape: tuple[int, ...]
) -> None:
    layer = _layer(0, *shape)
    placement = plan(_model(op, layer), PROFILES["openvino"])
    calibrated = {"x": Range(low=-9, high=9), "other": Range(low=0, high=1)}
    ranges, fixed = apply_learned(placement, calibrated, {weight_key(layer.weight): layer})
    steps, scale = fixed["layer"]
    np.testing.assert_array_equal(steps.T if op == "MatMul" else steps, _steps(layer))
    np.testing.assert_array_equal(scale, layer.weight_scale)
    assert ranges == {"x": Range(low=-0.5, high=2.0), "other": calibrated["other"]}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("op", "shape"), CASES)
def test_the_quantized_graph_has_the_learnt_weight_exactly(
    op: str, shape: tuple[int, ...], engine: str
) -> None:
    layer = _layer(0, *shape)
    model = _model(op, layer)
    data = [{"x": random(1, 2, *[int(d) for d in model.graph.inputs[0].shape[1:]])}]
    learned = {weight_key(layer.weight): layer}
    asked = replace(context(data, engine, target="x86-vnni"), learned=learned)
    Int8Ptq(type="int8-ptq").apply(model, asked)
    linear = next(one for one in model.graph if one.op_type == op)
    steps, scale = (value.const_value.numpy() for value in linear.inputs[1].producer().inputs[:2])
    np.testing.assert_array_equal(steps.T if op == "MatMul" else steps, _steps(layer))
    np.testing.assert_array_equal(scale, layer.weight_scale)
    run(model, data[0])


def test_a_layer_that_training_did_not_cover_is_calibrated() -> None:
    layer = _layer(0, 6, 4)
    placement = plan(_model("Gemm", layer), PROFILES["openvino"])
    ranges = {"x": Range(low=-9, high=9)}
    assert apply_learned(placement, ranges, {weight_key(_layer(1, 6, 4).weight): layer}) == (
        ranges,
        {},
    )


def test_the_key_is_that_of_the_values_whatever_the_memory_layout() -> None:
    weight = random(0, 6, 4)
    assert weight_key(weight) == weight_key(np.asfortranarray(weight))
    assert weight_key(weight) != weight_key(weight.T)


def test_learnt_scales_are_refused_where_the_full_range_overflows() -> None:
    layer = _layer(0, 6, 4)
    learned = {weight_key(layer.weight): layer}
    data = [{"x": random(1, 2, 4)}]
    asked = replace(context(data, target="x86-avx2"), learned=learned)
    with pytest.raises(CompressError, match=r"x86-avx2.*Use the recipe int8"):
        Int8Ptq(type="int8-ptq").apply(_model("Gemm", layer), asked)
