from __future__ import annotations

import numpy as np
import pytest
from edgekit.exporters.graph import MODULE
from edgekit.exporters.opset import opset_of, raise_opset

from edgekit.errors import ExportError
from tests.compress.graphs import model_of, node, random, run


def test_a_raised_graph_computes_the_same_and_knows_its_modules() -> None:
    nodes = [node("MatMul", ["x", "w"], ["p"], name="product"), node("Relu", ["p"], ["y"])]
    model = model_of(nodes, {"w": random(0, 4, 3)}, {"x": ["n", 4]}, opset=17)
    model.graph.node(0).metadata_props[MODULE] = "head (Linear)"
    feeds = {"x": random(1, 2, 4)}
    wanted = run(model, feeds)["y"]
    raise_opset(model, 20)
    assert opset_of(model.opset_imports) == 20
    assert model.graph.node(0).metadata_props[MODULE] == "head (Linear)"
    np.testing.assert_array_equal(run(model, feeds)["y"], wanted)


def test_a_graph_that_is_newer_is_left_alone() -> None:
    model = model_of([node("Relu", ["x"], ["y"])], {}, {"x": ["n"]}, opset=20)
    first = model.graph.node(0)
    raise_opset(model, 18)
    assert model.graph.node(0) is first
    assert opset_of(model.opset_imports) == 20


def test_what_cannot_be_converted_is_said() -> None:
    model = model_of([node("Relu", ["x"], ["y"])], {}, {"x": ["n"]}, opset=17)
    with pytest.raises(ExportError, match="cannot be converted to opset 999"):
        raise_opset(model, 999)


def test_both_names_of_the_standard_domain_count() -> None:
    assert opset_of({"": 18}) == opset_of({"ai.onnx": 18}) == 18
    assert opset_of({"com.microsoft": 1}) == 0
