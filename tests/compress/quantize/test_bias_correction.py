from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.compress.quantize.bias_correction import mean_shift
from edgekit.compress.quantize.ptq import Int8Ptq
from tests.compress.graphs import context, model_of, node, random, run

#: Data with a mean, as behind a ReLU: only then does a weight error move the mean of the output.
DATA = [{"x": np.abs(random(i, 16, 8, 6, 6)) + 0.5} for i in range(4)]
FLAT = [{"x": np.abs(random(i, 64, 8)) + 0.5} for i in range(4)]
LEAST, FEW = "x86-avx2", 63  # a coarse grid, so that there is something to correct


def _conv(*, group: int = 1) -> ir.Model:
    constants = {"w": random(1, 8, 8 // group, 1, 1), "b": random(2, 8)}
    nodes = [node("Conv", ["x", "w", "b"], ["y"], group=group)]
    return model_of(nodes, constants, {"x": ["n", 8, 6, 6]})


def _gemm() -> ir.Model:
    constants = {"w": random(1, 5, 8), "b": random(2, 5)}
    return model_of([node("Gemm", ["x", "w", "b"], ["y"], transB=1)], constants, {"x": ["n", 8]})


def _matmul() -> ir.Model:
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["y"])]
    return model_of(nodes, {"w": random(1, 8, 5), "b": random(2, 5)}, {"x": ["n", 8]})


def _quantized(
    model: ir.Model, data: list, engine: str, *, correct: bool
) -> tuple[ir.Model, tuple[str, ...]]:
    changed = model.clone()
    step = Int8Ptq(type="int8-ptq", observer="min-max", bias_correction=correct)
    return changed, step.apply(changed, context(data, engine, target=LEAST)).details


def _mean_error(model: ir.Model, quantized: ir.Model, data: list) -> float:
    """The largest error of the mean of an output channel, over what was calibrated on."""
    wanted, got = (
        np.concatenate([run(m, feeds)["y"] for feeds in data]) for m in (model, quantized)
    )
    axes = tuple(axis for axis in range(wanted.ndim) if axis != 1)
    return float(np.abs((wanted - got).mean(axis=axes, dtype=np.float64)).max())


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"], ids=["int32 bias", "float bias"])
@pytest.mark.parametrize(
    ("model", "data"),
    [(_conv(), DATA), (_conv(group=4), DATA), (_gemm(), FLAT), (_matmul(), FLAT)],
    ids=["conv", "grouped conv", "gemm", "matmul and add"],
)
def test_the_mean_of_the_output_is_nearer_to_the_float_one(
    engine: str, model: ir.Model, data: list
) -> None:
    plain, nothing = _quantized(model, data, engine, correct=False)
    corrected, told = _quantized(model, data, engine, correct=True)
    assert not nothing
    assert told == ("1 biases corrected",)
    assert _mean_error(model, corrected, data) < 0.5 * _mean_error(model, plain, data)


def test_a_layer_without_a_bias_is_left_alone() -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])]
    model = model_of(nodes, {"w": random(1, 8, 8, 1, 1)}, {"x": ["n", 8, 6, 6]})
    assert _quantized(model, DATA, "openvino", correct=True)[1] == ()


def test_a_bias_that_two_layers_share_is_corrected_for_each() -> None:
    nodes = [node("Conv", ["x", f"w{i}", "b"], [f"y{i}"]) for i in range(2)]
    constants = {"w0": random(1, 8, 8, 1, 1), "w1": random(2, 8, 8, 1, 1), "b": random(3, 8)}
    model = model_of(nodes, constants, {"x": ["n", 8, 6, 6]}, ["y0", "y1"])
    for engine in ("onnxruntime", "openvino"):
        changed, told = _quantized(model, DATA, engine, correct=True)
        assert told == ("2 biases corrected",)
        for name in ("y0", "y1"):
            error = np.mean([
                run(model, feeds)[name] - run(changed, feeds)[name] for feeds in DATA
            ])  # fmt: skip
            assert abs(error) < 0.01


def test_a_tensor_that_is_empty_in_every_batch_stays_float() -> None:
    nodes = [
        node("Slice", ["x", "start", "end", "axis"], ["none"]),
        node("Gemm", ["none", "w", "b"], ["z"], transB=1, name="never"),
        node("Gemm", ["x", "w", "b"], ["y"], transB=1),
    ]
    constants = {
        "w": random(1, 5, 8), "b": random(2, 5), "start": np.array([0]), "end": np.array([0]),
        "axis": np.array([0]),
    }  # fmt: skip
    model = model_of(nodes, constants, {"x": ["n", 8]}, ["y", "z"])
    for rounding in ("nearest", "adaround"):
        changed = model.clone()
        step = Int8Ptq(type="int8-ptq", bias_correction=True, rounding=rounding)
        assert step.apply(changed, context(FLAT)).changed == 1
        assert run(changed, FLAT[0])["z"].shape == (0, 5)


@pytest.mark.parametrize(
    ("attributes", "shape"),
    [({}, (4, 6, 3, 3)), ({"group": 2}, (4, 3, 3, 3)), ({"group": 6}, (6, 1, 2, 2))],
)
def test_the_shift_is_the_error_times_the_mean_of_every_tap(
    attributes: dict[str, int], shape: tuple[int, ...]
) -> None:
    group = attributes.get("group", 1)
    mean, error = random(1, 6).astype(np.float64), random(2, *shape)
    conv = ir.node("Conv", [], attributes)
    expected = [
        sum(
            mean[o // (shape[0] // group) * shape[1] + i] * float(error[o, i].sum())
            for i in range(shape[1])
        )
        for o in range(shape[0])
    ]
    np.testing.assert_allclose(mean_shift(error, mean, conv, 0), expected, rtol=1e-5)
