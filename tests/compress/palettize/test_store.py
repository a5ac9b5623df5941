"""A file of palettes is small, and what runs is what ran before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from edgekit.calibration import Calibrator
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.torch_onnx import export_onnx
from edgekit.runtimes import SessionOptions

from edgekit import runtimes
from edgekit.compress.base import GraphContext, ModuleContext
from edgekit.compress.palettize.recipe_pass import Palettize
from edgekit.compress.palettize.store import StorePalettes
from edgekit.compress.quantize.profiles import PROFILES
from edgekit.machine import this_machine
from edgekit.numerics import probe
from edgekit.workload import Workload
from edgekit.zoo import mlp_digits, resnet8_mnist

STEP = StorePalettes(type="store-palettes")


def _context(workload: Workload, engine: str = "onnxruntime") -> GraphContext:
    profile = PROFILES[engine]
    return GraphContext(
        profile, (profile,), Calibrator(workload.feeds, samples=1), probe(this_machine().features)
    )


def _exported(workload: Workload, folder: Path, bits: int, opset: int = 21) -> Path:
    """The palettized model as ONNX, prepared as a build does."""
    model = Palettize(type="palettize", bits=bits).apply(workload, ModuleContext()).model
    exported = export_onnx(
        model,
        {name: torch.as_tensor(x) for name, x in workload.example_inputs.items()},
        folder / "exported.onnx",
        dynamic=workload.dynamic,
        output_names=workload.output_names,
        opset=opset,
    )
    prepare_onnx(exported, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize(("bits", "share", "stored_weights"), [(4, 0.16, 9), (8, 0.32, 7)])
def test_the_file_is_small_and_computes_the_same(
    bits: int, share: float, stored_weights: int, tmp_path: Path
) -> None:
    workload = resnet8_mnist.workload()
    plain = _exported(workload, tmp_path, bits)
    model = ir.load(plain)
    assert STEP.apply(model, _context(workload)).changed == stored_weights
    stored = tmp_path / "stored.onnx"
    ir.save(model, stored)
    assert stored.stat().st_size < share * plain.stat().st_size
    feeds = next(workload.feeds())
    outputs = []
    for path in (plain, stored):
        with runtimes.require("onnxruntime").load(path, SessionOptions()) as session:
            outputs.append(session.run(feeds)["logits"])
    np.testing.assert_array_equal(*outputs)


def test_the_engine_looks_the_weights_up_once_while_it_loads(tmp_path: Path) -> None:
    import onnxruntime

    workload = mlp_digits.workload()
    plain = _exported(workload, tmp_path, 4)
    model = ir.load(plain)
    STEP.apply(model, _context(workload))
    ir.save(model, tmp_path / "stored.onnx")
    counts = []
    for path in (plain, tmp_path / "stored.onnx"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        onnxruntime.InferenceSession(path, options)
        counts.append([node.op_type for node in ir.load(tmp_path / "optimized.onnx").graph])
    assert counts[0] == counts[1]


def test_before_opset_21_an_index_takes_a_byte(tmp_path: Path) -> None:
    workload = mlp_digits.workload()
    model = ir.load(_exported(workload, tmp_path, 4, opset=18))
    STEP.apply(model, _context(workload))
    found = {value.dtype for n, value in model.graph.initializers.items() if n.endswith("_index")}
    assert found == {ir.DataType.UINT8}


def test_weights_of_many_values_stay(tmp_path: Path) -> None:
    workload = mlp_digits.workload()
    assert isinstance(workload.model, torch.nn.Module)
    model = ir.load(_exported(replace(workload), tmp_path, 8))
    weight = next(v for v in model.graph.initializers.values() if v.const_value.size > 4096)
    values = np.random.default_rng(0).standard_normal(weight.shape.numpy()).astype(np.float32)
    weight.const_value = ir.tensor(values)
    report = STEP.apply(model, _context(workload))
    assert report.changed == report.total - 1
    np.testing.assert_array_equal(
        model.graph.initializers[str(weight.name)].const_value.numpy(), values
    )


def test_engines_with_files_of_their_own_keep_their_weights(tmp_path: Path) -> None:
    workload = mlp_digits.workload()
    model = ir.load(_exported(workload, tmp_path, 4))
    assert STEP.apply(model, _context(workload, "openvino")).changed == 0
