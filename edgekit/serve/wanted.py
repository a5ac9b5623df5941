"""What a request asks for, whichever way it came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgekit.serve.classification import classified
from edgekit.serve.errors import ServeError
from edgekit.spec import Array, Outputs

__all__ = ["InferRequest", "RequestedOutput", "wanted"]


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output the client wants.

    Attributes:
        name: of the output.
        binary: whether as binary.
        classes: how many of the best classes instead of the tensor; 0 for the tensor.
    """

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A parsed inference request.

    Attributes:
        id: the client's id, echoed in the response; None when there was none.
        inputs: tensors by name, of the dtype and shape that the client declared.
        outputs: the outputs the client asked for; empty for all.
        binary: whether outputs that were not asked for one by one are sent as binary.
        priority: 1 goes first; 0 when the client named none.
        timeout: seconds that the client waits; None when it named none.
        profile: whether the client wants to know how long each stage took.
    """

    id: str | None
    inputs: Mapping[str, Array]
    outputs: tuple[RequestedOutput, ...]
    binary: bool
    priority: int = 0
    timeout: float | None = None
    profile: bool = False


def wanted(
    request: InferRequest, outputs: Outputs, labels: Sequence[str]
) -> Iterator[tuple[RequestedOutput, Array]]:
    """The outputs that a request asks for, all where it names none, with what is sent of each.

    Raises:
        ServeError: an unknown output was asked for, or one without scores as classes.
    """
    named = request.outputs or tuple(RequestedOutput(name, request.binary) for name in outputs)
    for output in named:
        array = outputs.get(output.name)
        if array is None:
            known = ", ".join(outputs)
            raise ServeError(f"unknown output {output.name!r}, the model has {known}")
        if output.classes:
            array = classified(output.name, array, output.classes, labels)
        yield output, array
