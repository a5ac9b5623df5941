"""Calibration data, streaming statistics, range estimators and the calibration table."""

from __future__ import annotations

from edgekit.calibration.base import NotFiniteError, Observer, Range, Several, Statistic
from edgekit.calibration.cache import TableCache, default_cache
from edgekit.calibration.collect import Calibrator, observing, rows
from edgekit.calibration.estimators import ESTIMATORS, Estimator, EstimatorName
from edgekit.calibration.min_max import MinMaxObserver
from edgekit.calibration.percentile import PercentileObserver
from edgekit.calibration.statistics import ChannelMean, ChannelRange, Gram, PatchGram, RowSample
from edgekit.calibration.table import CalibrationTable

__all__ = [
    "ESTIMATORS",
    "CalibrationTable",
    "Calibrator",
    "ChannelMean",
    "ChannelRange",
    "Estimator",
    "EstimatorName",
    "Gram",
    "MinMaxObserver",
    "NotFiniteError",
    "Observer",
    "PatchGram",
    "PercentileObserver",
    "Range",
    "RowSample",
    "Several",
    "Statistic",
    "TableCache",
    "default_cache",
    "observing",
    "rows",
]
