"""A traced program of one sample as a LiteRT model."""

from __future__ import annotations

import re
from collections.abc import Mapping

import litert_torch
import torch
from ai_edge_litert.interpreter import Interpreter
from edgekit.exporters.base import ShapeRange
from edgekit.exporters.bounded import Ranges, bounded
from edgekit.exporters.unsupported import unsupported
from torch import nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from edgekit.errors import ExportError, UnsupportedOperatorError
from edgekit.programs import NamedProgram, keyword_names

__all__ = ["converted", "single"]

#: So many samples one call may have: any number, as they are run one after the other.
_ANY = 2**31 - 1


def single(named: NamedProgram, shapes: Mapping[str, ShapeRange]) -> tuple[NamedProgram, Ranges]:
    """The program for one sample, every size fixed.

    Args:
        named: the program.
        shapes: for each input with a dynamic dimension; one that does not count samples has to
            have one size there.

    Returns:
        The program, and the smallest and largest size of each dynamic dimension of ``named``.

    Raises:
        ExportError: a dimension has several sizes, or the model cannot be traced so.
    """
    batch = _batch(named)
    sizes = dict.fromkeys(batch, 1)
    for spec in named.inputs:
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, str) and dim not in sizes:
                sizes[dim] = _only_size(spec.name, axis, dim, shapes.get(spec.name))
    fixed = {spec.name: ShapeRange(*[spec.concrete(sizes)] * 3) for spec in named.inputs}
    program, ranges = bounded(named, fixed)
    ranges |= dict.fromkeys(batch, (1, _ANY))
    return NamedProgram(program, named.inputs, named.outputs), ranges


def _only_size(name: str, axis: int, dim: str, shape: ShapeRange | None) -> int:
    if shape is None or shape.smallest[axis] != shape.largest[axis]:
        raise ExportError(
            f"dimension {dim!r} is dynamic; LiteRT's converter takes fixed sizes",
            where=f"tensor {name!r}",
            fix=f"Fix it, with --range {dim}=16:16:16, say, or leave litert out with --runtime",
        )
    return shape.largest[axis]


def _batch(named: NamedProgram) -> set[str]:
    """The dimension that counts samples: axis 0 of all inputs and outputs, and nothing else."""
    specs = (*named.inputs, *named.outputs)
    first = {spec.shape[0] if spec.shape else 1 for spec in specs}
    others = {dim for spec in specs for dim in spec.shape[1:]}
    return {dim for dim in first - others if isinstance(dim, str)} if len(first) == 1 else set()


def converted(named: NamedProgram, where: str) -> bytes:
    """The ``.tflite`` file of a program whose sizes are fixed.

    Its inputs are called ``args_0``, ``args_1`` and so on in the order of the program's, its
    outputs ``output_0`` and so on. Types of 64 bits stay what they are.

    Args:
        named: the program.
        where: what it is the program of, for the errors.

    Raises:
        UnsupportedOperatorError: LiteRT has no counterpart of an operator.
        ExportError: anything else that the converter refuses.
    """
    examples, keywords = named.program.example_inputs
    try:
        made = litert_torch.convert(
            _Ordered(named.program), (*examples, *keywords.values()), enable_x64=True
        )
        model = bytes(made.model_content())
    except Exception as error:  # the converter raises many unrelated types
        raise _refusal(named.program, where, error) from error
    try:
        Interpreter(model_content=model).allocate_tensors()
    except (RuntimeError, ValueError) as error:
        lacking = re.search(r"builtin opcode '(\w+)'", str(error))
        if lacking:
            raise UnsupportedOperatorError(lacking[1], "", "LiteRT") from error
        raise _refusal(named.program, where, error) from error
    return model


class _Ordered(nn.Module):
    """Takes and gives tensors by position, whatever the model calls them."""

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__()
        self.model = program.module()
        self.keywords = keyword_names(program)
        self.training = False  # the converter asks; what was traced refuses eval()

    def forward(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        count = len(tensors) - len(self.keywords)
        by_name = dict(zip(self.keywords, tensors[count:], strict=True))
        return tree_leaves(self.model(*tensors[:count], **by_name))


def _refusal(program: ExportedProgram, where: str, error: Exception) -> ExportError:
    operator = re.search(r"Lowering not found: (\w+\.\w+)", str(error))
    if operator:
        return unsupported(program, operator[1], "LiteRT")
    told = " ".join(str(error).split())[:200] or type(error).__name__
    return ExportError(
        f"LiteRT's converter refuses it: {told}",
        where=where,
        fix="Leave litert out with --runtime; --debug shows the traceback",
    )
