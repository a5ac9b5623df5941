from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.compress.quantize.ptq import Int8Ptq
from edgekit.compress.quantize.smooth_quant import SmoothQuant
from tests.compress.graphs import context, model_of, node, random, run, sqnr

WIDTH = 32


def _outliers(seed: int, *shape: int) -> np.ndarray:
    """Data of which two channels are much larger than the rest, as in a transformer."""
    data = random(seed, *shape)
    data[..., 3] *= 60
    data[..., 17] *= 40
    return data


DATA = [{"x": _outliers(i, 4, 6, WIDTH)} for i in range(4)]
UNSEEN = {"x": _outliers(9, 4, 6, WIDTH)}


def _linear(op: str) -> ir.Model:
    weight = random(1, WIDTH, 16)
    if op == "MatMul":
        return model_of([node("MatMul", ["x", "w"], ["y"])], {"w": weight}, {"x": ["b", 6, WIDTH]})
    nodes = [
        node("Reshape", ["x", "flat"], ["r"]),
        node("Gemm", ["r", "w", "c"], ["y"], transB=int(op == "Gemm transposed")),
    ]
    constants = {
        "w": weight.T.copy() if op == "Gemm transposed" else weight,
        "c": random(2, 16),
        "flat": np.array([-1, WIDTH]),
    }
    return model_of(nodes, constants, {"x": ["b", 6, WIDTH]})


def _normalized(*, also_read: bool = False, bias: bool = True) -> ir.Model:
    """LayerNormalization with outlier channels in its scale, and two linear layers behind it."""
    scale = np.ones(WIDTH, np.float32)
    scale[[3, 17]] = (60, 40)
    nodes = [
        node("LayerNormalization", ["x", "scale", *["shift"] * bias], ["n"], name="norm"),
        node("MatMul", ["n", "q"], ["queries"]),
        node("MatMul", ["n", "k"], ["keys"]),
    ]
    outputs = ["queries", "keys"]
    if also_read:
        nodes.append(node("Add", ["n", "x"], ["sum"]))
        outputs.append("sum")
    constants = {"scale": scale, "q": random(1, WIDTH, 16), "k": random(2, WIDTH, 24)}
    if bias:
        constants["shift"] = random(3, WIDTH)
    return model_of(nodes, constants, {"x": ["b", 6, WIDTH]}, outputs)


def _ops(model: ir.Model) -> list[str]:
    return [one.op_type for one in model.graph]


def _smooth(model: ir.Model, **settings: object) -> ir.Model:
    changed = model.clone()
    report = SmoothQuant(type="smooth-quant", **settings).apply(changed, context(DATA))
    assert report.changed == report.total == 1
    assert "alpha" in report.details[0]
    return changed


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Gemm transposed"])
def test_the_float_model_computes_the_same(op: str) -> None:
    model = _linear(op)
    assert sqnr(run(model, UNSEEN), run(_smooth(model), UNSEEN)) > 80.0


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("also_read", [True, False])
def test_a_normalized_float_model_computes_the_same(*, also_read: bool, bias: bool) -> None:
    model = _normalized(also_read=also_read, bias=bias)
    assert sqnr(run(model, UNSEEN), run(_smooth(model), UNSEEN)) > 80.0


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_int8_error_falls_on_data_with_outlier_channels(engine: str) -> None:
    model = _linear("MatMul")
    smooth = _smooth(model)
    wanted = run(model, UNSEEN)
    for graph in (model, smooth):
        Int8Ptq(type="int8-ptq", observer="min-max").apply(graph, context(DATA, engine))
    gain = sqnr(wanted, run(smooth, UNSEEN, engine)) - sqnr(wanted, run(model, UNSEEN, engine))
    assert gain > 6.0


def test_a_normalization_that_only_linear_layers_read_absorbs_the_factor() -> None:
    assert _ops(_smooth(_normalized())) == ["LayerNormalization", "MatMul", "MatMul"]


def test_a_factor_is_inserted_once_where_something_else_reads_the_tensor() -> None:
    ops = _ops(_smooth(_normalized(also_read=True)))
    assert sorted(ops) == ["Add", "LayerNormalization", "MatMul", "MatMul", "Mul"]
    assert sorted(_ops(_smooth(_linear("MatMul")))) == ["MatMul", "Mul"]


def test_a_normalization_that_leaves_the_graph_is_not_changed() -> None:
    model = _normalized()
    norm = next(one for one in model.graph if one.op_type == "LayerNormalization")
    model.graph.outputs.append(norm.outputs[0])
    smooth = _smooth(model)
    assert "Mul" in _ops(smooth)
    assert sqnr(run(model, UNSEEN), run(smooth, UNSEEN)) > 80.0


def test_normalizations_that_share_their_constants_are_scaled_apart() -> None:
    constants = {"scale": np.ones(WIDTH, np.float32), "shift": np.zeros(WIDTH, np.float32)}
    nodes = []
    for index, (source, large) in enumerate((("x", 3), ("m0", 11))):
        weight = random(index, WIDTH, WIDTH)
        weight[large] /= 100  # small rows of weights: room to take over the outliers
        weight[large + 1] *= 10
        constants[f"w{index}"] = weight
        nodes += [
            node("LayerNormalization", [source, "scale", "shift"], [f"n{index}"]),
            node("MatMul", [f"n{index}", f"w{index}"], [f"m{index}"]),
        ]
    model = model_of(nodes, constants, {"x": ["b", 6, WIDTH]}, ["m1"])
    smooth = model.clone()
    SmoothQuant(type="smooth-quant", least_gain=0.0).apply(smooth, context(DATA))
    assert "Mul" not in _ops(smooth)
    assert sqnr(run(model, UNSEEN), run(smooth, UNSEEN)) > 80.0


def test_a_layer_that_gains_nothing_is_left_alone() -> None:
    model = _linear("MatMul")
    even = [{"x": random(i, 4, 6, WIDTH)} for i in range(4)]
    report = SmoothQuant(type="smooth-quant", least_gain=2.0).apply(model, context(even))
    assert report.changed == 0
    assert _ops(model) == ["MatMul"]


def test_channels_that_are_always_zero_do_no_harm() -> None:
    model = _linear("MatMul")
    silent = [{"x": feeds["x"].copy()} for feeds in DATA]
    for feeds in silent:
        feeds["x"][..., 5] = 0
    smooth = model.clone()
    SmoothQuant(type="smooth-quant").apply(smooth, context(silent))
    assert sqnr(run(model, UNSEEN), run(smooth, UNSEEN)) > 80.0


def test_data_of_zeros_changes_nothing() -> None:
    model = _linear("MatMul")
    zeros = [{"x": np.zeros((2, 6, WIDTH), np.float32)}]
    assert SmoothQuant(type="smooth-quant").apply(model, context(zeros)).changed == 0


ATTENDED = [{"x": random(i, 4, 6, WIDTH), "scores": random(20 + i, 4, 4, 6, 6)} for i in range(4)]
LATER = {"x": random(9, 3, 6, WIDTH), "scores": random(29, 3, 4, 6, 6)}


def _attention(*outputs: str) -> ir.Model:
    """Attention over values with outlier channels, and the linear layer that reads its result."""
    values, bias, weight = random(1, WIDTH, WIDTH), random(2, WIDTH), random(3, WIDTH, 16)
    for channel, size in ((3, 60), (17, 40)):
        values[:, channel] *= size
        bias[channel] *= size
        weight[channel] /= size
    nodes = [
        node("MatMul", ["x", "wv"], ["v"], name="values"),
        node("Add", ["v", "bv"], ["vb"]),
        node("Reshape", ["vb", "heads"], ["vh"]),
        node("Transpose", ["vh"], ["vt"], perm=[0, 2, 1, 3]),
        node("Softmax", ["scores"], ["p"]),
        node("MatMul", ["p", "vt"], ["a"]),
        node("Transpose", ["a"], ["at"], perm=[0, 2, 1, 3]),
        node("Reshape", ["at", "joined"], ["j"]),
        node("MatMul", ["j", "w"], ["y"], name="out"),
    ]
    constants = {
        "wv": values,
        "bv": bias,
        "w": weight,
        "heads": np.array([0, 6, 4, WIDTH // 4]),
        "joined": np.array([0, 6, WIDTH]),
    }
    inputs = {"x": ["b", 6, WIDTH], "scores": ["b", 4, 6, 6]}
    return model_of(nodes, constants, inputs, ["y", *outputs])


def test_attended_values_are_scaled_behind_attention() -> None:
    model = _attention()
    wanted = run(model, LATER)["y"]
    smooth = model.clone()
    report = SmoothQuant(type="smooth-quant").apply(smooth, context(ATTENDED))
    assert [detail.partition(":")[0] for detail in report.details] == ["out"]
    assert sorted(_ops(smooth)) == sorted([*_ops(model), "Mul"])
    largest = np.abs(wanted).max()
    np.testing.assert_allclose(run(smooth, LATER)["y"], wanted, rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_attended_values_with_outliers_lose_less(engine: str) -> None:
    model = _attention()
    smooth = model.clone()
    SmoothQuant(type="smooth-quant").apply(smooth, context(ATTENDED))
    wanted = run(model, LATER)
    for graph in (model, smooth):
        Int8Ptq(type="int8-ptq", observer="min-max").apply(graph, context(ATTENDED, engine))
    assert sqnr(wanted, run(smooth, LATER, engine)) > sqnr(wanted, run(model, LATER, engine)) + 3.0


@pytest.mark.parametrize("leaves", ["v", "vb", "vh", "vt", "a", "at", "j"])
def test_what_leaves_the_graph_between_values_and_layer_is_not_scaled(leaves: str) -> None:
    model = _attention(leaves)
    wanted = run(model, LATER)
    smooth = model.clone()
    SmoothQuant(type="smooth-quant").apply(smooth, context(ATTENDED))
    got = run(smooth, LATER)
    for name, value in wanted.items():
        largest = np.abs(value).max()
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5 * largest)


def test_channels_that_were_steps_before_attention_are_scaled_behind_it() -> None:
    nodes = [
        node("MatMul", ["x", "wv"], ["v"]),
        node("Add", ["v", "bv"], ["vb"]),
        node("Transpose", ["vb"], ["turned"], perm=[0, 2, 1]),
        node("Reshape", ["turned", "heads"], ["vh"]),
        node("Transpose", ["vh"], ["vt"], perm=[0, 2, 1, 3]),
        node("Softmax", ["scores"], ["p"]),
        node("MatMul", ["p", "vt"], ["a"]),
        node("Transpose", ["a"], ["at"], perm=[0, 2, 1, 3]),
        node("Reshape", ["at", "joined"], ["j"]),
        node("MatMul", ["j", "w"], ["y"]),
    ]
    constants = {
        "wv": random(1, WIDTH, WIDTH),
        "bv": random(2, WIDTH),
        "w": random(3, WIDTH, 16),
        "heads": np.array([0, WIDTH, 4, WIDTH // 4]),
        "joined": np.array([0, WIDTH, WIDTH]),
    }
    inputs = {"x": ["b", WIDTH, WIDTH], "scores": ["b", 4, WIDTH, WIDTH]}
    model = model_of(nodes, constants, inputs)
    data = []
    for seed in range(4):
        x = random(seed, 2, WIDTH, WIDTH)
        x[:, 3] *= 60  # one step is large
        data.append({"x": x, "scores": random(20 + seed, 2, 4, WIDTH, WIDTH)})
    wanted = run(model, data[0])
    SmoothQuant(type="smooth-quant", least_gain=0.0).apply(model, context(data))
    assert sqnr(wanted, run(model, data[0])) > 80.0
