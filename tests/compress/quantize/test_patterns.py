from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgekit.compress.quantize.patterns import fused_outputs
from tests.compress.graphs import model_of, node, random

ALL = frozenset({"Relu", "Clip", "SiLU", "HardSwish"})


def _behind_conv(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> ir.Model:
    """Operators behind a convolution that gives ``c``."""
    constants = {"w": random(0, 3, 3, 1, 1), "zero": np.float32(0), "six": np.float32(6)}
    return model_of(
        [node("Conv", ["x", "w"], ["c"]), *nodes], constants, {"x": ["n", 3, 4, 4]}, outputs
    )


def _followed(model: ir.Model, fused: frozenset[str] = ALL) -> list[str]:
    conv = next(one for one in model.graph if one.op_type == "Conv")
    return [str(value.name) for value in fused_outputs(conv, fused)]


SIGMOID, HARD = node("Sigmoid", ["c"], ["g"]), node("HardSigmoid", ["c"], ["g"])
RELU = node("Relu", ["c"], ["p"])
GATE = node("Mul", ["c", "g"], ["p"])
END = node("Neg", ["p"], ["y"])


def test_a_chain_of_activations_is_followed_to_its_end() -> None:
    model = _behind_conv(
        node("Relu", ["c"], ["r"]),
        node("Clip", ["r", "zero", "six"], ["p"]),
        END,
    )
    assert _followed(model) == ["c", "r", "p"]


@pytest.mark.parametrize(("gate", "name"), [(SIGMOID, "SiLU"), (HARD, "HardSwish")])
@pytest.mark.parametrize("order", [["c", "g"], ["g", "c"]])
def test_a_value_times_its_gate_is_one_activation(
    gate: onnx.NodeProto, name: str, order: list[str]
) -> None:
    model = _behind_conv(gate, node("Mul", order, ["p"]), END)
    assert _followed(model) == ["c", "p"]
    assert _followed(model, ALL - {name}) == ["c"]


@pytest.mark.parametrize(
    "model",
    [
        _behind_conv(RELU, node("Abs", ["c"], ["z"]), END, outputs=("y", "z")),
        _behind_conv(RELU, END, outputs=("y", "c")),
        _behind_conv(SIGMOID, GATE, END, node("Abs", ["g"], ["z"]), outputs=("y", "z")),
        _behind_conv(SIGMOID, GATE, END, outputs=("y", "g")),
        _behind_conv(SIGMOID, GATE, END, node("Abs", ["c"], ["z"]), outputs=("y", "z")),
        _behind_conv(SIGMOID, node("Add", ["c", "g"], ["p"]), END),
        _behind_conv(
            SIGMOID, node("Abs", ["c"], ["a"]), node("Mul", ["a", "g"], ["p"]), END
        ),
        _behind_conv(node("Sigmoid", ["x"], ["g"]), GATE, END),
    ],
    ids=[
        "two readers", "output", "gate read elsewhere", "gate is an output", "third reader",
        "sum", "product of something else", "gate of something else",
    ],
)  # fmt: skip
def test_nothing_is_followed_past_what_the_engine_cannot_fuse(model: ir.Model) -> None:
    assert _followed(model) == ["c"]


def test_the_end_of_a_chain_may_be_an_output() -> None:
    model = _behind_conv(node("Relu", ["c"], ["r"]), node("Relu", ["r"], ["y"]))
    assert _followed(model) == ["c", "r", "y"]
