"""Inputs and outputs of half precision, from the session to the bundle."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from edgekit.calibration import Calibrator
from edgekit.calibration.sources import file_source
from edgekit.runtimes import Session
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.errors import CalibrationError, SpecError
from edgekit.pipeline import make_bundle
from edgekit.spec import TensorSpec
from edgekit.targets import parse_targets
from edgekit.verify import Reference, verify_bundle
from edgekit.workload import Workload

HALVES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
TYPES = {"bfloat16": TensorProto.BFLOAT16, "float16": TensorProto.FLOAT16}
ENGINES = ["onnxruntime", "openvino"]
WEIGHT = np.float32([[1, 2], [3, 4], [5, 6]])


@pytest.fixture(params=[(e, d) for e in ENGINES for d in HALVES], ids="-".join)
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Session:
    """``y = x WEIGHT``, computed in float32."""
    engine, dtype = request.param
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["wide", "w"], ["product"]),
        helper.make_node("Cast", ["product"], ["y"], to=TYPES[dtype]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TYPES[dtype], ["batch", size])
        for name, size in (("x", 3), ("y", 2))
    )
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(WEIGHT, "w")])
    path = tmp_path / "half.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10), path
    )
    return runtimes.get(engine).load(path)


def test_half_precision_goes_in_and_comes_out(session: Session) -> None:
    dtype = session.inputs[0].dtype
    assert [spec.dtype for spec in (*session.inputs, *session.outputs)] == [dtype, dtype]
    x = np.float32([[1, 0, -1], [0.5, 2, 0]]).astype(HALVES[dtype])
    wanted = (x.astype(np.float32) @ WEIGHT).astype(HALVES[dtype])
    made = session.run({"x": x})["y"]
    assert made.dtype == HALVES[dtype]
    np.testing.assert_array_equal(made, wanted)
    flipped = session.run({"x": x[::-1, ::-1]})["y"]  # not contiguous
    np.testing.assert_array_equal(flipped, (x[::-1, ::-1].astype(np.float32) @ WEIGHT))
    np.testing.assert_array_equal(made, wanted)  # the caller's own


def test_half_precision_is_written_into_given_arrays(session: Session) -> None:
    dtype = HALVES[session.inputs[0].dtype]
    out = np.zeros((1, 2), dtype)
    made = session.run({"x": np.ones((1, 3), dtype)}, {"y": out})
    assert made["y"] is out
    np.testing.assert_array_equal(out.astype(np.float32), [[9, 12]])


def test_pytorch_tensors_of_half_precision_are_fed_as_they_are(session: Session) -> None:
    x = torch.ones(1, 3, dtype=getattr(torch, session.inputs[0].dtype))
    np.testing.assert_array_equal(session.run({"x": x})["y"].astype(np.float32), [[9, 12]])
    with pytest.raises(SpecError, match="without a gradient"):
        session.run({"x": x.requires_grad_()})


def test_another_type_is_one_line(session: Session) -> None:
    wanted = session.inputs[0].dtype
    for dtype in {np.float32, np.uint16, *HALVES.values()} - {HALVES[wanted]}:
        with pytest.raises(SpecError, match=rf"'x': dtype is \w+, expected {wanted}\. Convert"):
            session.run({"x": np.ones((1, 3), dtype)})


class Halved(nn.Module):
    """A float32 model behind inputs and outputs of another type."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.float()).to(x.dtype)


@pytest.fixture(params=list(HALVES))
def halved(request: pytest.FixtureRequest, tmp_path: Path) -> Bundle:
    torch.manual_seed(0)
    samples = torch.randn(8, 8, dtype=getattr(torch, request.param))
    workload = Workload(
        name="half",
        model=Halved().eval(),
        example_inputs={"x": samples[:1]},
        output_names=["y"],
        calibration=lambda: [{"x": samples}],
    )
    targets = parse_targets([*ENGINES, "torch"], None)
    return make_bundle(
        workload, tmp_path / "x.edge", recipe=load_recipe("fp32"), targets=targets, timing=None
    )


def test_a_bundle_with_half_precision_inputs_is_built_and_verified(halved: Bundle) -> None:
    dtype = halved.manifest.inputs[0].dtype
    assert halved.manifest.outputs[0].dtype == dtype
    for record in (*halved.manifest.verification, *verify_bundle(halved)):
        assert record.passed
        assert record.ran
        assert record.outputs["y"].sqnr_db > 35
        assert {"random", "large", "batch 8"} <= set(record.extremes)
    stored = Reference.load(halved.path / "reference.npz")
    assert stored.feeds[0]["x"].dtype == stored.outputs[0]["y"].dtype == HALVES[dtype]


def test_calibration_files_hold_half_precision(tmp_path: Path) -> None:
    samples = np.ones((2, 3), ml_dtypes.bfloat16)
    np.savez(tmp_path / "data.npz", x=samples)
    (first, _) = file_source(tmp_path / "data.npz", [TensorSpec("x", "bfloat16", ("n", 3))])()
    assert first["x"].dtype == ml_dtypes.bfloat16
    np.savez(tmp_path / "data.npz", x=np.full((2, 3), np.nan, ml_dtypes.bfloat16))
    bad = file_source(tmp_path / "data.npz", [TensorSpec("x", "bfloat16", ("n", 3))])
    with pytest.raises(CalibrationError, match="'x' has 3 NaN"):
        list(Calibrator(bad, samples=2, divisible=True, cache=None).batches())
