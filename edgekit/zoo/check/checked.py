"""What every suite tells of each thing that it checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Checked", "Checks"]


@dataclass(frozen=True, slots=True)
class Checks:
    """What is tried beside the rest.

    Attributes:
        plain: ``torch.onnx.export`` alone, to compare architectures with.
        gpu: build a TensorRT-RTX engine for this GPU generation.
    """

    plain: bool = True
    gpu: str | None = None


class Checked(BaseModel):
    """What became of one of them.

    Attributes:
        kind: its name in the suite.
        family: the group that it belongs to.
        reasons: what went wrong, by stage.
        seconds: how long all of it took.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    kind: str
    family: str = ""
    reasons: dict[str, str] = Field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def died(cls, kind: str, reason: str) -> Self:
        """Of one that took its process along, or too long."""
        return cls(kind=kind, reasons={"process": reason})
