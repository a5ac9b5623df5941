from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgekit.exporters.passes.layer_norm import fuse_layer_norm
from onnx_ir.passes import common

from tests.compress.graphs import model_of, node, random, run

_SIZE = 6


def _written(
    tail: list[onnx.NodeProto],
    *,
    axes: int = -1,
    square: str = "Pow",
    opset: int = 20,
    constants: dict[str, np.ndarray] | None = None,
    outputs: tuple[str, ...] = ("y",),
    width: int | str = _SIZE,
) -> ir.Model:
    """x normalized to n, and what comes behind it."""
    given = {} if opset < 18 else {"axes": np.array([axes])}
    mean = {"axes": [axes]} if opset < 18 else {}
    squared = ["d", "two"] if square == "Pow" else ["d", "d"]
    nodes = [
        node("ReduceMean", ["x", *given], ["m"], **mean),
        node("Sub", ["x", "m"], ["d"]),
        node(square, squared, ["s"]),
        node("ReduceMean", ["s", *given], ["v"], **mean),
        node("Add", ["v", "epsilon"], ["e"]),
        node("Sqrt", ["e"], ["r"]),
        node("Div", ["d", "r"], ["n"]),
        *tail,
    ]
    fixed = {"epsilon": np.float32(1e-3), **({"two": np.float32(2)} if square == "Pow" else {})}
    return model_of(
        nodes, {**given, **fixed, **(constants or {})}, {"x": ["b", 5, width]}, outputs, opset
    )


def _affine(scale: tuple[int, ...], bias: tuple[int, ...] | None) -> ir.Model:
    constants = {"scale": random(0, *scale)}
    tail = [node("Mul", ["scale", "n"], ["y" if bias is None else "t"])]
    if bias is not None:
        constants["bias"] = random(1, *bias)
        tail.append(node("Add", ["t", "bias"], ["y"]))
    return _written(tail, constants=constants)


def _fused(model: ir.Model) -> list[str]:
    """The operators after the pass, when they compute the same."""
    feeds = {"x": random(7, 3, 5, _SIZE)}
    wanted = run(model, feeds)
    fuse_layer_norm(model.graph)
    common.RemoveUnusedNodesPass()(model)
    got = run(model, feeds)
    for name, array in wanted.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-5)
    return [one.op_type for one in model.graph]


_RELU = [node("Relu", ["n"], ["y"])]


@pytest.mark.parametrize(
    ("scale", "bias"),
    [((_SIZE,), (_SIZE,)), ((_SIZE,), None), ((1, 1, _SIZE), ()), ((), (1, _SIZE)), ((1,), None)],
)
def test_scale_and_bias_of_any_such_shape_are_taken_in(
    scale: tuple[int, ...], bias: tuple[int, ...] | None
) -> None:
    model = _affine(scale, bias)
    assert _fused(model) == ["LayerNormalization"]
    assert model.graph.outputs[0].name == "y"


@pytest.mark.parametrize("square", ["Pow", "Mul"])
@pytest.mark.parametrize("axes", [-1, 2])
def test_the_normalization_alone_is_known(square: str, axes: int) -> None:
    assert _fused(_written(_RELU, square=square, axes=axes)) == ["LayerNormalization", "Relu"]


def test_axes_may_be_an_attribute_as_before_opset_18() -> None:
    assert _fused(_written(_RELU, opset=17)) == ["LayerNormalization", "Relu"]


def test_epsilon_is_kept() -> None:
    model = _written(_RELU)
    fuse_layer_norm(model.graph)
    (norm,) = (one for one in model.graph if one.op_type == "LayerNormalization")
    assert norm.attributes.get_float("epsilon", 0.0) == pytest.approx(1e-3)


def test_a_scale_that_differs_by_rows_stays_behind_it() -> None:
    assert _fused(_affine((5, 1), None)) == ["LayerNormalization", "Mul"]
    assert _fused(_affine((5, _SIZE), None)) == ["LayerNormalization", "Mul"]


@pytest.mark.parametrize(
    "model",
    [
        _written(_RELU, axes=1),
        _written(_RELU, opset=16),
        _written(_RELU, outputs=("y", "m")),
        _written(_RELU, width="w"),
    ],
    ids=["another axis", "an older operator set", "its mean is an output", "a dynamic size"],
)
def test_what_the_operator_does_not_say_stays(model: ir.Model) -> None:
    assert "LayerNormalization" not in _fused(model)
