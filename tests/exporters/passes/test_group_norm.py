from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgekit.exporters.passes.group_norm import norm_groups_as_instances
from onnx import TensorProto, helper, numpy_helper

from tests.compress.graphs import node, random, run

CHANNELS, GROUPS = 12, 4


def _model(*sizes: int | str, computed: bool = False, **attributes: float) -> ir.Model:
    constants = {"scale": random(1, CHANNELS), "bias": random(2, CHANNELS)}
    nodes = [node("Relu", ["x"], ["r"], name="relu")]
    if computed:
        nodes.append(node("Add", ["scale", "scale"], ["doubled"], name="add"))
    given = ["r", "doubled" if computed else "scale", "bias"]
    nodes.append(
        node("GroupNormalization", given, ["y"], name="norm", num_groups=GROUPS, **attributes)
    )
    # Written out, as onnx infers no type of a GroupNormalization.
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", CHANNELS, *sizes])
        for name in "xy"
    )
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    opsets = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, ir_version=10, opset_imports=opsets)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


@pytest.mark.parametrize(
    ("sizes", "given"),
    [((5, 7), (5, 7)), ((9,), (9,)), ((), ()), ((3, "w"), (3, 4)), (("h", "w"), (6, 2))],
)
def test_it_computes_the_same(sizes: tuple[int | str, ...], given: tuple[int, ...]) -> None:
    model = _model(*sizes, epsilon=1e-3)
    feeds = {"x": random(3, 2, CHANNELS, *given) * 3 + 1}
    wanted = run(model, feeds)["y"]
    assert norm_groups_as_instances(model.graph) == 1
    assert "GroupNormalization" not in {one.op_type for one in model.graph}
    np.testing.assert_allclose(run(model, feeds)["y"], wanted, atol=1e-5)


def test_a_shape_that_is_known_is_not_computed() -> None:
    model = _model(5, 7)
    norm_groups_as_instances(model.graph)
    assert "Shape" not in {one.op_type for one in model.graph}


def test_the_module_is_noted_on_every_operator() -> None:
    model = _model(5, 7)
    model.graph[1].metadata_props["edgekit.module"] = "norm (GroupNorm)"
    norm_groups_as_instances(model.graph)
    assert all("edgekit.module" in one.metadata_props for one in list(model.graph)[1:])


def test_a_computed_scale_is_left() -> None:
    model = _model(5, 7, computed=True)
    assert norm_groups_as_instances(model.graph) == 0
