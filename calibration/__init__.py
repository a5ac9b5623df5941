"""Calibration data, streaming statistics, range estimators and the calibration table."""

from __future__ import annotations

from edgekit.calibration.base import Observer, Range
from edgekit.calibration.collect import collect, rows
from edgekit.calibration.min_max import MinMaxObserver
from edgekit.calibration.percentile import PercentileObserver
from edgekit.calibration.table import CalibrationTable

__all__ = [
    "CalibrationTable",
    "MinMaxObserver",
    "Observer",
    "PercentileObserver",
    "Range",
    "collect",
    "rows",
]
