from __future__ import annotations

import numpy as np
import onnx_ir as ir
from edgekit.exporters.passes.fold_constants import fold_constants
from hypothesis import given
from hypothesis import strategies as st

from tests.compress.graphs import model_of, node, random, run


def _names(model: ir.Model) -> list[str]:
    return [one.op_type for one in model.graph]


def test_a_chain_of_moves_becomes_one_weight() -> None:
    nodes = [
        node("Transpose", ["w"], ["t"], perm=[1, 0]),
        node("Slice", ["t", "zero", "two", "axis"], ["s"]),
        node("Concat", ["s", "s"], ["c"], axis=1),
        node("MatMul", ["x", "c"], ["y"]),
    ]
    constants = {"w": random(0, 5, 4), "zero": np.array([0]), "two": np.array([2])}
    model = model_of(nodes, {**constants, "axis": np.array([1])}, {"x": ["n", 4]})
    feeds = {"x": random(1, 3, 4)}
    wanted = run(model, feeds)
    assert fold_constants(model.graph) == 3
    assert _names(model) == ["MatMul"]
    np.testing.assert_array_equal(run(model, feeds)["y"], wanted["y"])


@given(
    shape=st.lists(st.integers(1, 4), min_size=2, max_size=3),
    to=st.sampled_from(["FLOAT", "DOUBLE", "INT32", "FLOAT16", "BOOL"]),
    data=st.data(),
)
def test_folding_gives_what_the_engine_computes(
    shape: list[int], to: str, data: st.DataObject
) -> None:
    perm = data.draw(st.permutations(range(len(shape))))
    nodes = [
        node("Transpose", ["w"], ["t"], perm=perm),
        node("Cast", ["t"], ["k"], to=int(ir.DataType[to])),
        node("Cast", ["k"], ["f"], to=int(ir.DataType.FLOAT)),
        node("Add", ["x", "f"], ["y"]),
    ]
    values = np.clip(random(len(shape), *shape) * 3, -9, 9)
    model = model_of(nodes, {"w": values}, {"x": [1]})
    feeds = {"x": np.zeros(1, np.float32)}
    wanted = run(model, feeds)
    assert fold_constants(model.graph) == 3
    np.testing.assert_array_equal(run(model, feeds)["y"], wanted["y"])


def test_a_constant_that_is_an_output_is_kept() -> None:
    nodes = [node("Transpose", ["w"], ["t"], perm=[1, 0]), node("MatMul", ["x", "t"], ["y"])]
    model = model_of(nodes, {"w": random(0, 3, 4)}, {"x": ["n", 4]}, outputs=("t", "y"))
    assert fold_constants(model.graph) == 0
    assert [value.name for value in model.graph.outputs] == ["t", "y"]


def test_what_depends_on_an_input_is_kept() -> None:
    nodes = [node("Concat", ["x", "w"], ["c"], axis=0), node("Relu", ["c"], ["y"])]
    model = model_of(nodes, {"w": random(0, 3, 4)}, {"x": ["n", 4]})
    assert fold_constants(model.graph) == 0


def test_arithmetic_is_left_to_the_engine() -> None:
    nodes = [node("Mul", ["w", "w"], ["q"]), node("MatMul", ["x", "q"], ["y"])]
    model = model_of(nodes, {"w": random(0, 4, 4)}, {"x": ["n", 4]})
    assert fold_constants(model.graph) == 0


def test_a_weight_with_other_readers_stays_for_them() -> None:
    nodes = [
        node("Transpose", ["w"], ["t"], perm=[1, 0]),
        node("MatMul", ["x", "t"], ["a"]),
        node("MatMul", ["a", "w"], ["y"]),
    ]
    model = model_of(nodes, {"w": random(0, 3, 4)}, {"x": ["n", 4]})
    feeds = {"x": random(1, 2, 4)}
    wanted = run(model, feeds)
    assert fold_constants(model.graph) == 1
    np.testing.assert_allclose(run(model, feeds)["y"], wanted["y"], rtol=1e-6)
