"""The settings that a bundle runs with unless it is told otherwise, as measurements chose them."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from edgekit.bundle import Bundle, seal, writing
from edgekit.machine import Machine, this_machine
from edgekit.manifest import Defaults
from edgekit.runtimes import SessionOptions

__all__ = ["defaults_of", "options_for", "write_defaults"]

_log = logging.getLogger(__name__)

_SIGNATURE = "bundle.json.sig"
_REWRITTEN = frozenset({"bundle.json", "bundle.json.sha256", _SIGNATURE})


def defaults_of(bundle: Bundle, runtime: str, machine: Machine | None = None) -> Defaults:
    """What the bundle says of a runtime; nothing where that was measured on another machine.

    Two threads that were best on two cores tell nothing of eight.
    """
    known = bundle.manifest.defaults.get(runtime)
    here = machine or this_machine()
    if known is None:
        return Defaults()
    if (known.cpu, known.cores) != (here.cpu, here.cores):
        _log.info(
            "%s: its settings for %s were measured on %s with %d cores, so they are not used here",
            *(bundle.path, runtime, known.cpu, known.cores),
        )
        return Defaults()
    return known


def options_for(bundle: Bundle, runtime: str) -> SessionOptions:
    """How to load an artifact for that runtime with the bundle's own settings.

    ::

        session = runtimes.require("openvino").load(
            bundle.file(bundle.selected("openvino")), options_for(bundle, "openvino")
        )
    """
    known = defaults_of(bundle, runtime)
    return SessionOptions(threads=known.threads, device=known.device)


def write_defaults(bundle: Bundle, defaults: Mapping[str, Defaults]) -> bool:
    """Store settings in a bundle, by runtime; those of other runtimes stay.

    The bundle is replaced in one step, see :func:`~edgekit.bundle.writing`; its artifacts are
    linked, not copied, where the file system can.

    Returns:
        Whether a signature was removed: it was of what the bundle said before.

    Raises:
        OutputError: the bundle cannot be written.
    """
    manifest = bundle.manifest
    with writing(bundle.path) as folder:
        for file in sorted(bundle.path.rglob("*")):
            relative = file.relative_to(bundle.path)
            if file.is_dir():
                (folder / relative).mkdir(exist_ok=True)
            elif str(relative) not in _REWRITTEN:
                _link(file, folder / relative)
        kept = {**manifest.defaults, **defaults}
        seal(folder, manifest.model_copy(update={"defaults": kept}))
        return (bundle.path / _SIGNATURE).exists()


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
