"""The range estimators by the names that recipes give them."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from edgekit.calibration.base import Observer
from edgekit.calibration.entropy import EntropyObserver
from edgekit.calibration.min_max import MinMaxObserver
from edgekit.calibration.moving_average import MovingAverageObserver
from edgekit.calibration.mse import MseObserver
from edgekit.calibration.percentile import PercentileObserver
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ESTIMATORS", "Estimator", "EstimatorName"]

EstimatorName: TypeAlias = Literal["min-max", "moving-average", "percentile", "entropy", "mse"]

ESTIMATORS: tuple[str, ...] = get_args(EstimatorName)


class Estimator(BaseModel):
    """A range estimator and its parameter.

    Attributes:
        name: ``min-max`` keeps every value; ``moving-average`` averages each batch's extremes;
            ``percentile`` clips outliers; ``entropy`` minimizes the Kullback-Leibler divergence
            as TensorRT does; ``mse`` minimizes the squared error.
        percentile: share of the values inside the range, in percent, for ``percentile``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: EstimatorName = "percentile"
    percentile: float = Field(default=99.999, gt=50.0, le=100.0)

    def observer(self) -> Observer:
        """A fresh one for one tensor."""
        match self.name:
            case "min-max":
                return MinMaxObserver()
            case "moving-average":
                return MovingAverageObserver()
            case "entropy":
                return EntropyObserver()
            case "mse":
                return MseObserver()
            case "percentile":
                return PercentileObserver(self.percentile)

    def __str__(self) -> str:
        return f"percentile {self.percentile:g}" if self.name == "percentile" else self.name
