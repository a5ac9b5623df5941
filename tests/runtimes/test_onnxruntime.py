"""Execution providers, the arena, and the ORT format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from edgekit.runtimes import SessionOptions
from edgekit.runtimes.onnxruntime_providers import require_provider
from onnx import TensorProto, helper, numpy_helper

from edgekit import runtimes
from edgekit.errors import RuntimeUnavailableError
from tests.conftest import batches
from tests.runtimes.conftest import Artifacts

ONNX_RUNTIME = runtimes.get("onnxruntime")
FEEDS = next(batches())


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("CUDA", r"this build of ONNX Runtime .* has .*CPU only\. Run: .*onnxruntime-gpu"),
        ("tensorrt", "onnxruntime-gpu"),
        ("OpenVINO", "onnxruntime-openvino"),
        ("QNN", "onnxruntime-qnn"),
        ("CoreML", "macOS"),
        ("XNNPACK", "--use_xnnpack"),
        ("MIGraphX", "Build ONNX Runtime with"),
        ("CUDAA", "did you mean 'CUDA'. This build has .*CPU"),
        ("", "no execution provider"),
    ],
)
def test_a_provider_that_is_not_built_in_tells_how_to_get_it(
    device: str, message: str, onnx_file: Path
) -> None:
    if any(
        name.lower() == f"{device}ExecutionProvider".lower()
        for name in ort.get_available_providers()
    ):
        pytest.skip(f"this ONNX Runtime has {device}")
    with pytest.raises(RuntimeUnavailableError, match=message):
        ONNX_RUNTIME.load(onnx_file, SessionOptions(device=device))


def test_the_cpu_has_a_name_in_any_case(onnx_file: Path) -> None:
    made = []
    for device in (None, "CPU", "cpu"):
        with ONNX_RUNTIME.load(onnx_file, SessionOptions(device=device, threads=1)) as session:
            made.append(session.run(FEEDS)["logits"])
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


def test_a_session_that_fell_back_to_the_cpu_is_refused(onnx_file: Path) -> None:
    session = ort.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    with pytest.raises(RuntimeUnavailableError, match=r"device 'CUDA': .* cannot start it"):
        require_provider(session, "CUDAExecutionProvider")


#: Prints by how many MB a process has grown after one large run.
_GROWTH = """
import sys
from pathlib import Path
import numpy as np, psutil
from edgekit import runtimes
from edgekit.runtimes import SessionOptions
options = SessionOptions(threads=1, arena=sys.argv[2] == "True")
with runtimes.get("onnxruntime").load(Path(sys.argv[1]), options) as session:
    before = psutil.Process().memory_info().rss
    session.run({"x": np.zeros((64, 3, 128, 128), np.float32)})
    print((psutil.Process().memory_info().rss - before) / 1e6)
"""


def test_without_the_arena_a_large_run_gives_its_memory_back(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((32, 3, 3, 3), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["wide"], pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMean", ["wide"], ["y"], keepdims=0),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["n", 3, 128, 128]), ("y", []))
    )
    graph = helper.make_graph(nodes, "wide", [x], [y], [weight])
    path = tmp_path / "wide.onnx"  # its inner tensor has 134 MB
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path
    )
    grown = {}
    for arena in (True, False):
        command = [sys.executable, "-c", _GROWTH, str(path), str(arena)]
        grown[arena] = float(subprocess.run(command, capture_output=True, check=True).stdout)
    assert grown[True] > 130
    assert grown[False] < 20


def test_an_ort_file_is_no_onnx_file_to_look_into(artifacts: Artifacts) -> None:
    path = artifacts("onnxruntime-minimal")
    assert path.suffix == ".ort"
    with pytest.raises(RuntimeUnavailableError, match="Give an ONNX file"):
        ONNX_RUNTIME.load(path, SessionOptions(intermediates=True))


def test_an_ort_file_has_nothing_to_cache(artifacts: Artifacts, tmp_path: Path) -> None:
    path = artifacts("onnxruntime-minimal")
    with ONNX_RUNTIME.load(path, SessionOptions(cache=tmp_path)) as session:
        session.run(FEEDS)
    assert list(tmp_path.iterdir()) == []
