"""What building makes: artifacts, and the models that they are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.compress.base import Learned
from edgekit.manifest import Artifact, PassRecord
from edgekit.workload import Workload

__all__ = ["CHANGED", "ORIGINAL", "SMALLER", "Built", "Changed", "Source"]

#: Which PyTorch model an artifact was made from: the workload's, what the recipe's passes made of
#: it, or the smaller variant that the workload offers.
ORIGINAL, CHANGED, SMALLER = "original", "changed", "smaller"


@dataclass(frozen=True, slots=True)
class Built:
    """One artifact.

    Attributes:
        artifact: what the bundle says of it.
        onnx: the graph it was made from, which can be run to check it.
        path: the file to load.
        model: the PyTorch model it was made from.
    """

    artifact: Artifact
    onnx: Path
    path: Path
    model: str = ORIGINAL


@dataclass(frozen=True, slots=True)
class Changed:
    """What the module passes of a recipe made.

    Attributes:
        workload: the given one with the changed module.
        label: what its artifacts are called (``pruned``), empty when nothing names them.
        learned: see :class:`~edgekit.compress.base.Trained`.
        passes: what each did; empty when no pass changed anything.
    """

    workload: Workload
    label: str = ""
    learned: Mapping[str, Learned] = field(default_factory=dict)
    passes: tuple[PassRecord, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether any pass changed anything."""
        return any(record.changed for record in self.passes)


@dataclass(frozen=True, slots=True)
class Source:
    """The ONNX file that compressed artifacts are made from.

    Attributes:
        onnx: the file.
        label: what their precision is called besides.
        learned: see :class:`~edgekit.compress.base.Trained`.
        model: the PyTorch model it is.
        program: what it was traced to, where an exporter wants that.
    """

    onnx: Path
    label: str = ""
    learned: Mapping[str, Learned] = field(default_factory=dict)
    model: str = ORIGINAL
    program: Path | None = None
