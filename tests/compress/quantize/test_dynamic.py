from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from edgekit.calibration import Calibrator
from edgekit.exporters import ExportOptions
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.torch_onnx import export_onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit import exporters, runtimes
from edgekit.compress.base import GraphContext
from edgekit.compress.quantize.arithmetic import quantize_weight, weight_scale
from edgekit.compress.quantize.dynamic import DynamicInt8
from edgekit.compress.quantize.profiles import PROFILES
from edgekit.errors import CompressError
from edgekit.fidelity import FidelityMeter
from edgekit.numerics import parse_target
from edgekit.spec import Array
from edgekit.verify import gate
from tests.compress.graphs import HERE
from tests.compress.quantize.weight_only.conftest import linear_model

ENGINES = ("onnxruntime", "openvino")
STEP = DynamicInt8(type="dynamic-int8")


def _context(engine: str = "onnxruntime", target: str = HERE.name) -> GraphContext:
    unused = Calibrator(lambda: iter(()))
    return GraphContext(PROFILES[engine], (PROFILES[engine],), unused, parse_target(target))


def _optimized(path: Path) -> list[str]:
    """Operators that ONNX Runtime really runs."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path.with_suffix(".optimized.onnx"))
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [n.op_type for n in ir.load(path.with_suffix(".optimized.onnx")).graph]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    inputs=st.integers(1, 100),
    outputs=st.integers(1, 40),
    op=st.sampled_from(["MatMul", "Gemm"]),
    biased=st.booleans(),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 99),
)
def test_onnxruntime_computes_what_the_formula_says(
    tmp_path: Path, inputs: int, outputs: int, op: str, biased: bool, scale: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((inputs, outputs)).astype(np.float32)
    bias = generator.standard_normal(outputs).astype(np.float32)
    model = linear_model(weight, op, bias=bias if op == "Gemm" and biased else None)
    assert STEP.apply(model, _context()).changed == 1
    ir.save(model, tmp_path / "model.onnx")
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    x = (scale * generator.standard_normal((6, inputs))).astype(np.float32)
    with runtimes.get("onnxruntime").load(tmp_path / "model.onnx") as session:
        got = session.run({"x": x})["y"]
    wanted = _reference(x, weight) + (bias if op == "Gemm" and biased else 0.0)
    # One step of the activations, if a value exactly between two is rounded the other way.
    slack = np.ptp(np.append(x, 0)) / 255 * np.abs(weight).max() * 1.01
    np.testing.assert_allclose(got, wanted, atol=slack)


def _reference(x: Array, weight: Array) -> Array:
    """DynamicQuantizeLinear and an integer product, in float64."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = (high - low) / 255
    zero = np.rint(-low / step)
    rows = np.clip(np.rint(x / step) + zero, 0, 255) - zero
    scale = weight_scale(weight, 1, levels=HERE.levels)
    steps = quantize_weight(weight, 1, scale, HERE.levels)[0].astype(np.float64)
    product: Array = step * rows @ steps * scale
    return product


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_onnxruntime_fuses_the_operators(tmp_path: Path, op: str) -> None:
    model = linear_model(np.ones((16, 4), np.float32), op)
    STEP.apply(model, _context())
    ir.save(model, tmp_path / "model.onnx")
    assert _optimized(tmp_path / "model.onnx") == ["DynamicQuantizeMatMul"]


def test_a_target_whose_sums_saturate_gets_7_bits() -> None:
    largest = {}
    for target in ("x86-vnni", "x86-avx2"):
        model = linear_model(np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32))
        STEP.apply(model, _context(target=target))
        steps = model.graph.initializers["w_steps"].const_value
        largest[target] = int(np.abs(steps.numpy()).max())
    assert largest == {"x86-vnni": 127, "x86-avx2": 63}


def test_one_quantization_serves_all_readers(encoder_like: Path) -> None:
    model = ir.load(encoder_like)
    assert STEP.apply(model, _context()).changed == 3
    operators = [node.op_type for node in model.graph]
    assert operators.count("DynamicQuantizeLinear") == 1
    assert operators.count("MatMulInteger") == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_stay_close_to_the_float_model(
    encoder_like: Path, tmp_path: Path, engine: str
) -> None:
    model = ir.load(encoder_like)
    STEP.apply(model, _context(engine))
    ir.save(model, tmp_path / "model.onnx")
    options = ExportOptions(None, {})
    path = exporters.get(engine).export(tmp_path / "model.onnx", tmp_path / "a", options)[0]
    assert _sqnr(encoder_like, path, engine, "x", (2, 7, 32)) > 25.0


@pytest.fixture
def encoder_like(tmp_path: Path) -> Path:
    """Three products of one tensor."""

    class Heads(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = torch.nn.ModuleList(torch.nn.Linear(32, 16) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.tanh(head(x)) for head in self.heads], -1)

    torch.manual_seed(0)
    return _exported(Heads(), torch.zeros(2, 7, 32), tmp_path)


# The exporter folds the matrices of the small one only.
@pytest.mark.parametrize("hidden", [24, 64])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_lstm_becomes_int8_on_onnxruntime(
    tmp_path: Path, bidirectional: bool, hidden: int
) -> None:
    class Reader(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(8, hidden, batch_first=True, bidirectional=bidirectional)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            states: torch.Tensor = self.lstm(x)[0]
            return states

    torch.manual_seed(0)
    source = _exported(Reader(), torch.zeros(2, 5, 8), tmp_path)
    model = ir.load(source)
    assert STEP.apply(model, _context()).changed == 1
    ir.save(model, tmp_path / "model.onnx")
    assert "DynamicQuantizeLSTM" in _optimized(tmp_path / "model.onnx")
    assert _sqnr(source, tmp_path / "model.onnx", "onnxruntime", "x", (2, 5, 8)) > 25.0


def _exported(module: torch.nn.Module, x: torch.Tensor, folder: Path) -> Path:
    dynamic = {"x": {0: "batch"}}
    path = folder / "exported.onnx"
    export_onnx(module, {"x": x}, path, dynamic=dynamic, output_names=["y"], opset=20)
    return prepare_onnx(path, folder / "float.onnx")


def _sqnr(wanted: Path, got: Path, engine: str, name: str, shape: tuple[int, ...]) -> float:
    meter = FidelityMeter()
    feeds = {name: np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    with (
        runtimes.get("onnxruntime").load(wanted) as first,
        runtimes.get(engine).load(got) as second,
    ):
        meter.add(first.run(feeds)["y"], second.run(feeds)["y"])
    return meter.result().sqnr_db


def test_an_engine_without_dynamic_kernels_changes_nothing_and_says_why() -> None:
    report = STEP.apply(linear_model(np.ones((16, 4), np.float32)), _context("tensorrt-rtx"))
    assert report.changed == 0
    assert "tensorrt-rtx" in report.details[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_quantized_model_is_refused(engine: str) -> None:
    model = linear_model(np.ones((16, 4), np.float32))
    STEP.apply(model, _context(engine))
    with pytest.raises(CompressError, match="is quantized already"):
        STEP.apply(model, _context(engine))


def test_the_label_has_the_gate_of_int8() -> None:
    assert gate(str(STEP.label)) == 6.0
