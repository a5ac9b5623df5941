from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgekit.calibration import Range
from edgekit.exporters import ExportOptions, ShapeRange

from edgekit import exporters
from edgekit.compress.quantize.arithmetic import symmetric_float8
from edgekit.compress.quantize.fp8 import Fp8Ptq
from edgekit.compress.quantize.profiles import PROFILES
from edgekit.errors import CompressError, UnsupportedGpuError
from tests.compress.graphs import context, model_of, node, random, run, sqnr

X = {"x": ["n", 16]}
DATA = [{"x": random(1, 64, 16)}]
UNSEEN = {"x": random(2, 64, 16)}


def _product(weight: np.ndarray) -> ir.Model:
    return model_of([node("MatMul", ["x", "w"], ["y"])], {"w": weight}, X)


def _quantized(model: ir.Model) -> ir.Model:
    changed = model.clone()
    assert Fp8Ptq(type="fp8-ptq").apply(changed, context(DATA, "tensorrt-rtx")).changed == 1
    onnx.checker.check_model(ir.to_proto(changed), full_check=True)
    return changed


def test_products_have_float8_on_both_sides_and_stay_close() -> None:
    model = _product(random(0, 16, 8))
    changed = _quantized(model)
    (dequantize,) = [n for n in changed.graph if n.inputs[0].const_value is not None]
    assert dequantize.inputs[0].dtype == ir.DataType.FLOAT8E4M3FN
    assert [n.op_type for n in changed.graph].count("QuantizeLinear") == 1
    assert sqnr(run(model, UNSEEN), run(changed, UNSEEN)) > 25.0


def test_each_output_has_a_scale_of_its_own() -> None:
    weight = random(0, 16, 8) * np.logspace(-2, 6, 8, dtype=np.float32)
    model = _product(weight)
    wanted, got = run(model, UNSEEN)["y"], run(_quantized(model), UNSEEN)["y"]
    for column in range(8):
        assert sqnr({"y": wanted[:, column]}, {"y": got[:, column]}) > 20.0


def test_an_outlier_costs_the_others_less_than_in_int8() -> None:
    from edgekit.compress.quantize.ptq import Int8Ptq

    model, wild = _product(random(0, 16, 8)), DATA[0]["x"].copy()
    wild[0, 0] = 1000.0
    results = []
    for step in (Fp8Ptq(type="fp8-ptq"), Int8Ptq(type="int8-ptq", observer="min-max")):
        changed = model.clone()
        step.apply(changed, context([{"x": wild}], "tensorrt-rtx"))
        results.append(sqnr(run(model, UNSEEN), run(changed, UNSEEN)))
    assert results[0] > results[1] + 10.0


def test_the_largest_value_becomes_the_largest_number_of_the_format() -> None:
    parameters = symmetric_float8(Range(low=-3.0, high=2.0))
    assert np.float32(-3.0 / parameters.scale).astype(ml_dtypes.float8_e4m3fn) == -448.0
    assert symmetric_float8(Range(low=0.0, high=0.0)).scale > 0.0


def test_only_engines_with_float8_get_it() -> None:
    step = Fp8Ptq(type="fp8-ptq")
    assert {name for name, one in PROFILES.items() if step.suits(one)} == {
        "tensorrt",
        "tensorrt-rtx",
    }


def test_an_opset_without_float8_is_refused() -> None:
    model = _product(random(0, 16, 8))
    model.opset_imports[""] = 17
    with pytest.raises(CompressError, match="float8 came with opset 19, the graph has 17"):
        Fp8Ptq(type="fp8-ptq").apply(model, context(DATA, "tensorrt-rtx"))


def test_the_graph_becomes_an_engine_where_the_gpu_has_float8(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    ir.save(_quantized(_product(random(0, 16, 8))), path)
    shapes = {"x": ShapeRange((1, 16), (1, 16), (8, 16))}
    exporter = exporters.get("tensorrt-rtx")
    for gpu in ("sm89", "sm120"):
        assert exporter.export(path, tmp_path / gpu, ExportOptions(gpu, shapes))
    with pytest.raises(UnsupportedGpuError, match="no float8 arithmetic for sm86"):
        exporter.export(path, tmp_path / "sm86", ExportOptions("sm86", shapes))
