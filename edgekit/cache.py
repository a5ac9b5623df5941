"""Where edgekit keeps what can be made again."""

from __future__ import annotations

import logging
import os
from pathlib import Path

__all__ = ["cache_folder", "writeable"]

_log = logging.getLogger(__name__)


def cache_folder(kind: str) -> Path:
    """``kind`` in ``$EDGEKIT_CACHE``, else ``$XDG_CACHE_HOME/edgekit``, else ``~/.cache/edgekit``.

    The folder need not exist.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("EDGEKIT_CACHE") or Path(base) / "edgekit") / kind


def writeable(folder: Path | None) -> Path | None:
    """``folder``, made if it is missing; None, and a logged warning, where it cannot be written.

    A cache saves time; without one the work is done all the same.
    """
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _log.warning("nothing is cached in %s: %s", folder, error.strerror or error)
        return None
    if not os.access(folder, os.W_OK):
        _log.warning("nothing is cached in %s: it is not writeable", folder)
        return None
    return folder
