from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from edgekit.exporters.passes.transposes import simplify_transposes
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compress.graphs import model_of, node, random, run


def _operators(model: ir.Model) -> list[str]:
    return [one.op_type for one in model.graph]


def _simplified(model: ir.Model, *shapes: tuple[int, ...]) -> list[str]:
    """The operators that are left, when they compute the same."""
    names = [str(value.name) for value in model.graph.inputs]
    feeds = {name: random(seed, *shapes[seed]) for seed, name in enumerate(names)}
    wanted = run(model, feeds)
    simplify_transposes(model.graph)
    got = run(model, feeds)
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(got[name], array)
    return _operators(model)


def test_pairs_that_cancel_and_identities_vanish() -> None:
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]),
        node("Transpose", ["a"], ["b"], perm=[0, 3, 1, 2]),
        node("Transpose", ["b"], ["c"], perm=[0, 1, 2, 3]),
        node("Relu", ["c"], ["y"]),
    ]
    assert _simplified(model_of(nodes, {}, {"x": ["n", 2, 3, 4]}), (5, 2, 3, 4)) == ["Relu"]


def test_two_are_joined_also_with_the_order_left_out() -> None:
    nodes = [
        node("Transpose", ["x"], ["a"]),
        node("Transpose", ["a"], ["y"], perm=[1, 0, 2]),
    ]
    model = model_of(nodes, {}, {"x": ["n", 3, 4]})
    assert _simplified(model, (2, 3, 4)) == ["Transpose"]
    assert model.graph.outputs[0].name == "y"


@pytest.mark.parametrize("constant", [(), (1,), (4,), (3, 1), (2, 3, 4), (1, 1, 1, 4)])
def test_channels_last_around_activations_vanishes(constant: tuple[int, ...]) -> None:
    """Constants that are broadcast are moved along."""
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]),
        node("Mul", ["k", "a"], ["b"]),
        node("Clip", ["b", "zero"], ["c"]),
        node("Transpose", ["c"], ["d"], perm=[0, 3, 1, 2]),
        node("Neg", ["d"], ["y"]),
    ]
    constants = {"k": random(0, *constant), "zero": np.float32(0)}
    model = model_of(nodes, constants, {"x": ["n", 4, 2, 3]})
    assert _simplified(model, (5, 4, 2, 3)) == ["Mul", "Clip", "Neg"]


def test_channels_last_around_residual_sums_vanishes() -> None:
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]),
        node("Transpose", ["a"], ["b"], perm=[0, 3, 1, 2]),
        node("MaxPool", ["b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Transpose", ["c"], ["d"], perm=[0, 2, 3, 1]),
        node("Add", ["d", "bias"], ["e"]),
        node("Relu", ["e"], ["f"]),
        node("Add", ["f", "a"], ["g"]),
        node("Transpose", ["g"], ["y"], perm=[0, 3, 1, 2]),
    ]
    model = model_of(nodes, {"bias": random(0, 4)}, {"x": ["n", 4, 5, 6]})
    assert _simplified(model, (2, 4, 5, 6)) == ["MaxPool", "Add", "Relu", "Add"]
    assert model.graph.outputs[0].name == "y"


def test_a_transpose_does_not_move_behind_what_makes_its_tensor_larger() -> None:
    nodes = [node("Transpose", ["x"], ["a"], perm=[1, 0]), node("Add", ["a", "wide"], ["y"])]
    model = model_of(nodes, {"wide": random(0, 3, 9)}, {"x": [1, 3]})
    assert _simplified(model, (1, 3)) == ["Transpose", "Add"]


def test_a_sum_of_transposed_tensors_is_transposed_once() -> None:
    nodes = [
        node("Transpose", ["p"], ["a"], perm=[0, 2, 1]),
        node("Transpose", ["q"], ["b"], perm=[0, 2, 1]),
        node("Add", ["a", "b"], ["y"]),
    ]
    model = model_of(nodes, {}, {"p": ["n", 3, 4], "q": ["n", 3, 1]})
    assert _simplified(model, (2, 3, 4), (2, 3, 1)) == ["Add", "Transpose"]


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Transpose", ["x"], ["a"], perm=[1, 0, 2]), node("Softmax", ["a"], ["y"])],
        [node("Transpose", ["x"], ["a"], perm=[1, 0, 2]), node("Relu", ["a"], ["y"])],
        [node("Transpose", ["x"], ["a"], perm=[1, 0, 2]), node("Add", ["a", "x"], ["y"])],
        [node("Transpose", ["x"], ["y"], perm=[0, 1, 2])],
    ],
    ids=["not elementwise", "nothing undoes it", "another operand", "an output"],
)
def test_a_transpose_that_is_needed_stays(nodes: list) -> None:
    model = model_of(nodes, {}, {"x": [3, 3, 3]})
    assert "Transpose" in _simplified(model, (3, 3, 3))


def test_a_transpose_that_others_read_stays_for_them() -> None:
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[1, 0]),
        node("Transpose", ["a"], ["y"], perm=[1, 0]),
    ]
    model = model_of(nodes, {}, {"x": ["n", 3]}, outputs=["a", "y"])
    simplify_transposes(model.graph)
    x = random(0, 2, 3)
    got = run(model, {"x": x})
    np.testing.assert_array_equal(got["a"], x.T)
    np.testing.assert_array_equal(got["y"], x)


@st.composite
def _graphs(draw: st.DrawFn) -> ir.Model:
    """Up to eight transposes, activations and sums of tensors of three axes, some read twice."""
    nodes, shapes = [], {"x": (2, 3, 4)}
    constants = {"scale": random(9, 4), "row": random(8, 3, 1)}
    for index in range(draw(st.integers(1, 8))):
        source = draw(st.sampled_from(sorted(shapes)))
        shape, name = shapes[source], f"t{index}"
        kind = draw(st.sampled_from(["Transpose", "Relu", "Mul", "Add", "Transpose"]))
        if kind == "Transpose":
            perm = draw(st.permutations(range(3)))
            nodes.append(node("Transpose", [source], [name], perm=perm))
            shapes[name] = tuple(shape[axis] for axis in perm)
        elif kind == "Add":
            other = draw(st.sampled_from(sorted(n for n, s in shapes.items() if s == shape)))
            nodes.append(node("Add", [source, other], [name]))
            shapes[name] = shape
        else:
            fits = [n for n, size in (("scale", 4),) if shape[2] == size] if kind == "Mul" else []
            nodes.append(
                node("Mul", [source, *fits], [name]) if fits else node("Relu", [source], [name])
            )
            shapes[name] = shape
    outputs = draw(st.sets(st.sampled_from(sorted(shapes.keys() - {"x"})), min_size=1, max_size=2))
    return model_of(
        nodes, constants, {"x": [2, 3, 4]}, outputs=sorted({*outputs, nodes[-1].output[0]})
    )


@settings(max_examples=50)
@given(model=_graphs())
def test_any_graph_of_transposes_computes_the_same_with_no_more_of_them(model: ir.Model) -> None:
    before = _operators(model).count("Transpose")
    assert _simplified(model, (2, 3, 4)).count("Transpose") <= before
