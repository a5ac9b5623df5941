"""The gRPC messages of the Open Inference Protocol, in a descriptor pool of their own.

``inference.proto`` is compiled to ``inference.binpb``, a descriptor set, and the message classes
are made from that when this is imported. protoc's usual Python module would register the package
``inference`` in the process-wide pool, where the clients of Triton and KServe register theirs: two
of them in one process is a ``TypeError``. A descriptor set also works with every release of
protobuf, generated code only with its own and later ones.

After a change of ``inference.proto``::

    cd edgekit/serve/proto
    python -m grpc_tools.protoc -I. --descriptor_set_out=inference.binpb inference.proto
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["METHODS", "SERVICE", "Method", "messages"]

#: Full name of the service.
SERVICE = "inference.GRPCInferenceService"


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC of the service; ``stream``: both sides send any number of messages."""

    path: str
    request: Any
    response: Any
    stream: bool


def _pool() -> Any:
    stored = (files("edgekit.serve.proto") / "inference.binpb").read_bytes()
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(stored).file
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_SERVICE = _pool().FindServiceByName(SERVICE)

#: Message classes by name: ``messages.ModelInferRequest(model_name="a")``.
messages = SimpleNamespace(
    **{
        name: message_factory.GetMessageClass(descriptor)
        for name, descriptor in _SERVICE.file.message_types_by_name.items()
    }
)

#: The RPCs by name.
METHODS: dict[str, Method] = {
    method.name: Method(
        path=f"/{SERVICE}/{method.name}",
        request=message_factory.GetMessageClass(method.input_type),
        response=message_factory.GetMessageClass(method.output_type),
        stream=method.client_streaming,
    )
    for method in _SERVICE.methods
}
