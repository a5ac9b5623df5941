"""Programs of ``torch.export`` in ``.pt2`` files: what they take and give, with names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.export import ExportedProgram

from edgekit.errors import SpecError
from edgekit.quiet import quiet
from edgekit.spec import BATCH, TensorSpec, from_rows, to_rows

__all__ = ["NamedProgram", "input_specs", "keyword_names", "load_program", "save_program"]

#: The file inside a ``.pt2`` archive that names inputs, outputs and dimensions.
_SPECS = "edgekit.json"


@dataclass(frozen=True, slots=True)
class NamedProgram:
    """A program with names.

    Attributes:
        program: what ``torch.export`` made.
        inputs: its tensors, in the order of its arguments.
        outputs: its results, in order.
    """

    program: ExportedProgram
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def save_program(
    program: ExportedProgram,
    path: Path,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> None:
    """Write a ``.pt2`` file whose tensors and dimensions have names of the caller's."""
    specs = [to_rows(inputs), to_rows(outputs)]
    with quiet():
        torch.export.save(program, path, extra_files={_SPECS: json.dumps(specs)})


def load_program(path: Path) -> NamedProgram:
    """Read a ``.pt2`` file; names that :func:`save_program` did not write are made up.

    Raises whatever PyTorch does when it is none. Such a file can hold pickled parts: like every
    model file, it has to come from somebody who is trusted.
    """
    extra = {_SPECS: ""}
    with quiet():
        program = torch.export.load(path, extra_files=extra)
    if not extra[_SPECS]:
        return NamedProgram(program, input_specs(program), _output_specs(program))
    inputs, outputs = map(from_rows, json.loads(extra[_SPECS]))
    return NamedProgram(program, inputs, outputs)


def input_specs(program: ExportedProgram) -> tuple[TensorSpec, ...]:
    """What a program takes, by the names of its arguments.

    A dynamic first dimension is the batch; other dynamic ones are numbered.

    Raises:
        SpecError: an argument is not a tensor, or is nested in another.
    """
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    arguments = program.example_inputs[0] if program.example_inputs else ()
    keywords = keyword_names(program)
    inputs = [(str(name), values.get(str(name))) for name in program.graph_signature.user_inputs]
    if len(inputs) != len(arguments) + len(keywords) or not all(
        isinstance(value, torch.Tensor) for _, value in inputs
    ):
        raise SpecError(
            "takes nested inputs, or some that are no tensors",
            fix="Export it with tensor inputs only",
        )
    labels: dict[str, str] = {}
    return tuple(
        _spec(name, value, labels) for name, value in inputs if isinstance(value, torch.Tensor)
    )


def keyword_names(program: ExportedProgram) -> list[str]:
    """The arguments that it takes by keyword: the last ones."""
    return list(program.example_inputs[1]) if program.example_inputs else []


def _spec(name: str, tensor: torch.Tensor, labels: dict[str, str]) -> TensorSpec:
    shape: list[int | str] = []
    for axis, size in enumerate(tensor.shape):
        label = BATCH if not labels and axis == 0 else f"dim_{len(labels)}"
        fixed = isinstance(size, int)
        shape.append(size if fixed else labels.setdefault(str(size), label))
    return TensorSpec(name, _dtype(tensor), tuple(shape))


def _output_specs(program: ExportedProgram) -> tuple[TensorSpec, ...]:
    """What it gives: ``output``, or ``output_0``, ``output_1`` and so on."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    results = [values[str(name)] for name in program.graph_signature.user_outputs]
    names = [f"output_{i}" for i in range(len(results))] if len(results) > 1 else ["output"]
    return tuple(
        TensorSpec(
            name,
            _dtype(result),
            tuple(x if isinstance(x, int) else f"{name}_{i}" for i, x in enumerate(result.shape)),
        )
        for name, result in zip(names, results, strict=True)
    )


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
