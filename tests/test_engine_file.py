from __future__ import annotations

from pathlib import Path

import pytest
import tensorrt_rtx as trt

from edgekit.engine_file import GPU_TARGETS, read_engine_file
from edgekit.errors import RuntimeUnavailableError
from tests.engines import engine_for


@pytest.mark.parametrize("gpu", GPU_TARGETS["tensorrt-rtx"])
def test_an_engine_says_its_builder_version_and_gpu(gpu: str, tmp_path: Path) -> None:
    file = read_engine_file(engine_for(gpu, tmp_path))
    assert (file.builder, file.version) == ("tensorrt-rtx", trt.__version__)
    assert file.gpus == (gpu,)


def test_full_tensorrt_is_told_by_its_tag_and_says_no_gpu(tmp_path: Path) -> None:
    path = tmp_path / "x.engine"
    path.write_bytes(b"ftrt" + bytes(20) + bytes([10, 13, 3, 9]) + bytes(100))
    file = read_engine_file(path)
    assert (file.builder, file.version, file.gpus) == ("tensorrt", "10.13.3.9", ())


def test_a_cut_off_engine_says_how_much_is_there(tmp_path: Path) -> None:
    path = engine_for("sm89", tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(RuntimeUnavailableError, match=rf"{len(whole) - 10} bytes.*{len(whole)}"):
        read_engine_file(path)


@pytest.mark.parametrize("data", [b"", b"not an engine", b"vtrt", b"\x08\x0a" * 200])
def test_what_is_no_engine_is_one_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.engine"
    path.write_bytes(data)
    with pytest.raises(RuntimeUnavailableError, match="is not a TensorRT engine") as caught:
        read_engine_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_engine_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="cannot be read"):
        read_engine_file(tmp_path / "none.engine")
