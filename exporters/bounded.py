"""Give every dynamic dimension of a traced program a largest size, which some engines plan for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from edgekit.exporters.base import ShapeRange
from torch.export import ExportedProgram
from torch.utils._sympy.value_ranges import bound_sympy

from edgekit.errors import ExportError
from edgekit.programs import NamedProgram, keyword_names
from edgekit.quiet import quiet

__all__ = ["Ranges", "bounded"]

#: Smallest and largest size of a dimension, by its name.
Ranges: TypeAlias = dict[str, tuple[int, int]]


def bounded(
    named: NamedProgram, shapes: Mapping[str, ShapeRange]
) -> tuple[ExportedProgram, Ranges]:
    """Trace a program again, with the largest sizes.

    Converters look at the sizes that a program was traced with, and may take for a bound of the
    dimension what only chose a kernel: traced with two images, a convolution that PyTorch computes
    otherwise from 16 images on is bounded to 15 of them. Traced with the most, nothing is lost.

    Args:
        named: the program.
        shapes: for each input with a dynamic dimension.

    Returns:
        The program, and the smallest and largest size of each dynamic dimension. They are equal
        where the model's code fixes what it unrolls (the steps of an LSTM) to the traced size.

    Raises:
        ExportError: there is no range for an input, or the model does not take the largest size.
    """
    wanted = _ranges(named, shapes)
    if not wanted:
        return named.program, {}
    try:
        with quiet():
            program = _traced(named, wanted)
    except Exception as error:  # torch.export raises many unrelated types
        sizes = ", ".join(f"{dim} {most}" for dim, (_, most) in wanted.items())
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise ExportError(
            f"the model cannot be traced at its largest size, {sizes}: {told}",
            where="torch.export",
            fix="Give a range that it takes with --range",
        ) from error
    return program, wanted | _fixed(named, program)


def _ranges(named: NamedProgram, shapes: Mapping[str, ShapeRange]) -> Ranges:
    """Smallest and largest size of each dynamic dimension; the model's own bound, if it is less."""
    ranges: Ranges = {}
    for spec, traced in zip(named.inputs, _input_shapes(named.program), strict=True):
        for axis, (dim, size) in enumerate(zip(spec.shape, traced, strict=True)):
            if isinstance(dim, int) or dim in ranges:
                continue
            if spec.name not in shapes:
                raise ExportError(
                    f"dimension {dim!r} has no largest size",
                    where=f"tensor {spec.name!r}",
                    fix="Give ExportOptions.shapes a range for it",
                )
            least, most = shapes[spec.name].smallest[axis], shapes[spec.name].largest[axis]
            own = bound_sympy(size.node.expr, named.program.range_constraints)
            most = int(min(most, own.upper))
            ranges[dim] = (min(least, most), most)
    return ranges


def _traced(named: NamedProgram, ranges: Ranges) -> ExportedProgram:
    sizes = {dim: most for dim, (_, most) in ranges.items()}
    free: Any = torch.export.ShapesCollection()
    examples = []
    for spec in named.inputs:
        example = torch.zeros(spec.concrete(sizes), dtype=getattr(torch, spec.dtype))
        free[example] = {
            axis: torch.export.Dim.AUTO(min=ranges[dim][0], max=ranges[dim][1])
            for axis, dim in enumerate(spec.shape)
            if isinstance(dim, str) and ranges[dim][0] < ranges[dim][1]
        }
        examples.append(example)
    keywords = keyword_names(named.program)
    positional = tuple(examples[: len(examples) - len(keywords)])
    by_name = dict(zip(keywords, examples[len(positional) :], strict=True))
    return torch.export.export(named.program.module(), positional, by_name, dynamic_shapes=free)


def _input_shapes(program: ExportedProgram) -> list[tuple[Any, ...]]:
    """The shape of each input: numbers, and symbols for dynamic dimensions."""
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    return [values[str(name)].shape for name in program.graph_signature.user_inputs]


def _fixed(named: NamedProgram, program: ExportedProgram) -> Ranges:
    """The dimensions of ``named`` that are no longer dynamic in ``program``."""
    return {
        dim: (known, known)
        for spec, sizes in zip(named.inputs, _input_shapes(program), strict=True)
        for dim, size in zip(spec.shape, sizes, strict=True)
        if isinstance(dim, str) and (known := _known(size)) is not None
    }


def _known(size: int | torch.SymInt) -> int | None:
    """A size in numbers; None for one that is still free."""
    known: int | None = size if isinstance(size, int) else size.node.maybe_as_int()
    return known
