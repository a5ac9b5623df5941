from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgekit.calibration import Calibrator
from edgekit.exporters import ExportOptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_ir.passes import common

from edgekit import exporters, runtimes
from edgekit.compress.base import GraphContext
from edgekit.compress.compressor import Compressor
from edgekit.compress.quantize.weight_only.grid import Grid
from edgekit.compress.quantize.weight_only.recipe_pass import WeightOnly
from edgekit.compress.quantize.weight_only.rtn import round_to_nearest
from edgekit.compress.recipe import load_recipe
from edgekit.errors import CompressError
from edgekit.fidelity import FidelityMeter
from edgekit.numerics import parse_target
from edgekit.spec import Array, Feeds
from edgekit.verify import gate
from tests.compress.quantize.weight_only.conftest import LanguageModel, linear_model, rows

ENGINES = ("onnxruntime", "openvino")
#: Activations are int8 inside the products of both engines: relative error of a product.
INT8_ACTIVATIONS = 0.02
Context = Callable[..., GraphContext]


def _pass(**fields: Any) -> WeightOnly:
    return WeightOnly(type="weight-only", **{"method": "rtn", **fields})


def _run(model: ir.Model, engine: str, folder: Path, feeds: Feeds) -> Array:
    path = folder / "model.onnx"
    ir.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    artifact = exporters.get(engine).export(path, folder / "artifact", ExportOptions(None, {}))[0]
    with runtimes.get(engine).load(artifact) as session:
        return next(iter(session.run(feeds).values()))


def _distance(got: Array, wanted: Array) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    inputs=st.integers(16, 300),
    outputs=st.integers(2, 40),
    bits=st.sampled_from([4, 8]),
    group=st.sampled_from([0, 16, 32, 64, 128, 256]),
    symmetric=st.booleans(),
    op=st.sampled_from(["MatMul", "Gemm"]),
    biased=st.booleans(),
    seed=st.integers(0, 99),
)
def test_engines_compute_with_the_dequantized_weights(
    engine: str, context: Context, tmp_path: Path, inputs: int, outputs: int, bits: int,
    group: int, symmetric: bool, op: str, biased: bool, seed: int,
) -> None:  # fmt: skip
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((inputs, outputs)).astype(np.float32)
    bias = generator.standard_normal(outputs).astype(np.float32)
    bias = bias if op == "Gemm" and biased else None
    model = linear_model(weight, op, bias=bias)
    step = _pass(bits=bits, group=group, symmetric=symmetric)
    report = step.apply(model, context(engine))
    assert report.changed == 1
    feeds = {"x": generator.standard_normal((5, inputs)).astype(np.float32)}
    grid = step.grid(inputs, context(engine))
    real = round_to_nearest(weight, grid).dequantized()
    wanted = feeds["x"] @ real + (0.0 if bias is None else bias)
    assert _distance(_run(model, engine, tmp_path, feeds), wanted) < INT8_ACTIVATIONS


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("inputs", "group"), [(100, 0), (100, 16), (300, 128), (96, 32)])
def test_matmul_nbits_unpacks_exactly_what_was_packed(
    context: Context, tmp_path: Path, inputs: int, group: int, bits: int, symmetric: bool
) -> None:
    weight = np.random.default_rng(0).standard_normal((inputs, 7)).astype(np.float32)
    model = linear_model(weight)
    step = _pass(bits=bits, group=group, symmetric=symmetric)
    step.apply(model, context())
    (node,) = (node for node in model.graph if node.op_type == "MatMulNBits")
    node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", 1)
    got = _run(model, "onnxruntime", tmp_path, {"x": np.eye(inputs, dtype=np.float32)})
    real = round_to_nearest(weight, step.grid(inputs, context())).dequantized()
    np.testing.assert_allclose(got, real, rtol=1e-5, atol=1e-6)


def test_a_target_whose_byte_products_saturate_computes_8_bits_in_float(context: Context) -> None:
    levels = {}
    for target in ("x86-vnni", "x86-avx2"):
        model = linear_model(np.ones((64, 4), np.float32))
        _pass(bits=8).apply(model, context(target=target))
        levels[target] = model.graph.node("linear_nbits").attributes.get_int("accuracy_level")
    assert levels == {"x86-vnni": 4, "x86-avx2": 1}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bits", [4, 8])
def test_stored_weights_are_a_fraction_of_the_float_ones(
    context: Context, tmp_path: Path, engine: str, bits: int
) -> None:
    weight = np.random.default_rng(0).standard_normal((1024, 256)).astype(np.float32)
    model = linear_model(weight)
    _pass(bits=bits, group=128, symmetric=False).apply(model, context(engine))
    path = tmp_path / "model.onnx"
    common.RemoveUnusedNodesPass()(model)
    ir.save(model, path)
    files = exporters.get(engine).export(path, tmp_path / "artifact", ExportOptions(None, {}))
    size = next(f for f in files if f.suffix in {".onnx", ".bin"}).stat().st_size
    assert size < weight.nbytes * {4: 0.2, 8: 0.28}[bits]


def test_openvino_keeps_the_weights_compressed_when_it_runs(
    context: Context, tmp_path: Path
) -> None:
    import openvino as ov

    model = linear_model(np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32))
    _pass(bits=4, symmetric=False).apply(model, context("openvino"))
    ir.save(model, tmp_path / "model.onnx")
    core = ov.Core()
    compiled = core.compile_model(core.read_model(tmp_path / "model.onnx"), "CPU")
    products = [
        [str(port.get_element_type()) for port in op.inputs()]
        for op in compiled.get_runtime_model().get_ordered_ops()
        if len(op.inputs()) > 3
    ]
    assert len(products) == 1
    assert "uint4" in products[0][1]


@pytest.mark.parametrize("engine", ENGINES)
def test_embedding_tables_become_int8_rows(context: Context, tmp_path: Path, engine: str) -> None:
    table = np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32)
    model = _lookup(table)
    assert _pass().apply(model, context(engine)).changed == 2
    stored = [v for v in model.graph.initializers.values() if v.dtype == ir.DataType.INT8]
    assert [tuple(v.shape) for v in stored] == [(500, 64)]
    ids = np.array([[0, 3, 499]])
    got = _run(model, engine, tmp_path, {"ids": ids})
    step = np.abs(table).max(axis=1, keepdims=True) / 127
    assert (np.abs(got - 2 * table[ids]) <= 1.01 * step[ids]).all()


def test_embeddings_can_stay_float(context: Context) -> None:
    model = _lookup(np.ones((500, 64), np.float32))
    assert _pass(embeddings=False).apply(model, context()).changed == 0


def _lookup(table: Array) -> ir.Model:
    """Two lookups in one table, added."""
    info, make = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [
            make("Gather", ["t", "ids"], ["a"], name="first"),
            make("Gather", ["t", "ids"], ["b"], name="second"),
            make("Add", ["a", "b"], ["y"], name="sum"),
        ],
        "g",
        [info("ids", onnx.TensorProto.INT64, ["batch", "length"])],
        [info("y", onnx.TensorProto.FLOAT, ["batch", "length", table.shape[1]])],
        [onnx.numpy_helper.from_array(table, "t")],
    )
    opsets = [onnx.helper.make_opsetid("", 21)]
    proto = onnx.helper.make_model(graph, ir_version=10, opset_imports=opsets)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_older_operator_set_is_converted_where_the_form_needs_it(
    context: Context, tmp_path: Path, engine: str, opset: int
) -> None:
    weight = np.random.default_rng(0).standard_normal((256, 8)).astype(np.float32)
    model = linear_model(weight, opset=opset)
    step = _pass(bits=4)
    step.apply(model, context(engine))
    assert model.graph.opset_imports[""] == (opset if engine == "onnxruntime" else 21)
    feeds = next(rows(1, 256))
    wanted = feeds["x"] @ round_to_nearest(weight, Grid(4, 128, symmetric=True)).dequantized()
    assert _distance(_run(model, engine, tmp_path, feeds), wanted) < INT8_ACTIVATIONS


@pytest.mark.parametrize("method", ["gptq", "awq"])
@pytest.mark.parametrize("engine", ENGINES)
def test_methods_that_see_data_lose_less(
    context: Context, tmp_path: Path, engine: str, method: str
) -> None:
    weight = np.random.default_rng(0).standard_normal((256, 32)).astype(np.float32)
    feeds = next(rows(1, 256, seed=1))
    calibrator = Calibrator(lambda: rows(8, 256))
    errors = {}
    for name in ("rtn", method):
        model = linear_model(weight)
        _pass(method=name).apply(model, context(engine, calibrator))
        errors[name] = _distance(_run(model, engine, tmp_path, feeds), feeds["x"] @ weight)
    assert errors[method] < errors["rtn"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_quantized_model_is_refused(context: Context, engine: str) -> None:
    model = linear_model(np.ones((64, 4), np.float32))
    _pass().apply(model, context(engine))
    with pytest.raises(CompressError, match="is quantized already"):
        _pass().apply(model, context(engine))


def test_operators_can_be_kept_float(context: Context) -> None:
    from dataclasses import replace

    kept = replace(context(), keep_float=frozenset({"linear"}))
    assert _pass().apply(linear_model(np.ones((64, 4), np.float32)), kept).changed == 0


@pytest.mark.parametrize(("bits", "least"), [(4, 3.0), (8, 6.0)])
def test_the_label_has_the_gate_of_its_bits(bits: int, least: float) -> None:
    assert gate(_pass(bits=bits).label) == least


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
# The decoder's float file has one table for embedding and head: that becomes int8 and int4.
@pytest.mark.parametrize(("name", "size"), [("encoder", 0.21), ("decoder", 0.38)])
def test_the_recipe_makes_language_models_small_and_keeps_them_close(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str, name: str, size: float
) -> None:
    language: LanguageModel = request.getfixturevalue(name)
    recipe = load_recipe("int4-weights")
    compressor = Compressor(
        language.path, recipe.graph_passes, [engine], language.calibrator, parse_target("x86-vnni")
    )
    assert compressor.build(engine, tmp_path / "model.onnx")
    exporter = exporters.get(engine)
    files = exporter.export(tmp_path / "model.onnx", tmp_path / "a", ExportOptions(None, {}))
    assert sum(f.stat().st_size for f in files) < size * language.path.stat().st_size
    meter = FidelityMeter()
    with (
        runtimes.get("onnxruntime").load(language.path) as wanted,
        runtimes.get(engine).load(files[0]) as got,
    ):
        for feeds in language.unseen[:8]:
            meter.add(*(next(iter(s.run(feeds).values())) for s in (wanted, got)))
    assert meter.result().cosine > 0.97
