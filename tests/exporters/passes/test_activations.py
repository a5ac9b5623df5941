from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgekit.exporters.passes.activations import fuse_activations
from onnx_ir.passes import common

from tests.compress.graphs import model_of, node, random, run

_NUMBERS = {
    "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "six": 6.0, "zero": 0.0, "sixth": 1 / 6,
    "root": math.sqrt(2), "inverse": 1 / math.sqrt(2), "c": 0.044715, "k": math.sqrt(2 / math.pi),
    "other": 1.702,
}  # fmt: skip
_CONSTANTS = {name: np.float32(number) for name, number in _NUMBERS.items()}


def _written(text: str) -> list[onnx.NodeProto]:
    """Operators from lines such as ``a = Mul x half``; the last one's result is y."""
    nodes = []
    for line in text.replace(",", "\n").strip().splitlines():
        result, _, call = line.partition("=")
        op, *inputs = call.split()
        nodes.append(node(op, inputs, [result.strip()]))
    return nodes


_ERF = {
    "x h (1 + erf)": "d = Div x root, e = Erf d, a = Add e one, m = Mul x a, y = Mul m half",
    "h inside": "d = Mul x inverse, e = Erf d, a = Add one e, m = Mul half a, y = Mul x m",
    "h first": "h = Mul half x, d = Div x root, e = Erf d, a = Add e one, y = Mul h a",
    "halved": "d = Div x root, e = Erf d, a = Add e one, m = Mul a x, y = Div m two",
}
_TANH = {
    "pow": "p = Pow x three, q = Mul c p, s = Add x q, t = Mul s k, u = Tanh t, v = Add one u, "
    "h = Mul half x, y = Mul h v",
    "factored": "p = Mul x x, q = Mul p c, r = Add one q, s = Mul r x, t = Mul k s, u = Tanh t, "
    "v = Add u one, w = Mul v x, y = Mul half w",
}
_HARD_SWISH = {
    "clip": "a = Add x three, b = Clip a zero six, m = Mul x b, y = Div m six",
    "clip, sixth": "a = Add three x, b = Clip a zero six, d = Mul b sixth, y = Mul x d",
    "min, max": "a = Add three x, b = Max a zero, e = Min b six, d = Div e six, y = Mul x d",
}


def _fused(text: str, opset: int = 20) -> list[ir.Node]:
    """The operators after the pass, when they compute the same."""
    nodes = _written(text)
    used = {name for one in nodes for name in one.input}
    constants = {name: array for name, array in _CONSTANTS.items() if name in used}
    model = model_of(nodes, constants, {"x": ["n", 50]}, opset=opset)
    feeds = {"x": random(0, 3, 50) * 4}
    wanted = run(model, feeds)["y"]
    fuse_activations(model.graph)
    common.RemoveUnusedNodesPass()(model)
    np.testing.assert_allclose(run(model, feeds)["y"], wanted, rtol=1e-5, atol=2e-6)
    return list(model.graph)


@pytest.mark.parametrize("text", _ERF.values(), ids=_ERF)
def test_gelu_by_erf_is_one_operator(text: str) -> None:
    (gelu,) = _fused(text)
    assert (gelu.op_type, gelu.attributes.get_string("approximate", "none")) == ("Gelu", "none")


@pytest.mark.parametrize("text", _TANH.values(), ids=_TANH)
def test_gelu_by_tanh_is_one_operator(text: str) -> None:
    (gelu,) = _fused(text)
    assert (gelu.op_type, gelu.attributes.get_string("approximate", "none")) == ("Gelu", "tanh")


@pytest.mark.parametrize("text", _HARD_SWISH.values(), ids=_HARD_SWISH)
def test_hard_swish_is_one_operator(text: str) -> None:
    (swish,) = _fused(text)
    assert swish.op_type == "HardSwish"


@pytest.mark.parametrize("alpha", [1 / 6, 0.2])
def test_x_times_its_hard_sigmoid_is_hard_swish_at_one_slope_only(alpha: float) -> None:
    nodes = [node("HardSigmoid", ["x"], ["g"], alpha=alpha), node("Mul", ["x", "g"], ["y"])]
    model = model_of(nodes, {}, {"x": ["n"]})
    assert fuse_activations(model.graph) == (1 if alpha == 1 / 6 else 0)


@pytest.mark.parametrize(
    "text",
    [
        "d = Div x root, e = Erf d, a = Add e one, m = Mul x a, y = Mul m two",
        "d = Mul x other, e = Erf d, a = Add e one, m = Mul x a, y = Mul m half",
        "a = Add x three, b = Clip a zero six, m = Mul x b, y = Div m three",
        "s = Sigmoid x, y = Mul x s",
    ],
    ids=["doubled", "steeper", "another slope", "SiLU"],
)
def test_functions_that_only_look_alike_stay(text: str) -> None:
    assert {one.op_type for one in _fused(text)}.isdisjoint({"Gelu", "HardSwish"})


def test_before_its_operator_set_a_function_stays() -> None:
    assert len(_fused(_ERF["halved"], opset=19)) == 5
    assert len(_fused(_HARD_SWISH["clip"], opset=13)) == 4
    assert len(_fused(_HARD_SWISH["clip"], opset=14)) == 1


def test_a_result_on_the_way_that_others_read_keeps_all_of_it() -> None:
    nodes = _written(_ERF["halved"])
    constants = {name: _CONSTANTS[name] for name in ("root", "one", "two")}
    model = model_of(nodes, constants, {"x": ["n"]}, outputs=["y", "e"])
    assert fuse_activations(model.graph) == 0


def test_x_times_a_function_of_another_tensor_stays() -> None:
    nodes = _written("d = Div z root, e = Erf d, a = Add e one, m = Mul x a, y = Div m two")
    constants = {name: _CONSTANTS[name] for name in ("root", "one", "two")}
    model = model_of(nodes, constants, {"x": ["n"], "z": ["n"]})
    assert fuse_activations(model.graph) == 0


def test_integers_stay() -> None:
    text = (
        "i = Cast x, a = Add i three, b = Clip a zero six, m = Mul i b, d = Div m six, y = Cast d"
    )
    nodes = _written(text)
    for cast, kind in ((nodes[0], onnx.TensorProto.INT32), (nodes[-1], onnx.TensorProto.FLOAT)):
        cast.attribute.append(onnx.helper.make_attribute("to", kind))
    constants = {name: np.int32(_NUMBERS[name]) for name in ("three", "zero", "six")}
    assert fuse_activations(model_of(nodes, constants, {"x": ["n"]}).graph) == 0
