"""What OpenVINO computes of a reduction whose result is quantized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from edgekit.exporters import ExportOptions
from edgekit.exporters.reductions import part_reductions

from edgekit import exporters, runtimes
from tests.compress.graphs import model_of, node, random, run, sqnr

LENGTH, WIDTH = 11, 48
FEEDS = {"x": random(0, 5, LENGTH, WIDTH)}
VECTOR = {"c": np.exp(random(1, WIDTH))}
CHAINS = {"nothing": [], "scaled": ["Mul"], "shifted": ["Add"], "both": ["Mul", "Add", "Relu"]}


def _quantized(op: str, chain: list[str], *, keepdims: int, opset: int = 20) -> ir.Model:
    """A reduction over the second axis, elementwise operators, and a quantized linear layer."""
    steps = np.clip(np.round(random(2, WIDTH, 16) / 0.03), -127, 127).astype(np.int8)
    constants = {
        **(VECTOR if chain else {}),
        "scale": np.array(0.1, np.float32), "zero": np.array(128, np.uint8),
        "steps": steps, "step": np.array(0.03, np.float32), "none": np.array(0, np.int8),
    }  # fmt: skip
    if opset < 18:
        nodes = [node(op, ["x"], ["r"], axes=[-2], keepdims=keepdims)]
    else:
        constants["axes"] = np.array([-2])
        nodes = [node(op, ["x", "axes"], ["r"], keepdims=keepdims)]
    value = "r"
    for place, one in enumerate(chain):
        nodes.append(node(one, [value, "c"] if one != "Relu" else [value], [f"v{place}"]))
        value = f"v{place}"
    nodes += [
        node("QuantizeLinear", [value, "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        node("DequantizeLinear", ["steps", "step", "none"], ["w"]),
        node("MatMul", ["d", "w"], ["y"]),
    ]
    return model_of(nodes, constants, {"x": ["b", LENGTH, WIDTH]}, opset=opset)


def _openvino(model: ir.Model, folder: Path) -> dict[str, np.ndarray]:
    ir.save(model, folder / "m.onnx")
    files = exporters.get("openvino").export(
        folder / "m.onnx", folder / "ir", ExportOptions(None, {})
    )
    with runtimes.require("openvino").load(files[0]) as session:
        return session.run(FEEDS)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2"])
def test_a_quantized_reduction_is_computed_as_onnx_runtime_does(
    tmp_path: Path, op: str, keepdims: int, chain: str
) -> None:
    model = _quantized(op, CHAINS[chain], keepdims=keepdims)
    assert sqnr(run(model, FEEDS), _openvino(model, tmp_path)) > 40.0


def test_axes_may_be_an_attribute_as_in_older_operator_sets(tmp_path: Path) -> None:
    model = _quantized("ReduceMax", ["Mul"], keepdims=0, opset=17)
    assert sqnr(run(model, FEEDS), _openvino(model, tmp_path)) > 40.0


def test_a_parted_reduction_computes_the_same() -> None:
    model = _quantized("ReduceMax", [], keepdims=1)
    wanted = run(model, FEEDS)
    assert part_reductions(model) == 1
    np.testing.assert_array_equal(run(model, FEEDS)["y"], wanted["y"])


def test_reductions_of_a_normalization_stay_as_openvino_knows_them() -> None:
    constants = {
        "axes": np.array([-1]), "scale": np.array(0.1, np.float32), "zero": np.array(128, np.uint8)
    }  # fmt: skip
    nodes = [
        node("ReduceMax", ["x", "axes"], ["m"], keepdims=1),
        node("Sub", ["x", "m"], ["n"]),
        node("QuantizeLinear", ["n", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    model = model_of(nodes, constants, {"x": ["b", LENGTH, WIDTH]})
    assert part_reductions(model) == 0
