"""The contract of an exporter: turn an ONNX file into what one runtime loads.

A vendor adds one by registering an object that satisfies :class:`Exporter` under the entry-point
group ``edgekit.exporters``, named as the runtime it writes for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal, Protocol

__all__ = ["ExportOptions", "Exporter", "Format", "ShapeRange"]

Format = Literal[
    "executorch", "ncnn", "onnx", "openvino-ir", "ort", "tensorrt-engine", "tflite", "torch-program"
]


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """The smallest, the typical and the largest shape of an input with a dynamic dimension."""

    smallest: tuple[int, ...]
    typical: tuple[int, ...]
    largest: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What an exporter may want to know beside the graph.

    Attributes:
        gpu: compute capability such as ``sm89``, for engines that are tied to one.
        shapes: for each input with a dynamic dimension, for engines that take some sizes only.
        told: hears of each graph pass that was undone because it changed a result; None where the
            artifact is only timed or tried, and graph passes need not prove themselves again.
        workspace: bytes of scratch memory that a GPU kernel may use; None for what there is.
        refit: let the weights of a GPU engine be exchanged later.
        program: the same model as a ``.pt2`` file, for an exporter that needs it; None when the
            model is not a PyTorch module.
        native: the artifact is for processors like this one, and may hold what fits no other.
    """

    gpu: str | None
    shapes: Mapping[str, ShapeRange]
    _: KW_ONLY
    told: Callable[[str], None] | None = None
    workspace: int | None = None
    refit: bool = False
    program: Path | None = None
    native: bool = False


class Exporter(Protocol):
    """Writes artifacts for one runtime."""

    @property
    def format(self) -> Format:
        """What :meth:`export` writes."""

    @property
    def newest_opset(self) -> int:
        """The newest ONNX operator set that every supported release of the runtime reads."""

    @property
    def needs_gpu_target(self) -> bool:
        """Whether an artifact is tied to one GPU generation, given in ``ExportOptions.gpu``."""

    @property
    def needs_program(self) -> bool:
        """Whether it converts what PyTorch traced instead of the graph, see ``ExportOptions``."""

    def export(self, onnx_path: Path, stem: Path, options: ExportOptions) -> list[Path]:
        """Write the artifact of ``onnx_path`` to ``stem`` plus the format's own suffixes.

        Returns:
            The files written; the first is the one to load.

        Raises:
            ExportError: the tool is missing or cannot convert the graph.
        """
