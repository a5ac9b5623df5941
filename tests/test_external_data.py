"""Models that want weights from outside their folder are refused before any engine reads them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgekit.exporters.prepare import prepare_onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgekit import runtimes
from edgekit.errors import ExternalDataError
from edgekit.external_data import check_external_data

_WEIGHTS = np.arange(4, dtype=np.float32)
_READERS = {
    "import": lambda path: prepare_onnx(path, path.with_name("prepared.onnx")),
    "onnxruntime": runtimes.get("onnxruntime").load,
    "openvino": runtimes.get("openvino").load,
}
_PLACES = ("initializer", "constant", "branch", "function")


def _model(folder: Path, location: str, place: str = "initializer", **entries: str) -> Path:
    """``y = x + w`` with ``w`` in the file ``location``, held in one of several places."""
    weights = numpy_helper.from_array(_WEIGHTS, "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weights.external_data.add(key=key, value=value)
    add = helper.make_node("Add", ["x", "w"], ["y"])
    constant = helper.make_node("Constant", [], ["w"], value=weights)
    nodes, functions = [add], []
    if place == "constant":
        nodes = [constant, add]
    if place == "branch":
        one = helper.make_tensor_value_info("w", TensorProto.FLOAT, [4])
        branch = helper.make_graph([constant], "branch", [], [one])
        true = helper.make_node(
            "Constant", [], ["c"], value=numpy_helper.from_array(np.array(True))
        )
        nodes = [
            true,
            helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch),
            add,
        ]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    if place == "function":
        functions = [helper.make_function("local", "f", ["x"], ["y"], [constant, add], opsets[:1])]
        nodes = [helper.make_node("f", ["x"], ["y"], domain="local")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [weights] if place == "initializer" else [],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=opsets, functions=functions)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder beside a secret and beside weights that are all right."""
    (tmp_path / "secret.bin").write_bytes(_WEIGHTS.tobytes())
    inside = tmp_path / "inside"
    (inside / "deeper").mkdir(parents=True)
    (inside / "w.bin").write_bytes(_WEIGHTS.tobytes())
    (inside / "deeper" / "w.bin").write_bytes(_WEIGHTS.tobytes())
    return inside


@pytest.mark.parametrize("place", _PLACES)
@pytest.mark.parametrize("location", ["w.bin", "deeper/w.bin", "./w.bin"])
def test_a_plain_file_inside_the_folder_is_found(folder: Path, place: str, location: str) -> None:
    found = check_external_data(_model(folder, location, place))
    assert [file.resolve() for file in found] == [(folder / location).resolve()]


@pytest.mark.parametrize("place", _PLACES)
@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("../secret.bin", "leaves the folder"),
        ("deeper/../../secret.bin", "leaves the folder"),
        ("deeper\\..\\..\\secret.bin", "leaves the folder"),
        ("/etc/passwd", "is absolute"),
        ("C:\\secret.bin", "is absolute"),
        ("\\\\host\\share\\secret.bin", "is absolute"),
        ("", "is not a file name"),
        ("none.bin", "does not exist"),
        ("deeper", "is no file"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(
    folder: Path, place: str, location: str, why: str
) -> None:
    with pytest.raises(ExternalDataError, match=why):
        check_external_data(_model(folder, location, place))


def test_an_absolute_path_into_the_folder_is_refused_too(folder: Path) -> None:
    with pytest.raises(ExternalDataError, match="is absolute"):
        check_external_data(_model(folder, str(folder / "w.bin")))


def test_links_are_refused(folder: Path) -> None:
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    (folder / "linked").symlink_to(folder.parent)
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    for location, why in (
        ("link.bin", "symbolic link"),
        ("linked/secret.bin", "symbolic link"),
        ("hard.bin", "hard link"),
    ):
        with pytest.raises(ExternalDataError, match=why):
            check_external_data(_model(folder, location))


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "-4"},
        {"offset": "4", "length": "16"},
        {"length": "17"},
        {"length": "-1"},
        {"offset": "9999999999999999999999"},
        {"offset": "four"},
    ],
)
def test_bytes_beyond_the_file_are_refused(folder: Path, entries: dict[str, str]) -> None:
    with pytest.raises(ExternalDataError):
        check_external_data(_model(folder, "w.bin", **entries))


def test_a_tensor_that_names_two_files_is_refused(folder: Path) -> None:
    path = _model(folder, "w.bin")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ExternalDataError, match="twice"):
        check_external_data(path)


@given(location=st.text(alphabet="./\\ab:~\0", max_size=12))
def test_whatever_is_accepted_lies_inside(
    tmp_path_factory: pytest.TempPathFactory, location: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "a").write_bytes(_WEIGHTS.tobytes())
    try:
        found = check_external_data(_model(folder, location))
    except ExternalDataError:
        return
    assert [file.resolve() for file in found] == [(folder / "a").resolve()]


@pytest.mark.parametrize("reader", _READERS)
def test_every_reader_refuses_before_it_reads(folder: Path, reader: str) -> None:
    path = _model(folder, "../secret.bin")
    with pytest.raises(ExternalDataError, match="leaves the folder"):
        _READERS[reader](path)


def test_what_is_no_onnx_file_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff\xfe no model")
    assert check_external_data(tmp_path / "model.onnx") == []
    assert check_external_data(tmp_path / "none.onnx") == []
