"""Write both files of the report from a bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgekit import strict_json
from edgekit.atomic import write_file
from edgekit.bundle import Bundle
from edgekit.errors import RuntimeUnavailableError
from edgekit.manifest import Manifest
from edgekit.report.layers import compare_layers
from edgekit.report.page import render
from edgekit.report.search import search_rows
from edgekit.report.table import rows, validated_on

__all__ = ["write_report"]


def write_report(bundle: Bundle, folder: Path, *, layers: bool = False) -> Path:
    """Write ``report.html`` (self-contained) and ``report.json`` into ``folder``.

    Args:
        bundle: what to report on.
        folder: an existing folder.
        layers: run the selected artifacts and compare them layer by layer, too.

    Returns:
        The path of the page.

    Raises:
        RuntimeUnavailableError: the plotting library is not installed.
        OutputError: the folder is missing or not writable.
    """
    try:
        compared = compare_layers(bundle) if layers else []
        page = render(bundle.manifest, compared)
    except ModuleNotFoundError as error:
        raise RuntimeUnavailableError(
            f"the package {error.name!r} is not installed",
            where="edgekit report",
            fix="Run: pip install 'edgekit[report]'",
        ) from error
    document = _document(bundle.manifest)
    if compared:
        document["layers"] = [asdict(one) for one in compared]
    write_file(folder / "report.json", strict_json.dumps(document).encode())
    path = folder / "report.html"
    write_file(path, page.encode())
    return path


def _document(manifest: Manifest) -> dict[str, Any]:
    """The manifest with its raw samples, and the tables that the page shows."""
    table = [
        {
            **asdict(row),
            "artifact": row.artifact.id,
            "size": row.artifact.size,
            "verification": row.verification and row.verification.model_dump(mode="json"),
        }
        for row in rows(manifest)
    ]
    document: dict[str, Any] = {"table": table}
    if manifest.target:
        here, told = validated_on(manifest)
        document["target"] = {"made_for": manifest.target, "validated_on": here, "told": told}
    if manifest.search:
        document["search"] = [asdict(row) for row in search_rows(manifest)]
    if manifest.calibration:
        kept = ("observer", "samples", "cached")
        document["calibration"] = {k: v for k, v in manifest.calibration.items() if k in kept}
    return {**document, "bundle": manifest.model_dump(mode="json")}
