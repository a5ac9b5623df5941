from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgekit.compress.base import PassReport
from edgekit.compress.quantize.equalization import CrossLayerEqualization
from tests.compress.graphs import context, model_of, node, random, run, sqnr

UNSEEN = {"x": random(9, 2, 4, 9, 9)}


def _uneven(seed: int, *shape: int) -> np.ndarray:
    """A kernel whose output channels differ by orders of magnitude."""
    return random(seed, *shape) * np.logspace(-2, 1, shape[0]).reshape(-1, 1, 1, 1).astype("f4")


def _pair(
    *between: onnx.NodeProto,
    second: tuple[int, ...] = (5, 8, 3, 3),
    group: int = 1,
    outputs: tuple[str, ...] = ("y",),
) -> ir.Model:
    """Two convolutions, ``c`` between them after the first, ``d`` before the second."""
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c"], pads=[1, 1, 1, 1], name="first"),
        *between,
        node(
            "Conv", ["d" if between else "c", "w2", "b2"], ["y"], group=group, pads=[1] * 4,
            name="second",
        ),
    ]  # fmt: skip
    constants = {
        "w1": _uneven(1, 8, 4, 3, 3), "b1": random(2, 8),
        "w2": random(3, *second), "b2": random(4, second[0]),
    }  # fmt: skip
    return model_of(nodes, constants, {"x": ["b", 4, 9, 9]}, outputs)


def _apply(model: ir.Model, rounds: int = 3) -> PassReport:
    return CrossLayerEqualization(type="equalize", rounds=rounds).apply(model, context([]))


def _weight(model: ir.Model, name: str) -> np.ndarray:
    found = next(one for one in model.graph if one.name == name)
    return found.inputs[1].const_value.numpy()


RELU = node("Relu", ["c"], ["d"])
LEAKY = node("LeakyRelu", ["c"], ["d"], alpha=0.2)


@pytest.mark.parametrize("between", [(), (RELU,), (LEAKY,)], ids=["nothing", "relu", "leaky"])
@pytest.mark.parametrize(
    ("second", "group"), [((5, 8, 3, 3), 1), ((8, 1, 3, 3), 8)], ids=["full", "depthwise"]
)
def test_the_function_is_preserved(
    between: tuple[onnx.NodeProto, ...], second: tuple[int, ...], group: int
) -> None:
    model = _pair(*between, second=second, group=group)
    wanted = run(model, UNSEEN)
    assert _apply(model).changed == 2
    assert sqnr(wanted, run(model, UNSEEN)) > 80.0


def test_both_weights_have_the_same_range_in_every_channel_afterwards() -> None:
    model = _pair(RELU)
    before = np.abs(_weight(model, "first")).reshape(8, -1).max(axis=1)
    _apply(model)
    above = np.abs(_weight(model, "first")).reshape(8, -1).max(axis=1)
    below = np.abs(np.moveaxis(_weight(model, "second"), 1, 0)).reshape(8, -1).max(axis=1)
    np.testing.assert_allclose(above, below, rtol=1e-4)
    assert above.max() / above.min() < before.max() / before.min() / 10


def test_a_chain_through_a_depthwise_convolution_is_preserved() -> None:
    nodes = [
        node("Conv", ["x", "w1"], ["c1"]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], group=8, pads=[1] * 4),
        node("Relu", ["c2"], ["r2"]),
        node("Conv", ["r2", "w3"], ["y"]),
    ]
    constants = {
        "w1": _uneven(1, 8, 4, 1, 1), "w2": _uneven(2, 8, 1, 3, 3), "w3": random(3, 5, 8, 1, 1),
    }  # fmt: skip
    model = model_of(nodes, constants, {"x": ["b", 4, 9, 9]})
    wanted = run(model, UNSEEN)
    report = _apply(model)
    assert sqnr(wanted, run(model, UNSEEN)) > 80.0
    assert (report.changed, report.total) == (3, 3)


def test_two_layers_with_one_weight_are_scaled_apart() -> None:
    nodes = [node("Conv", ["x" if i == 0 else f"c{i - 1}", "w"], [f"c{i}"]) for i in range(3)]
    model = model_of(nodes, {"w": _uneven(1, 4, 4, 1, 1)}, {"x": ["b", 4, 9, 9]}, ["c2"])
    wanted = run(model, UNSEEN)
    _apply(model)
    assert sqnr(wanted, run(model, UNSEEN)) > 80.0


@pytest.mark.parametrize(
    "model",
    [
        _pair(node("Sigmoid", ["c"], ["d"])),
        _pair(RELU, outputs=("y", "c")),
        _pair(RELU, outputs=("y", "d")),
        _pair(RELU, node("Neg", ["c"], ["other"]), outputs=("y", "other")),
        _pair(RELU, node("Neg", ["d"], ["other"]), outputs=("y", "other")),
        _pair(node("Add", ["c", "c"], ["d"])),
        _pair(RELU, second=(8, 2, 3, 3), group=4),
        _pair(RELU, second=(16, 1, 3, 3), group=8),
    ],
    ids=[
        "sigmoid", "output", "activated output", "branch", "branch behind", "add", "grouped",
        "depthwise multiplier",
    ],
)  # fmt: skip
def test_a_pair_that_cannot_be_equalized_is_left_alone(model: ir.Model) -> None:
    weights = [_weight(model, name) for name in ("first", "second")]
    assert _apply(model).changed == 0
    for name, before in zip(("first", "second"), weights, strict=True):
        assert _weight(model, name) is before or np.array_equal(_weight(model, name), before)


def test_a_clip_between_is_not_crossed() -> None:
    nodes = [
        node("Conv", ["x", "w1"], ["c"], name="first"),
        node("Clip", ["c", "low", "high"], ["d"]),
        node("Conv", ["d", "w2"], ["y"], name="second"),
    ]
    constants = {
        "w1": _uneven(1, 8, 4, 1, 1), "w2": random(2, 5, 8, 1, 1),
        "low": np.float32(0), "high": np.float32(6),
    }  # fmt: skip
    assert _apply(model_of(nodes, constants, {"x": ["b", 4, 9, 9]})).changed == 0


def test_a_channel_of_zeros_keeps_its_scale() -> None:
    model = _pair(RELU)
    weight = _weight(model, "first").copy()
    weight[2] = 0
    model.graph.initializers["w1"].const_value = ir.tensor(weight, name="w1")
    wanted = run(model, UNSEEN)
    _apply(model)
    assert np.isfinite(_weight(model, "second")).all()
    assert sqnr(wanted, run(model, UNSEEN)) > 80.0
