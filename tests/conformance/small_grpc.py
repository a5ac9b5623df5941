"""The gRPC side of the small server: right in every clause, with faults that a test switches on.

On the messages of tritonclient, so that a wrong number in edgekit's own .proto would be noticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from tests.conformance.small_server import EXTENSIONS, INPUTS, NAME

Code = grpc.StatusCode


class RefusedError(Exception):
    def __init__(self, code: Code = Code.INVALID_ARGUMENT) -> None:
        self.code = code
        super().__init__(code.name)


class SmallGrpc(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, faults: set[str]) -> None:
        self.faults, self.count = faults, 0

    def has(self, fault: str) -> bool:
        return fault in self.faults

    def ServerLive(self, _: Any, __: Any) -> Any:  # noqa: N802
        return pb.ServerLiveResponse(live=True)

    def ServerReady(self, _: Any, __: Any) -> Any:  # noqa: N802
        return pb.ServerReadyResponse(ready=not self.has("is not ready"))

    def ModelReady(self, _: Any, __: Any) -> Any:  # noqa: N802
        return pb.ModelReadyResponse(ready=True)

    def ServerMetadata(self, _: Any, __: Any) -> Any:  # noqa: N802
        version = "2" if self.has("another version than REST's") else "1"
        return pb.ServerMetadataResponse(name=NAME, version=version, extensions=EXTENSIONS)

    def ModelMetadata(self, _: Any, __: Any) -> Any:  # noqa: N802
        found = pb.ModelMetadataResponse(name=NAME, versions=["1"], platform="numpy")
        batch = [] if self.has("shapes without the batch") else [-1]
        for tensors in (found.inputs, found.outputs):
            for name, (kind, count) in INPUTS.items():
                tensors.add(name=name, datatype=kind, shape=[*batch, count])
        return found

    def RepositoryIndex(self, _: Any, __: Any) -> Any:  # noqa: N802
        found = pb.RepositoryIndexResponse()
        if not self.has("an empty index"):
            found.models.add(name=NAME, version="1", state="READY")
        return found

    def ModelStatistics(self, _: Any, __: Any) -> Any:  # noqa: N802
        found = pb.ModelStatisticsResponse()
        found.model_stats.add(name=NAME, version="1").inference_stats.success.count = self.count
        return found

    def ModelInfer(self, message: Any, context: Any) -> Any:  # noqa: N802
        try:
            return self.answer(message)
        except RefusedError as error:
            code = Code.UNKNOWN if self.has("every error is UNKNOWN") else error.code
            context.abort(code, str(error))

    def ModelStreamInfer(self, messages: Iterator[Any], _: Any) -> Iterator[Any]:  # noqa: N802
        answers = []
        for message in messages:
            try:
                answers.append(pb.ModelStreamInferResponse(infer_response=self.answer(message)))
            except RefusedError as error:
                answers.append(pb.ModelStreamInferResponse(error_message=str(error)))
                if self.has("an error ends the stream"):
                    break
        yield from reversed(answers) if self.has("answers in any order") else answers

    def answer(self, message: Any) -> Any:
        if message.model_name != NAME:
            raise RefusedError(Code.NOT_FOUND)
        if message.model_version not in {"", "1"} and not self.has("any version"):
            raise RefusedError(Code.NOT_FOUND)
        raw = list(message.raw_input_contents)
        if self.has("more tensors than inputs"):
            del raw[len(message.inputs) :]
        if raw and len(raw) != len(message.inputs):
            raise RefusedError
        feeds = {
            entry.name: self.tensor(entry, raw[index] if raw else None)
            for index, entry in enumerate(message.inputs)
        }
        if feeds.keys() != INPUTS.keys():
            raise RefusedError
        outputs = {"number": feeds["number"] * 2, "text": feeds["text"]}
        response = pb.ModelInferResponse(model_name=NAME, model_version="1")
        if not self.has("drops the id"):
            response.id = message.id
        for name, classes in self.wanted(message):
            self.add(response, name, outputs[name], classes)
        self.count += not self.has("successes are not counted")
        return response

    def tensor(self, entry: Any, raw: bytes | None) -> Any:
        kind, size = INPUTS.get(entry.name, (None, 0))
        shape = list(entry.shape)
        if entry.datatype != kind or len(shape) != 2 or shape[0] < 0 or shape[1] != size:
            raise RefusedError
        if raw is None:
            if self.has("raw tensors only"):
                raise RefusedError
            values = entry.contents.fp32_contents or entry.contents.bytes_contents
            return np.array(list(values), np.float32 if kind == "FP32" else object).reshape(shape)
        if entry.contents.ByteSize():
            raise RefusedError
        if self.has("pads what is short"):
            raw = raw.ljust(4 * size * shape[0], b"\0")
        if kind == "FP32" and len(raw) != 4 * size * shape[0]:
            raise RefusedError
        found = np.frombuffer(raw, "<f4") if kind == "FP32" else deserialize_bytes_tensor(raw)
        return found.reshape(shape)

    def wanted(self, message: Any) -> list[tuple[str, int]]:
        listed = [
            (out.name, out.parameters["classification"].int64_param) for out in message.outputs
        ]
        names = [name for name, _ in listed]
        if set(names) - INPUTS.keys() or len(set(names)) != len(names):
            raise RefusedError
        if not names or self.has("all outputs always"):
            return [(name, dict(listed).get(name, 0)) for name in INPUTS]
        return listed

    def add(self, response: Any, name: str, array: Any, classes: int) -> None:
        if classes:
            order = np.argsort(-array, axis=1)[:, :classes]
            best = order[:, ::-1] + 1 if self.has("the worst classes") else order
            rows = [[f"{array[0, i % 3]}:{i}".encode() for i in row] for row in best]
            array = np.array(rows, object)
        text = array.dtype.kind == "O"
        response.outputs.add(name=name, datatype="BYTES" if text else "FP32", shape=array.shape)
        raw = serialize_byte_tensor(array).item() if text else array.astype("<f4").tobytes()
        response.raw_output_contents.append(raw)


@contextmanager
def small_grpc(*faults: str) -> Iterator[str]:
    """The address of the gRPC side with these faults."""
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(SmallGrpc(set(faults)), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
