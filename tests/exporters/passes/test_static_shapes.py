from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgekit.exporters.graph import MODULE
from edgekit.exporters.passes.static_shapes import plain_pooling, static_reshapes
from hypothesis import given
from hypothesis import strategies as st
from onnx_ir.passes import common

from tests.compress.graphs import model_of, node, random, run


def _known(model: ir.Model, *dims: int | str) -> ir.Model:
    """The model with the shape of its Reshape written down, as PyTorch's exporter does."""
    for value in (_reshape(model).outputs[0], model.graph.outputs[0]):
        value.shape = ir.Shape(dims)
    return model


def _split(opset: int = 20) -> ir.Model:
    """(batch, sequence, 8) to (batch, sequence, 2, 4), the target computed from the input."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Slice", ["shape", "zero", "two", "zero"], ["front"]),
        node("Concat", ["front", "heads"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["r"]),
        node("Relu", ["r"], ["y"]),
    ]
    constants = {"zero": np.array([0]), "two": np.array([2]), "heads": np.array([2, 4])}
    model = model_of(nodes, constants, {"x": ["batch", "sequence", 8]})
    model.opset_imports[""] = opset
    return _known(model, "batch", "sequence", 2, 4)


def _reshape(model: ir.Model) -> ir.Node:
    (found,) = (one for one in model.graph if one.op_type == "Reshape")
    return found


@given(batch=st.integers(1, 5), sequence=st.integers(1, 9))
def test_batch_and_sequence_stay_dynamic(batch: int, sequence: int) -> None:
    model = _split()
    assert static_reshapes(model.graph) == 1
    x = random(batch, batch, sequence, 8)
    y = run(model, {"x": x})["y"]
    np.testing.assert_array_equal(y, np.maximum(x, 0).reshape(batch, sequence, 2, 4))


def test_dimensions_of_the_input_are_copied() -> None:
    model = _split()
    static_reshapes(model.graph)
    target = _reshape(model).inputs[1]
    assert target is not None
    assert target.const_value is not None
    assert target.const_value.numpy().tolist() == [0, 0, 2, 4]


@pytest.mark.parametrize("opset", [13, 14, 20])
def test_the_graph_stays_valid_in_every_operator_set(opset: int) -> None:
    model = _split(opset)
    assert static_reshapes(model.graph) == 1
    x = random(0, 2, 3, 8)
    assert run(model, {"x": x})["y"].shape == (2, 3, 2, 4)  # run() checks the model


def test_one_dimension_that_is_new_is_computed() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Slice", ["shape", "two", "three", "zero"], ["last"]),
        node("Concat", ["minus", "last"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["r"]),
        node("Relu", ["r"], ["y"]),
    ]
    constants = {"zero": [0], "two": [2], "three": [3], "minus": [-1]}
    arrays = {name: np.array(value) for name, value in constants.items()}
    model = _known(model_of(nodes, arrays, {"x": ["batch", "sequence", 8]}), "rows", 8)
    assert static_reshapes(model.graph) == 1
    for batch, sequence in ((1, 1), (3, 5)):
        x = random(0, batch, sequence, 8)
        assert run(model, {"x": x})["y"].shape == (batch * sequence, 8)


def test_dimensions_that_swap_places_are_left_computed() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "order"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["r"]),
        node("Relu", ["r"], ["y"]),
    ]
    model = model_of(nodes, {"order": np.array([1, 0, 2])}, {"x": ["batch", "sequence", 8]})
    assert static_reshapes(_known(model, "sequence", "batch", 8).graph) == 0
    for batch, sequence in ((2, 3), (4, 1)):
        x = random(0, batch, sequence, 8)
        assert run(model, {"x": x})["y"].shape == (sequence, batch, 8)


def test_a_dimension_of_size_zero_is_left_alone() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Reshape", ["x", "shape"], ["r"]),
        node("Relu", ["r"], ["y"]),
    ]
    model = model_of(nodes, {}, {"x": ["n", 0]})
    assert static_reshapes(_known(model, "n", 0).graph) == 0


def _mean(
    axes: list[int],
    *,
    keepdims: int = 1,
    rank: int = 4,
    kind: type = np.float32,
    leaves: bool = False,
) -> ir.Model:
    """The mean over some axes of a tensor, perhaps as the result of the model."""
    cast = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [
        node("Cast", ["x"], ["c"], to=cast),
        node("ReduceMean", ["c", "axes"], ["m"], keepdims=keepdims),
        node("Cast", ["m"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    shape = ["batch", 3, 5, 7][:rank]
    return model_of(nodes, {"axes": np.array(axes)}, {"x": shape}, ["m"] if leaves else ["y"])


@pytest.mark.parametrize("axes", [[2, 3], [3, 2], [-1, -2], [2, -1]])
def test_the_mean_of_an_image_is_a_pooling(axes: list[int]) -> None:
    model = _mean(axes)
    feeds = {"x": random(0, 2, 3, 5, 7)}
    wanted = run(model, feeds)["y"]
    model.graph[1].metadata_props[MODULE] = "pool (AdaptiveAvgPool2d)"
    assert plain_pooling(model.graph) == 1
    common.RemoveUnusedNodesPass()(model)
    assert [one.op_type for one in model.graph] == ["Cast", "GlobalAveragePool", "Cast"]
    assert model.graph[1].metadata_props[MODULE] == "pool (AdaptiveAvgPool2d)"
    np.testing.assert_allclose(run(model, feeds)["y"], wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        _mean([1, 2]),
        _mean([1, 2, 3]),
        _mean([3]),
        _mean([2, 3], keepdims=0),
        _mean([1, 2], rank=3),
        _mean([2, 3], leaves=True),
        _mean([2, 3], kind=np.int32),  # GlobalAveragePool is of real numbers
    ],
    ids=["channels", "all", "one", "flat", "rank 3", "graph output", "integers"],
)
def test_other_means_stay(model: ir.Model) -> None:
    assert plain_pooling(model.graph) == 0
    assert "ReduceMean" in [one.op_type for one in model.graph]
