from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.compress.quantize.ptq import Int8Ptq
from edgekit.compress.quantize.switchable import SWITCHES
from edgekit.spec import Feeds
from tests.compress.graphs import context, model_of, node, random, run, sqnr
from tests.conftest import batches

UNSEEN = next(batches(1, seed=7))
SETTINGS = [{}, {"weights": "mse"}, {"rounding": "adaround"}]


def _switchable(
    model: ir.Model, engine: str, data: list[Feeds], **settings: str
) -> tuple[ir.Model, list[str]]:
    changed = model.clone()
    step = Int8Ptq(type="int8-ptq", observer="min-max", **settings)
    return changed, step.make_switchable(changed, context(data, engine))


def _run(model: ir.Model, feeds: Feeds, switches: list[bool]) -> dict[str, np.ndarray]:
    return run(model, {**feeds, SWITCHES: np.array(switches)})


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "tensorrt-rtx"])
def test_all_switches_off_is_the_float_model(graph: ir.Model, engine: str) -> None:
    model, names = _switchable(graph, engine, list(batches()))
    assert len(names) == 4
    # ONNX Runtime fuses fewer operators, which may change the last bit
    assert sqnr(run(graph, UNSEEN), _run(model, UNSEEN, [False] * 4)) > 120.0


@pytest.mark.parametrize("settings", SETTINGS, ids=["max", "mse", "adaround"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "tensorrt-rtx"])
def test_all_switches_on_is_the_quantized_model(
    graph: ir.Model, engine: str, settings: dict[str, str]
) -> None:
    model, names = _switchable(graph, engine, list(batches()), **settings)
    quantized = graph.clone()
    Int8Ptq(type="int8-ptq", observer="min-max", **settings).apply(
        quantized, context(list(batches()), engine)
    )
    wanted = run(graph, UNSEEN)
    real, simulated = run(quantized, UNSEEN), _run(model, UNSEEN, [True] * len(names))
    assert sqnr(real, simulated) > sqnr(wanted, real) + 6.0


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_each_switch_alone_is_the_model_with_only_that_operator_quantized(
    graph: ir.Model, engine: str
) -> None:
    data = list(batches())
    model, names = _switchable(graph, engine, data)
    wanted = run(graph, UNSEEN)
    for index, name in enumerate(names):
        got = _run(model, UNSEEN, [i == index for i in range(len(names))])
        assert sqnr(wanted, got) < 80, f"{name} has no effect"
        one = graph.clone()
        others = set(names) - {name}
        if (
            Int8Ptq(type="int8-ptq", observer="min-max")
            .apply(one, context(data, engine, keep_float=others))
            .changed
        ):  # an Add joins only quantized tensors
            real = run(one, UNSEEN)
            assert sqnr(real, got) > sqnr(wanted, real) + 6.0


def _concat() -> ir.Model:
    """Two branches of very different range that one Concat joins with one scale."""
    nodes = [
        node("Conv", ["x", "w0"], ["a"]),
        node("Conv", ["x", "w1"], ["b"]),
        node("Concat", ["a", "b"], ["c"], axis=1),
        node("MaxPool", ["c"], ["m"], kernel_shape=[2, 2]),
        node("Conv", ["m", "w2"], ["y"]),
    ]
    constants = {
        "w0": random(1, 4, 3, 1, 1), "w1": 20 * random(2, 4, 3, 1, 1), "w2": random(3, 5, 8, 1, 1),
    }  # fmt: skip
    constants["w2"][:, 4:] /= 20
    return model_of(nodes, constants, {"x": ["n", 3, 16, 16]})


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_shared_scales_are_shared_in_the_simulation_too(engine: str) -> None:
    model = _concat()
    data = [{"x": feeds["image"]} for feeds in batches()]
    unseen = {"x": UNSEEN["image"]}
    simulated, names = _switchable(model, engine, data)
    quantized = model.clone()
    Int8Ptq(type="int8-ptq", observer="min-max").apply(quantized, context(data, engine))
    wanted, real = run(model, unseen), run(quantized, unseen)
    got = _run(simulated, unseen, [True] * len(names))
    assert sqnr(real, got) > sqnr(wanted, real) + 6.0


def test_a_quantized_graph_output_is_switched_too() -> None:
    model = model_of(
        [node("Conv", ["x", "w"], ["y"])], {"w": random(1, 4, 3, 1, 1)}, {"x": ["n", 3, 16, 16]}
    )
    data = [{"x": feeds["image"]} for feeds in batches()]
    unseen = {"x": UNSEEN["image"]}
    simulated, _ = _switchable(model, "onnxruntime", data)
    quantized = model.clone()
    Int8Ptq(type="int8-ptq", observer="min-max").apply(quantized, context(data))
    wanted, real = run(model, unseen), run(quantized, unseen)
    assert sqnr(real, _run(simulated, unseen, [True])) > sqnr(wanted, real) + 6.0
    assert sqnr(wanted, _run(simulated, unseen, [False])) > 120.0


def test_a_large_bias_on_tiny_weights_is_simulated() -> None:
    weight, bias = random(1, 4, 3, 1, 1), np.array([0.1, 50.0, -0.2, 0.3], np.float32)
    weight[1] *= 1e-9
    nodes = [node("Conv", ["x", "w", "b"], ["c"]), node("Relu", ["c"], ["y"])]
    model = model_of(nodes, {"w": weight, "b": bias}, {"x": ["n", 3, 16, 16]})
    data = [{"x": feeds["image"]} for feeds in batches()]
    simulated, _ = _switchable(model, "onnxruntime", data)
    wanted = run(model, data[0])
    assert sqnr(wanted, _run(simulated, data[0], [True])) > 25.0
