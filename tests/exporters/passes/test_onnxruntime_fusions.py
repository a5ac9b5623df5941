from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from edgekit.exporters.passes.onnxruntime_fusions import fuse_integer_products, keep_norms_apart
from hypothesis import given
from hypothesis import strategies as st
from onnx_ir.passes import common

from tests.compress.graphs import model_of, node, random, run


def _quantized(
    shape: tuple[int, ...],
    *,
    bias: np.ndarray | None = None,
    per_channel: bool = True,
    zero_points: bool = True,
    **attributes: int,
) -> ir.Model:
    """A MatMul of a quantized activation and a quantized weight of ``shape``."""
    generator = np.random.default_rng(0)
    axis = attributes.get("axis", 1)
    count = (shape[axis],) if per_channel else ()
    scales = np.asarray(generator.uniform(0.01, 0.02, count), np.float32)
    if "block_size" in attributes:
        blocks = list(shape)
        blocks[axis] //= attributes["block_size"]
        scales = np.asarray(generator.uniform(0.01, 0.02, blocks), np.float32)
    constants = {
        "w": generator.integers(-127, 128, shape).astype(np.int8),
        "w_scale": scales,
        "x_scale": np.float32(0.03),
        "x_zero": np.uint8(120),
    }
    if zero_points:
        constants["w_zero"] = np.zeros(scales.shape, np.int8)
    weight = ["w", "w_scale", *(["w_zero"] if zero_points else [])]
    nodes = [
        node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["q"]),
        node("DequantizeLinear", ["q", "x_scale", "x_zero"], ["a"]),
        node("DequantizeLinear", weight, ["b"], **attributes),
        node("MatMul", ["a", "b"], ["p"]),
    ]
    if bias is not None:
        constants["bias"] = bias
        nodes.append(node("Add", ["p", "bias"], ["s"]))
    nodes.append(node("Relu", ["p" if bias is None else "s"], ["y"]))
    return model_of(nodes, constants, {"x": ["n", "m", shape[-2]]}, opset=21)


def _check(model: ir.Model, rows: tuple[int, int] = (2, 3)) -> list[str]:
    """The operators after the fusion, when it computes what the Q/DQ graph does."""
    (given_input,) = model.graph.inputs
    assert given_input.shape is not None
    feeds = {"x": random(7, *rows, int(given_input.shape[2]))}
    wanted = run(model, feeds)["y"]
    fuse_integer_products(model.graph)
    common.RemoveUnusedNodesPass()(model)
    np.testing.assert_allclose(run(model, feeds)["y"], wanted, rtol=1e-4, atol=1e-4)
    return [one.op_type for one in model.graph]


FUSED = ["QuantizeLinear", "MatMulIntegerToFloat", "Relu"]


@given(
    inputs=st.integers(1, 20),
    outputs=st.integers(1, 20),
    biased=st.booleans(),
    per_channel=st.booleans(),
    zero_points=st.booleans(),
)
def test_an_integer_product_computes_what_the_pairs_do(
    inputs: int, outputs: int, biased: bool, per_channel: bool, zero_points: bool
) -> None:
    model = _quantized(
        (inputs, outputs),
        bias=random(1, outputs) if biased else None,
        per_channel=per_channel,
        zero_points=zero_points,
    )
    assert _check(model) == FUSED


def test_a_bias_that_others_read_the_product_without_stays_an_addition() -> None:
    model = _quantized((8, 4), bias=random(1, 4))
    product = next(n for n in model.graph if n.op_type == "MatMul").outputs[0]
    model.graph.outputs.append(product)
    feeds = {"x": random(0, 2, 3, 8)}
    wanted = run(model, feeds)
    fuse_integer_products(model.graph)
    got = run(model, feeds)
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("columns", "length"), [(4, 1), (1, 4)], ids=["one number", "widens the product"]
)
def test_a_bias_of_another_length_stays_an_addition(columns: int, length: int) -> None:
    model = _quantized((8, columns), bias=random(1, length))
    assert "Add" in _check(model)


def test_a_stack_of_weights_is_left_alone() -> None:
    assert fuse_integer_products(_quantized((2, 8, 4), axis=2).graph) == 0
    assert fuse_integer_products(_quantized((2, 8, 4), per_channel=False).graph) == 0


def test_a_weight_scaled_by_rows_is_left_alone() -> None:
    assert fuse_integer_products(_quantized((8, 4), axis=0).graph) == 0


def test_a_weight_scaled_by_blocks_is_left_alone() -> None:
    model = _quantized((8, 4), axis=0, block_size=4)
    assert fuse_integer_products(model.graph) == 0
    other = _quantized((8, 4), axis=1, block_size=2)
    assert fuse_integer_products(other.graph) == 0


def test_a_float_product_is_left_alone() -> None:
    model = model_of([node("MatMul", ["x", "w"], ["y"])], {"w": random(0, 4, 4)}, {"x": ["n", 4]})
    assert fuse_integer_products(model.graph) == 0


def _residual(*, output: bool = False) -> ir.Model:
    nodes = [
        node("MatMul", ["x", "w"], ["p"]),
        node("Add", ["p", "x"], ["s"]),
        node("LayerNormalization", ["s", "gain", "shift"], ["n"], axis=-1),
        node("Add", ["n", "x"], ["y"]),
    ]
    constants = {"w": random(0, 8, 8), "gain": random(1, 8), "shift": random(2, 8)}
    outputs = ("y", "s") if output else ("y",)
    return model_of(nodes, constants, {"x": ["n", "m", 8]}, outputs=outputs)


def _optimized(model: ir.Model, folder: Path) -> set[str]:
    """The operators that ONNX Runtime runs in the end."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    content = ir.to_proto(model).SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return {one.op_type for one in onnx.load(folder / "optimized.onnx").graph.node}


def test_onnx_runtime_fuses_no_skip_normalization(tmp_path: Path) -> None:
    model = _residual()
    feeds = {"x": random(3, 2, 5, 8)}
    wanted = run(model, feeds)["y"]
    assert "SkipLayerNormalization" in _optimized(model, tmp_path)
    assert keep_norms_apart(model.graph) == 1
    common.RemoveUnusedNodesPass()(model)
    assert "SkipLayerNormalization" not in _optimized(model, tmp_path)
    np.testing.assert_allclose(run(model, feeds)["y"], wanted, rtol=1e-5, atol=1e-5)


def test_a_sum_that_is_an_output_stays_as_it_is() -> None:
    assert keep_norms_apart(_residual(output=True).graph) == 0


def test_two_norms_of_one_sum_read_the_same_one() -> None:
    model = _residual()
    total = next(n for n in model.graph if n.op_type == "Add").outputs[0]
    norm = next(n for n in model.graph if n.op_type == "LayerNormalization")
    second = ir.node("LayerNormalization", [total, *norm.inputs[1:]], {"axis": -1}, name="second")
    second.outputs[0].name = "z"
    second.outputs[0].type, second.outputs[0].shape = total.type, total.shape
    model.graph.append(second)
    model.graph.outputs.append(second.outputs[0])
    feeds = {"x": random(3, 2, 5, 8)}
    wanted = run(model, feeds)
    assert keep_norms_apart(model.graph) == 1
    common.RemoveUnusedNodesPass()(model)
    got = run(model, feeds)
    for name in ("y", "z"):
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-5, atol=1e-5)
