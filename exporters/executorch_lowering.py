"""A traced program as ExecuTorch runs it: delegated to XNNPACK where that can compute it."""

from __future__ import annotations

import re
from typing import Any

from edgekit.exporters.unsupported import unsupported
from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
from executorch.backends.xnnpack.partition.config.generic_node_configs import UnsqueezeCopyConfig
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.extension.pybindings import _C
from torch.export import ExportedProgram
from torch.fx import Node

from edgekit.errors import ExportError
from edgekit.quiet import quiet

__all__ = ["lowered"]

_ENGINE = "ExecuTorch"


class _Unsqueeze(UnsqueezeCopyConfig):  # type: ignore[misc]
    """The partitioner's own rule takes what XNNPACK then refuses: two dynamic dimensions."""

    def check_constraints(self, node: Node, program: ExportedProgram) -> bool:
        fixed = [isinstance(size, int) for size in node.meta["val"].shape]
        return fixed.count(False) <= 1 and bool(super().check_constraints(node, program))


_CONFIGS = [
    _Unsqueeze if config is UnsqueezeCopyConfig else config for config in ALL_PARTITIONER_CONFIGS
]


def lowered(program: ExportedProgram, where: str) -> Any:
    """Lower a program whose dimensions have upper bounds.

    Args:
        program: what to lower.
        where: what it is the program of, for the errors.

    Returns:
        An ``ExecutorchProgramManager``.

    Raises:
        UnsupportedOperatorError: ExecuTorch has no kernel for an operator.
        ExportError: anything else that ExecuTorch refuses.
    """
    with quiet():
        try:
            edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner(_CONFIGS)])
            made = edge.to_executorch()
        except Exception as error:  # passes and verifiers raise many unrelated types
            raise _refusal(program, where, error) from error
        known = _C._get_operator_names()  # noqa: SLF001, what its portable_lib makes public
        for operator in made.executorch_program.execution_plan[0].operators:
            if ".".join(filter(None, (operator.name, operator.overload))) not in known:
                name = operator.name.replace("::", ".").removesuffix("_copy")
                raise unsupported(program, name, _ENGINE)  # or it would be found when it is loaded
    return made


def _refusal(program: ExportedProgram, where: str, error: Exception) -> ExportError:
    operator = re.search(r"Operator torch\._ops\.(\w+\.\w+)\.\w+ is not in Core ATen", str(error))
    if operator:
        return unsupported(program, operator[1], _ENGINE)
    lines = " ".join(str(error).split())[:300] or type(error).__name__
    return ExportError(
        f"{_ENGINE} cannot lower it: {lines}",
        where=where,
        fix="Leave executorch out with --runtime, or fix a size: --range NAME=8:8:8, say",
    )
