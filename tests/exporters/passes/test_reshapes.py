from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from edgekit.exporters.passes.reshapes import simplify_reshapes
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir.passes import common

from tests.compress.graphs import model_of, node, random, run


def _simplified(model: ir.Model, *shapes: tuple[int, ...]) -> list[str]:
    """The operators that are left, when they compute the same on tensors of all these shapes."""
    x = [random(seed, *shape) for seed, shape in enumerate(shapes)]
    wanted = [run(model, {"x": one}) for one in x]
    simplify_reshapes(model.graph)
    common.RemoveUnusedNodesPass()(model)
    for one, before in zip(x, wanted, strict=True):
        got = run(model, {"x": one})
        assert list(got) == list(before)
        for name, array in before.items():
            np.testing.assert_array_equal(got[name], array)
    return [one.op_type for one in model.graph]


def test_the_shape_that_is_there_already_is_not_made_again() -> None:
    nodes = [node("Reshape", ["x", "to"], ["r"]), node("Relu", ["r"], ["y"])]
    model = model_of(nodes, {"to": np.array([0, 0, 4])}, {"x": ["batch", "sequence", 4]})
    assert _simplified(model, (2, 3, 4), (1, 5, 4)) == ["Relu"]


def test_there_and_back_vanishes_with_dynamic_dimensions() -> None:
    nodes = [
        node("Unsqueeze", ["x", "one"], ["u"]),
        node("Squeeze", ["u", "one"], ["s"]),
        node("Relu", ["s"], ["y"]),
    ]
    model = model_of(nodes, {"one": np.array([1])}, {"x": ["batch", "sequence"]})
    assert _simplified(model, (2, 3), (1, 5)) == ["Relu"]


def test_two_become_one() -> None:
    nodes = [
        node("Reshape", ["x", "to"], ["r"]),
        node("Flatten", ["r"], ["f"], axis=1),
        node("Relu", ["f"], ["y"]),
    ]
    model = model_of(nodes, {"to": np.array([0, 2, 2, 4])}, {"x": ["batch", 4, 4]})
    assert _simplified(model, (2, 4, 4), (5, 4, 4)) == ["Reshape", "Relu"]


def test_one_that_is_an_output_keeps_its_name() -> None:
    nodes = [
        node("Unsqueeze", ["x", "axes"], ["u"]),
        node("Reshape", ["u", "to"], ["y"]),
    ]
    constants = {"axes": np.array([0, 2]), "to": np.array([-1, 2])}
    assert _simplified(model_of(nodes, constants, {"x": ["batch", 4]}), (3, 4)) == ["Reshape"]


def test_a_copied_dimension_is_not_taken_for_the_one_before() -> None:
    """The 0 of the second copies the 2 of the first, not the 3 that x has there."""
    nodes = [
        node("Reshape", ["x", "first"], ["r"]),
        node("Reshape", ["r", "second"], ["s"]),
        node("Relu", ["s"], ["y"]),
    ]
    constants = {"first": np.array([0, 2, 6]), "second": np.array([0, 0, -1, 3])}
    model = model_of(nodes, constants, {"x": ["batch", 3, 4]})
    assert _simplified(model, (2, 3, 4), (7, 3, 4)) == ["Reshape", "Relu"]


def test_two_unknown_dimensions_are_left_alone() -> None:
    nodes = [
        node("Unsqueeze", ["x", "one"], ["u"]),
        node("Unsqueeze", ["u", "one"], ["v"]),
        node("Relu", ["v"], ["y"]),
    ]
    model = model_of(nodes, {"one": np.array([1])}, {"x": ["batch", "height", "width"]})
    assert _simplified(model, (2, 3, 5)) == ["Unsqueeze", "Unsqueeze", "Relu"]


@pytest.mark.parametrize("outputs", [["y", "r"], ["y", "r2"]])
def test_a_shape_that_others_read_stays_for_them(outputs: list[str]) -> None:
    nodes = [
        node("Reshape", ["x", "flat"], ["r"]),
        node("Neg", ["r"], ["r2"]),
        node("Reshape", ["r", "to"], ["s"]),
        node("Relu", ["s"], ["y"]),
    ]
    constants = {"flat": np.array([-1]), "to": np.array([2, -1])}
    model = model_of(nodes, constants, {"x": ["batch", 4]}, outputs=outputs)
    assert _simplified(model, (3, 4)).count("Reshape") == 2


def test_heads_that_are_split_for_a_transpose_stay_as_engines_know_them() -> None:
    nodes = [
        node("Reshape", ["x", "rows"], ["r"]),
        node("Reshape", ["r", "heads"], ["h"]),
        node("Transpose", ["h"], ["y"], perm=[0, 2, 1, 3]),
    ]
    constants = {"rows": np.array([-1, 5, 8]), "heads": np.array([0, 0, 2, 4])}
    model = model_of(nodes, constants, {"x": ["rows", 8]})
    assert _simplified(model, (10, 8)) == ["Reshape", "Reshape", "Transpose"]


@st.composite
def _graphs(draw: st.DrawFn) -> ir.Model:
    """Up to seven reshapes of 24 numbers a sample, and what reads them."""
    shapes = st.sampled_from(
        [
            [-1, 24],
            [0, 24],
            [0, -1],
            [-1, 2, 12],
            [0, 4, 6],
            [0, 1, 24],
            [0, 3, -1, 2],
            [-1, 4, 1, 6],
        ]
    )
    nodes, constants, names = [], {"axis": np.array([1])}, ["x"]
    for index in range(draw(st.integers(1, 7))):
        source, name = draw(st.sampled_from(names[-2:])), f"t{index}"
        kind = draw(st.sampled_from(["Reshape", "Reshape", "Flatten", "Unsqueeze", "Relu"]))
        if kind == "Reshape":
            constants[f"to{index}"] = np.array(draw(shapes))
            nodes.append(node("Reshape", [source, f"to{index}"], [name]))
        elif kind == "Unsqueeze":
            nodes.append(node("Unsqueeze", [source, "axis"], [name]))
        else:
            nodes.append(node(kind, [source], [name]))
        names.append(name)
    outputs = draw(st.sets(st.sampled_from(names[1:]), max_size=2)) | {names[-1]}
    return model_of(nodes, constants, {"x": ["batch", 4, 6]}, outputs=sorted(outputs))


@settings(max_examples=50)
@given(model=_graphs())
def test_any_graph_of_reshapes_computes_the_same_with_no_more_of_them(model: ir.Model) -> None:
    kinds = {"Flatten", "Reshape", "Unsqueeze"}
    before = sum(one.op_type in kinds for one in model.graph)
    left = _simplified(model, (2, 4, 6), (3, 4, 6))
    assert sum(op in kinds for op in left) <= before
