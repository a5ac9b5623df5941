"""TensorRT-RTX engines, built for real for GPUs that are not here."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from edgekit.exporters import ExportOptions, ShapeRange
from edgekit.exporters.graph import MODULE
from edgekit.exporters.tensorrt_engine import TensorRtExporter, check_gpu
from onnx import TensorProto, helper, numpy_helper

from edgekit import exporters
from edgekit.engine_file import GPU_TARGETS, read_engine_file
from edgekit.errors import ExportError, UnsupportedGpuError, UnsupportedOperatorError
from edgekit.gpu import find_gpu
from tests.conftest import SHAPE
from tests.engines import SHAPES, network

RTX = exporters.get("tensorrt-rtx")
IMAGES = {"image": ShapeRange((1, *SHAPE), (1, *SHAPE), (8, *SHAPE))}


def _in_module(node: onnx.NodeProto, module: str) -> onnx.NodeProto:
    node.metadata_props.add(key=MODULE, value=module)
    return node


def _weights(kind: int = TensorProto.FLOAT) -> onnx.TensorProto:
    values = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    types = {TensorProto.BFLOAT16: ml_dtypes.bfloat16, TensorProto.FLOAT16: np.float16}
    return numpy_helper.from_array(values.astype(types.get(kind, np.float32)), "w")


def _product(path: Path, kind: int = TensorProto.FLOAT) -> Path:
    """One MatMul of that type, in a module with a name."""
    return network(
        path,
        [
            helper.make_node("Cast", ["x"], ["narrow"], name="in", to=kind),
            _in_module(
                helper.make_node("MatMul", ["narrow", "w"], ["product"], name="mm"), "head (Linear)"
            ),
            helper.make_node("Cast", ["product"], ["y"], name="out", to=TensorProto.FLOAT),
        ],
        (_weights(kind),),
    )


def _export(path: Path, gpu: str = "sm89", **settings: object) -> Path:
    return RTX.export(path, path.with_suffix(""), ExportOptions(gpu, SHAPES, **settings))[0]


@pytest.mark.parametrize("gpu", ["sm80", "sm86", "sm89", "sm120", "sm121"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_network_is_cross_built_for_a_gpu_that_is_not_here(
    built: Path, int8: Path, tmp_path: Path, gpu: str, precision: str
) -> None:
    graph = {"fp32": built / "model.onnx", "int8": int8}[precision]
    (engine,) = RTX.export(graph, tmp_path / "m", ExportOptions(gpu, IMAGES))
    assert engine.suffix == ".engine"
    assert read_engine_file(engine).gpus == (gpu,)


@pytest.fixture(scope="module")
def int8(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Q/DQ graph that an engine is built from."""
    import onnx_ir as ir

    from edgekit.compress.quantize.ptq import Int8Ptq
    from tests.compress.graphs import context
    from tests.conftest import batches

    model = ir.load(built / "model.onnx")
    Int8Ptq(type="int8-ptq").apply(model, context(list(batches()), "tensorrt-rtx"))
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    ir.save(model, path)
    return path


@pytest.mark.parametrize(
    ("kind", "gpus"),
    [
        (TensorProto.FLOAT, ("sm80", "sm89", "sm120")),
        (TensorProto.FLOAT16, ("sm75", "sm80", "sm89", "sm120")),
        (TensorProto.BFLOAT16, ("sm80", "sm89", "sm120")),
    ],
    ids=["fp32", "fp16", "bf16"],
)
def test_types_of_the_graph_are_what_the_engine_computes_in(
    kind: int, gpus: tuple[str, ...], tmp_path: Path
) -> None:
    path = _product(tmp_path / "m.onnx", kind)
    for gpu in gpus:
        assert _export(path, gpu).stat().st_size > 0


@pytest.mark.parametrize(
    ("kind", "lacks", "instead"),
    [
        (TensorProto.FLOAT, "float32 matrix product", "fp16"),
        (TensorProto.BFLOAT16, "bfloat16 arithmetic", None),
    ],
    ids=["fp32", "bf16"],
)
def test_what_turing_lacks_is_one_line_that_says_what_it_has(
    kind: int, lacks: str, instead: str | None, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedGpuError, match=lacks) as caught:
        _export(_product(tmp_path / "m.onnx", kind), "sm75")
    assert (caught.value.gpu, caught.value.instead) == ("sm75", instead)
    assert "--recipe fp16" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_module_that_cannot_be_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedGpuError, match=r"module head \(Linear\)"):
        _export(_product(tmp_path / "m.onnx"), "sm75")


def test_all_operators_that_are_missing_are_named_with_their_modules(tmp_path: Path) -> None:
    nodes = [
        _in_module(
            helper.make_node("Frobnicate", ["x"], ["a"], name="f1", domain="com.example"),
            "body.0 (Odd)",
        ),
        helper.make_node("Relu", ["a"], ["b"], name="r"),
        _in_module(
            helper.make_node("Twist", ["b"], ["y"], name="t1", domain="com.example"),
            "head (Twister)",
        ),
    ]
    with pytest.raises(UnsupportedOperatorError) as caught:
        _export(network(tmp_path / "odd.onnx", nodes))
    assert caught.value.operator == "Frobnicate (node f1), Twist (node t1)"
    assert caught.value.module == "body.0 (Odd), head (Twister)"
    assert "Relu" not in str(caught.value)


def test_of_many_missing_operators_the_first_few_are_named(tmp_path: Path) -> None:
    names = ["x", *(f"t{i}" for i in range(8)), "y"]
    nodes = [
        helper.make_node("Frobnicate", [a], [b], name=f"n{i}", domain="com.example")
        for i, (a, b) in enumerate(pairwise(names))
    ]
    with pytest.raises(UnsupportedOperatorError, match="node n3\\) and 5 more") as caught:
        _export(network(tmp_path / "odd.onnx", nodes))
    assert "n4" not in str(caught.value)


def test_a_use_that_it_cannot_read_is_told_with_node_and_reason(tmp_path: Path) -> None:
    steps = [
        numpy_helper.from_array(np.float32(-1.0), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="dq"),
    ]
    with pytest.raises(ExportError, match=r"QuantizeLinear \(node q\).*must all be positive"):
        _export(network(tmp_path / "m.onnx", nodes, tuple(steps)))


def test_a_file_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"garbage" * 100)
    with pytest.raises(ExportError, match=r"bad\.onnx.*Failed to parse") as caught:
        _export(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)


def test_too_little_workspace_says_what_to_raise(tmp_path: Path) -> None:
    path = _product(tmp_path / "m.onnx")
    assert _export(path, workspace=2**24)
    for least in (0, 1):
        with pytest.raises(ExportError, match="Raise --workspace"):
            _export(path, workspace=least)


@pytest.mark.skipif(bool(find_gpu()[0]), reason="here a refittable engine can be built")
def test_a_refittable_engine_wants_a_gpu_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"is compiled on a GPU.*Drop --refit"):
        _export(_product(tmp_path / "m.onnx"), refit=True)


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="full TensorRT is installed")
def test_full_tensorrt_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="pip install 'edgekit\\[tensorrt\\]'"):
        exporters.get("tensorrt").export(
            _product(tmp_path / "m.onnx"), tmp_path / "m", ExportOptions("sm90", SHAPES)
        )


def test_full_tensorrt_builds_for_the_gpu_at_hand_only() -> None:
    other = next(gpu for gpu in GPU_TARGETS["tensorrt"] if gpu != find_gpu()[0])
    with pytest.raises(ExportError, match=f"wanted is {other}, .*--runtime tensorrt-rtx"):
        TensorRtExporter()._check_machine(other)


def test_gpu_names_are_checked() -> None:
    assert check_gpu("SM_89") == "sm89"
    with pytest.raises(ExportError, match="did you mean 'sm89'"):
        check_gpu("sm98")
