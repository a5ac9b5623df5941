from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgekit.exporters.passes.proof import Proof, UnprovableError
from edgekit.exporters.passes.random_inputs import random_inputs
from onnx import TensorProto, helper
from onnx_ir.passes import common

from tests.compress.graphs import node, random


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[int | str | None]]],
    constants: dict[str, np.ndarray] | None = None,
) -> ir.Model:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in inputs.items()],
        [helper.make_empty_tensor_value_info("y")],
        [onnx.numpy_helper.from_array(a, name) for name, a in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 20)]
    return ir.from_proto(helper.make_model(made, ir_version=10, opset_imports=opsets))


def _lookup(entries: int) -> ir.Model:
    nodes = [
        node("Unsqueeze", ["ids", "axes"], ["u"]),
        node("Cast", ["u"], ["c"], to=TensorProto.INT32),
        node("Gather", ["table", "c"], ["y"]),
    ]
    constants = {"table": random(0, entries, 4), "axes": np.array([0])}
    return _model(nodes, {"ids": (TensorProto.INT64, ["batch", "sequence"])}, constants)


@pytest.mark.parametrize("entries", [1, 5, 30000])
def test_token_ids_stay_within_their_table_and_use_it(entries: int) -> None:
    (ids, *_) = (feeds["ids"] for feeds in random_inputs(_lookup(entries).graph))
    assert ids.shape == (2, 6)
    assert 0 <= ids.min() <= ids.max() < entries
    assert ids.max() > entries // 2 or entries == 1
    Proof(_lookup(entries))  # the engine takes them


def test_integers_that_index_nothing_are_a_mask() -> None:
    nodes = [node("Cast", ["mask"], ["y"], to=TensorProto.FLOAT)]
    model = _model(nodes, {"mask": (TensorProto.INT64, ["batch", "sequence"])})
    assert set(np.unique(next(random_inputs(model.graph))["mask"])) == {0, 1}


def test_bytes_are_pixels() -> None:
    nodes = [node("Cast", ["image"], ["y"], to=TensorProto.FLOAT)]
    model = _model(nodes, {"image": (TensorProto.UINT8, [1, 32, 32, 3])})
    image = next(random_inputs(model.graph))["image"]
    assert image.dtype == np.uint8
    assert (image.min(), image.max()) == (0, 255)


def test_one_name_has_one_size_and_a_sum_of_names_has_their_sum() -> None:
    kind = TensorProto.FLOAT
    shapes = {"a": (kind, ["b", "p"]), "c": (kind, ["b", "s"]), "d": (kind, ["b", "p + s"])}
    nodes = [node("Concat", ["a", "c"], ["e"], axis=1), node("Add", ["e", "d"], ["y"])]
    model = _model(nodes, shapes)
    feeds = next(random_inputs(model.graph))
    assert {name: x.shape for name, x in feeds.items()} == {"a": (2, 6), "c": (2, 7), "d": (2, 13)}
    Proof(model)


def test_fixed_shapes_are_tried_once() -> None:
    model = _model([node("Relu", ["x"], ["y"])], {"x": (TensorProto.FLOAT, [3, 4])})
    (feeds,) = random_inputs(model.graph)
    assert feeds["x"].shape == (3, 4)


def test_sizes_that_a_model_rejects_are_passed_over() -> None:
    """Two names for one size, which has to be at least 32."""
    kind = TensorProto.FLOAT
    nodes = [
        node("Add", ["a", "c"], ["s"]),
        node("MaxPool", ["s"], ["y"], kernel_shape=[32]),
    ]
    model = _model(nodes, {"a": (kind, ["n", 1, "left"]), "c": (kind, ["n", 1, "right"])})
    proof = Proof(model)
    assert proof.error(model) is None


def test_what_no_random_inputs_fit_is_said() -> None:
    texts = _model([node("Identity", ["x"], ["y"])], {"x": (TensorProto.STRING, ["n"])})
    with pytest.raises(UnprovableError, match="input 'x' is not numeric"):
        Proof(texts)
    nodes = [node("MaxPool", ["x"], ["y"], kernel_shape=[500])]
    small = _model(nodes, {"x": (TensorProto.FLOAT, ["n", 1, "w"])})
    with pytest.raises(UnprovableError, match="does not run on random inputs"):
        Proof(small)


def test_a_weight_that_is_listed_among_the_inputs_keeps_its_value() -> None:
    """As in files of before 2019."""
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    kind = TensorProto.FLOAT
    model = _model(nodes, {"x": (kind, ["n", 4]), "w": (kind, [4, 2])}, {"w": random(0, 4, 2)})
    assert list(next(random_inputs(model.graph))) == ["x"]
    removed = model.clone()
    common.RemoveInitializersFromInputsPass()(removed)
    assert Proof(model).error(removed) is None
