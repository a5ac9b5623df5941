"""ORT-format files with the list of operators that a minimal build needs."""

from __future__ import annotations

import logging
import platform
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgekit.exporters import ExportOptions, get
from onnx import TensorProto, helper

from edgekit import runtimes
from edgekit.compress.recipe import load_recipe
from edgekit.errors import ExportError
from edgekit.numerics import parse_target
from edgekit.pipeline import make_bundle
from edgekit.targets import parse_targets
from edgekit.workload import Workload
from tests.conftest import batches

FEEDS = next(batches())
MINIMAL = "onnxruntime-minimal"


def _operators(config: Path) -> set[str]:
    """``domain;version;Op{types},Op`` lines, without the types."""
    found = set()
    for line in config.read_text().splitlines():
        if not line.startswith("#"):
            domain, _, operators = line.split(";", 2)
            found |= {f"{domain}:{op}" for op in re.findall(r"(\w+)(?:\{.*?\}\})?,?", operators)}
    return found


@pytest.mark.parametrize("native", [False, True])
def test_the_file_computes_the_same_and_lists_its_operators(
    onnx_file: Path, tmp_path: Path, native: bool
) -> None:
    handlers = logging.root.handlers[:]
    options = ExportOptions(None, {}, native=native)
    path, config = get(MINIMAL).export(onnx_file, tmp_path / "model", options)
    assert logging.root.handlers == handlers
    assert (path.name, config.suffix) == ("model.ort", ".config")
    with (
        runtimes.get("onnxruntime").load(onnx_file) as wanted,
        runtimes.get(MINIMAL).load(path) as made,
    ):
        assert made.inputs == wanted.inputs
        np.testing.assert_allclose(
            made.run(FEEDS)["logits"], wanted.run(FEEDS)["logits"], rtol=1e-4, atol=1e-5
        )
    listed = _operators(config)
    if not native:
        assert listed == {"ai.onnx:Gemm", "ai.onnx:ReduceMean", "com.microsoft:FusedConv"}
    elif platform.machine() == "x86_64":
        assert "com.microsoft.nchwc:Conv" in listed  # weights in blocks for this processor
    assert str(tmp_path) not in config.read_text()


def test_a_bundle_for_another_machine_holds_no_layout_of_this_one(
    workload: Workload, tmp_path: Path
) -> None:
    bundle = make_bundle(
        workload,
        tmp_path / "x.edge",
        recipe=load_recipe("int8"),
        targets=parse_targets([MINIMAL], None),
        timing=None,
        machine=parse_target("arm-dot"),
    )
    records = {record.artifact: record for record in bundle.manifest.verification}
    assert set(records) == {f"{MINIMAL}-fp32", f"{MINIMAL}-int8"}
    assert all(record.passed and record.ran for record in records.values())
    for artifact in bundle.manifest.artifacts:
        assert artifact.format == "ort"
        path, config = (bundle.path / entry.path for entry in artifact.files)
        assert path.suffix == ".ort"
        assert "nchwc" not in config.read_text()
    assert "com.microsoft:QLinearConv" in _operators(config)  # of the last, int8


def test_what_onnx_runtime_cannot_load_is_one_line(tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("NoSuch", ["x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(ExportError, match="NoSuch") as caught:
        get(MINIMAL).export(tmp_path / "x.onnx", tmp_path / "made", ExportOptions(None, {}))
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.onnx"]
