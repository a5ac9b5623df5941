"""A wheel of the edgekit that runs here, installed or not: pure Python, so it fits any board.

The format is that of the "Binary distribution format" specification of PyPA, version 1.0.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

__all__ = ["Wheel", "build_wheel"]

#: The stages that lie outside the package in a checkout, and inside it when installed.
_STAGES = ("calibration", "exporters", "runtimes")
#: What only the machine that compresses reads.
_LEFT_OUT = ("edgekit/zoo/checkpoints/", "edgekit/zoo/data/")
_TAGS = "Wheel-Version: 1.0\nGenerator: edgekit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel in memory.

    Attributes:
        name: of its file.
        data: the file. The same code gives the same bytes.
        requires: distributions that the core of edgekit needs, by name.
        python: the oldest Python that it runs on.
    """

    name: str
    data: bytes
    requires: tuple[str, ...]
    python: tuple[int, int]


def build_wheel() -> Wheel:
    """Pack the code of this process, and the metadata that it was installed with."""
    installed = metadata.distribution("edgekit")
    info = f"edgekit-{installed.version}.dist-info"
    files = {name: path.read_bytes() for name, path in _sources()}
    told = installed.read_text("METADATA") or installed.read_text("PKG-INFO")  # of a source tree
    files[f"{info}/METADATA"] = (told or "").encode()
    files[f"{info}/entry_points.txt"] = (installed.read_text("entry_points.txt") or "").encode()
    files[f"{info}/WHEEL"] = _TAGS.encode()
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    oldest = installed.metadata["Requires-Python"].removeprefix(">=").split(".")
    return Wheel(
        name=f"edgekit-{installed.version}-py3-none-any.whl",
        data=_zipped(files),
        requires=tuple(
            _distribution(one) for one in installed.requires or () if "extra ==" not in one
        ),
        python=(int(oldest[0]), int(oldest[1])),
    )


def _sources() -> Iterator[tuple[str, Path]]:
    """Every file of the package, by its place in the wheel."""
    for name, path in _files("edgekit"):
        if name.split("/")[1] not in _STAGES and not name.startswith(_LEFT_OUT):
            yield name, path
    for stage in _STAGES:
        yield from _files(f"edgekit.{stage}")


def _files(package: str) -> Iterator[tuple[str, Path]]:
    spec = importlib.util.find_spec(package)
    assert spec is not None  # this module is in it
    assert spec.submodule_search_locations
    top = Path(spec.submodule_search_locations[0])
    for folder, inside, names in os.walk(top, followlinks=True):
        inside[:] = sorted(name for name in inside if name != "__pycache__")
        place = Path(package.replace(".", "/")) / Path(folder).relative_to(top)
        for name in sorted(names):
            yield (place / name).as_posix(), Path(folder) / name


def _record(files: dict[str, bytes], own: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        writer.writerow((name, f"sha256={digest}", len(data)))
    writer.writerow((own, "", ""))
    return text.getvalue().encode()


def _zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)  # of 1980: no time of its own
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return out.getvalue()


def _distribution(requirement: str) -> str:
    """The name at the start of ``name>=1.2``."""
    end = next((i for i, c in enumerate(requirement) if not (c.isalnum() or c in "-_.")), None)
    return requirement[:end]
