"""The calibration table: one range a tensor, with what it was estimated from."""

from __future__ import annotations

from edgekit.calibration.base import Range
from pydantic import BaseModel, ConfigDict

__all__ = ["CalibrationTable"]


class CalibrationTable(BaseModel):
    """Ranges of activation tensors by their ONNX name.

    Attributes:
        observer: name of the range estimator, with its parameter.
        samples: how many samples (rows of the batch axis) were seen.
        ranges: one :class:`Range` a tensor.
        model: sha256 of the ONNX graph that was run.
        data: sha256 of the samples that it was run on.
        cached: whether it was read from the cache instead of being made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    observer: str
    samples: int
    ranges: dict[str, Range]
    model: str = ""
    data: str = ""
    cached: bool = False
