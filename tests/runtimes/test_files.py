"""Files that an engine cannot read are told in one line that says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edgekit.runtimes import SessionOptions
from edgekit.runtimes.files import plainly

from edgekit import runtimes
from edgekit.errors import RuntimeUnavailableError

Change = Callable[[bytes], bytes]
HALF: Change = lambda data: data[: len(data) // 2]  # noqa: E731
EMPTY: Change = lambda _: b""  # noqa: E731
TEXT: Change = lambda _: b"404: not found"  # noqa: E731


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    shutil.copy(built / "model.onnx", tmp_path / "model.onnx")
    for kind in (".xml", ".bin"):
        shutil.copy((built / "openvino" / "fp32").with_suffix(kind), tmp_path / f"model{kind}")
    return tmp_path


def told(runtime: str, path: Path) -> str:
    with pytest.raises(RuntimeUnavailableError) as raised:
        runtimes.get(runtime).load(path, SessionOptions(threads=1))
    message = str(raised.value)
    assert "\n" not in message
    assert str(path.parent) in message
    return message


@pytest.mark.parametrize(
    ("runtime", "damaged", "loaded"),
    [
        ("onnxruntime", "model.onnx", "model.onnx"),
        ("openvino", "model.onnx", "model.onnx"),
        ("openvino", "model.xml", "model.xml"),
        ("openvino", "model.bin", "model.xml"),
    ],
)
@pytest.mark.parametrize("change", [HALF, EMPTY, TEXT], ids=["half of it", "empty", "text"])
def test_a_damaged_file_is_told_without_the_engines_sources(
    folder: Path, runtime: str, damaged: str, loaded: str, change: Change
) -> None:
    path = folder / damaged
    path.write_bytes(change(path.read_bytes()))
    message = told(runtime, folder / loaded)
    assert "opy it again" in message
    for noise in ("Exception", ".cpp", "[ONNXRuntimeError]"):
        assert noise not in message


@pytest.mark.parametrize(
    ("runtime", "name"), [("onnxruntime", "model.onnx"), ("openvino", "model.bin")]
)
def test_a_missing_file_is_named(folder: Path, runtime: str, name: str) -> None:
    (folder / name).unlink()
    loaded = folder / ("model.onnx" if runtime == "onnxruntime" else "model.xml")
    assert f"{name}: no such file" in told(runtime, loaded)


@pytest.mark.parametrize(
    ("runtime", "name", "wanted"),
    [
        ("onnxruntime", "model.xml", "is a .xml, expected .onnx"),
        ("openvino", "model.bin", "is a .bin, expected .xml or .onnx"),
    ],
)
def test_a_file_for_another_engine_is_told(
    folder: Path, runtime: str, name: str, wanted: str
) -> None:
    assert wanted in told(runtime, folder / name)


def test_a_folder_is_no_file(folder: Path) -> None:
    assert "is no file" in told("onnxruntime", folder)


def test_a_long_message_is_cut(folder: Path) -> None:
    message = plainly(RuntimeError("Exception from src/a.cpp:1: " + "word " * 200))
    assert len(message) <= 240
    assert message.startswith("word")
    assert message.endswith("word ...")


def test_a_model_without_constants_needs_no_weights(tmp_path: Path) -> None:
    import openvino as ov
    from openvino import opset13 as ops

    x = ops.parameter([-1, 2], np.float32, name="x")
    ov.save_model(ov.Model([ops.relu(x)], [x]), tmp_path / "relu.xml")
    assert (tmp_path / "relu.bin").stat().st_size == 0
    with runtimes.get("openvino").load(tmp_path / "relu.xml") as session:
        (got,) = session.run({"x": np.float32([[-1, 1]])}).values()
    np.testing.assert_array_equal(got, [[0, 1]])
