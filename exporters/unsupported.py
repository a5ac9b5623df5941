"""Where an operator comes from that cannot be exported, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from edgekit.exporters.rewrites import REWRITES

from edgekit.errors import UnsupportedOperatorError

__all__ = ["unsupported"]


def unsupported(
    program: torch.export.ExportedProgram, operator: str, target: str = "ONNX"
) -> UnsupportedOperatorError:
    """The error of an operator that the converter has no function for.

    Args:
        program: as it was traced, with the operators that were written.
        operator: the one that was left when the converter had decomposed those,
            ``prims.bessel_j0`` of ``aten.special_bessel_j0``.
        target: the format that lacks it.
    """
    node = next(_nodes(program, operator), None)
    if node is None:
        return UnsupportedOperatorError(operator, "", target, rewrite=REWRITES.get(operator, ""))
    written = _written(node)
    return UnsupportedOperatorError(
        written, _module(node), target, source=_source(node), rewrite=REWRITES.get(written, "")
    )


def _nodes(program: torch.export.ExportedProgram, operator: str) -> Iterator[torch.fx.Node]:
    """Its calls: as written, or else in what the operators decompose into."""
    table = dict(torch._decomp.decomposition_table)  # noqa: SLF001, it has no public home
    for decomposed in (
        lambda: program,
        program.run_decompositions,
        lambda: program.run_decompositions(table),
    ):
        for node in decomposed().graph.nodes:
            if node.op == "call_function" and _name(node) == operator:
                yield node


def _name(node: torch.fx.Node | torch.fx.traceback.NodeSource) -> str:
    """The operator without its overload, ``aten.cumprod``."""
    return str(node.target).rpartition(".")[0]


def _written(node: torch.fx.Node) -> str:
    """The operator that the traced program has where a decomposed one has ``node``."""
    sources = node.meta.get("from_node", [])
    return _name(sources[0]) if sources else _name(node)


def _module(node: torch.fx.Node) -> str:
    """Dotted path and class of the module that calls it."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if not stack:
        return ""
    path, kind = stack[-1]
    label = kind if isinstance(kind, str) else kind.__qualname__
    return f"{path or 'model'} ({label.rpartition('.')[2]})"


def _source(node: torch.fx.Node) -> str:
    """File and line of the innermost code that is not PyTorch's own."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    torchs = str(Path(torch.__file__).parent)
    outside = [f"{file}:{line}" for file, line in frames if not file.startswith(torchs)]
    return outside[-1] if outside else ""
