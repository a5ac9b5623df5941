"""Everything of the TensorRT runtimes that needs no GPU; test_tensorrt_gpu.py has the rest."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tensorrt_rtx as trt
from edgekit.runtimes import RuntimeStatus
from edgekit.runtimes.cuda_memory import CudaMemory
from edgekit.runtimes.limits import check_limits
from edgekit.runtimes.tensorrt import TensorRtRtx, check_engine

from edgekit import runtimes
from edgekit.engine_file import read_engine_file
from edgekit.engine_log import ErrorLog
from edgekit.errors import RuntimeUnavailableError, SpecError
from edgekit.gpu import find_gpu
from tests.engines import engine_for

RTX = runtimes.get("tensorrt-rtx")

without_gpu = pytest.mark.skipif(bool(find_gpu()[0]), reason="tells what a machine without says")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engine_for("sm89", tmp_path_factory.mktemp("engine"))


@without_gpu
def test_without_a_gpu_it_says_why_it_cannot_be_used() -> None:
    status = RTX.status()
    assert not status.usable
    assert status.version == trt.__version__
    assert status.gpu is None
    assert status.reason == find_gpu()[1] != ""


@without_gpu
def test_no_driver_is_told_by_cuda_itself() -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    assert "driver" in find_gpu()[1]
    assert RTX.status().install == ""  # nothing that pip could mend


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="full TensorRT is installed")
def test_a_package_that_is_not_installed_names_the_command() -> None:
    status = runtimes.get("tensorrt").status()
    assert (status.usable, status.reason) == (False, "tensorrt is not installed")
    assert status.install == "pip install 'edgekit[tensorrt]'"


@without_gpu
def test_a_good_engine_is_refused_for_want_of_a_gpu_only(engine: Path) -> None:
    with pytest.raises(RuntimeUnavailableError) as caught:
        RTX.load(engine)
    assert find_gpu()[1] in str(caught.value)


def test_a_damaged_engine_is_refused_before_a_gpu_is_looked_for(
    engine: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.engine"
    path.write_bytes(engine.read_bytes()[:100])
    with pytest.raises(RuntimeUnavailableError, match="is damaged: it has 100 bytes"):
        RTX.load(path)


def test_an_engine_of_another_version_names_both(engine: Path, tmp_path: Path) -> None:
    data = bytearray(engine.read_bytes())
    data[24:28] = bytes([1, 4, 0, 76])
    path = tmp_path / "old.engine"
    path.write_bytes(data)
    with pytest.raises(RuntimeUnavailableError) as caught:
        RTX.load(path)
    told = str(caught.value)
    assert f"was built by tensorrt-rtx 1.4.0.76, installed is {trt.__version__}" in told
    assert "tensorrt-rtx==1.4.0.76" in told


def test_an_engine_of_the_other_builder_names_it(tmp_path: Path) -> None:
    path = tmp_path / "x.engine"
    path.write_bytes(b"ftrt" + bytes(20) + bytes([10, 13, 3, 9]) + bytes(100))
    with pytest.raises(RuntimeUnavailableError, match="is an engine of tensorrt, not of"):
        RTX.load(path)


def test_an_engine_for_another_gpu_names_both(engine: Path) -> None:
    here = RuntimeStatus(usable=True, version=trt.__version__, gpu="sm120")
    with pytest.raises(RuntimeUnavailableError, match="was built for sm89, this GPU is sm120"):
        check_engine(read_engine_file(engine), engine, "tensorrt-rtx", here)


def test_an_engine_that_fits_is_let_through(engine: Path) -> None:
    here = RuntimeStatus(usable=True, version=trt.__version__, gpu="sm89")
    check_engine(read_engine_file(engine), engine, "tensorrt-rtx", here)


def test_what_tensorrt_itself_finds_malformed_is_told(engine: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.engine"
    path.write_bytes(b"x" + engine.read_bytes()[1:])
    with pytest.raises(RuntimeUnavailableError, match="cannot run the engine: malformed engine"):
        TensorRtRtx()._engine(trt, ErrorLog(trt), path)


def test_a_size_outside_the_profile_says_what_the_engine_takes() -> None:
    limits = {"x": ((1, 4), (8, 4))}
    check_limits(limits, {"x": np.zeros((8, 4))})
    with pytest.raises(SpecError, match=r"axis 0 is 9, the engine takes 1 to 8.*--range"):
        check_limits(limits, {"x": np.zeros((9, 4))})


@without_gpu
def test_what_cuda_says_is_told() -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    with pytest.raises(RuntimeError, match="CUDA says cudaError"):
        CudaMemory()
