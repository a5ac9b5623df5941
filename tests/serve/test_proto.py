"""The gRPC messages: what the .proto says, with the numbers of everybody else's."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as triton
from google.protobuf import descriptor_pb2

from edgekit.serve.proto import METHODS, messages

FOLDER = Path(str(files("edgekit.serve.proto")))


def test_the_stored_descriptors_are_what_the_proto_compiles_to(tmp_path: Path) -> None:
    made = tmp_path / "made.binpb"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{FOLDER}",
            f"--descriptor_set_out={made}",
            "inference.proto",
        ],
        check=True,
    )
    stored = (FOLDER / "inference.binpb").read_bytes()
    parse = descriptor_pb2.FileDescriptorSet.FromString
    assert parse(stored) == parse(made.read_bytes())


def _fields(descriptor: Any) -> dict[str, tuple[int, int, bool, str]]:
    return {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            field.message_type.name if field.message_type else "",
        )
        for field in descriptor.fields
    }


def _nested(descriptor: Any) -> dict[str, Any]:
    """The message and those inside it, by full name."""
    found = {descriptor.full_name: descriptor}
    for inner in descriptor.nested_types:
        found |= _nested(inner)
    return found


def test_names_numbers_and_types_are_those_of_tritonclient() -> None:
    theirs = triton.service_pb2.DESCRIPTOR.message_types_by_name
    for name, kind in vars(messages).items():
        own, other = _nested(kind.DESCRIPTOR), _nested(theirs[name])
        own.pop("inference.ModelMetadataResponse.PropertiesEntry", None)  # of its properties, below
        assert own.keys() == other.keys()
        for full_name, descriptor in own.items():
            fields = _fields(descriptor)
            if name == "ModelMetadataResponse":
                fields.pop("properties", None)  # of the protocol, but not of Triton
            assert fields == _fields(other[full_name]), full_name


def test_methods_are_those_of_tritonclient() -> None:
    service = triton.service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    theirs = {method.name: method for method in service.methods}
    for name, method in METHODS.items():
        other = theirs[name]
        assert method.path == f"/{service.full_name}/{name}"
        assert method.request.DESCRIPTOR.full_name == other.input_type.full_name
        assert method.response.DESCRIPTOR.full_name == other.output_type.full_name
        assert method.stream is other.client_streaming is other.server_streaming


@pytest.mark.parametrize("first", ["edgekit.serve.proto", "tritonclient.grpc"])
def test_both_live_in_one_process(first: str) -> None:
    second = {"edgekit.serve.proto", "tritonclient.grpc"} - {first}
    code = f"import {first}; import {second.pop()}"
    subprocess.run([sys.executable, "-W", "error::RuntimeWarning", "-c", code], check=True)
