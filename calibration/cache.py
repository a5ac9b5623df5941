"""Calibration tables kept between processes, by the hash of model and data."""

from __future__ import annotations

import logging
from pathlib import Path

from edgekit.calibration.table import CalibrationTable
from pydantic import ValidationError

from edgekit.atomic import write_file
from edgekit.cache import cache_folder
from edgekit.errors import EdgekitError

__all__ = ["TableCache", "default_cache"]

_log = logging.getLogger(__name__)


class TableCache:
    """A folder of tables, ``KEY-DATA.json``.

    The key stands for the graph, its tensors and the estimator; the data's hash comes after it,
    so that the data has to be read (and hashed) only when there is a table to compare with. A
    cache that cannot be written or read costs time, never the work: it is logged and passed over.

    Args:
        folder: made when the first table is put there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> list[CalibrationTable]:
        """The tables under ``key``, one a data set."""
        found = []
        for path in self._folder.glob(f"{key}-*.json"):
            try:
                table = CalibrationTable.model_validate_json(path.read_bytes())
            except (OSError, ValidationError) as error:
                _log.warning("cached calibration table %s is unreadable: %s", path.name, error)
                continue
            found.append(table.model_copy(update={"cached": True}))
        return found

    def put(self, key: str, table: CalibrationTable) -> None:
        """Keep ``table`` under ``key``."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{key}-{table.data}.json"
            write_file(path, table.model_dump_json().encode())
        except (OSError, EdgekitError) as error:
            _log.warning("the calibration table was not cached: %s", error)


def default_cache() -> TableCache:
    """The tables of this user."""
    return TableCache(cache_folder("calibration"))
