"""Outcomes, written down as they happen, so that a run that was killed can go on."""

from __future__ import annotations

import importlib.metadata
import json
import os
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from edgekit.atomic import write_file
from edgekit.errors import OutputError
from edgekit.zoo.check.checked import Checked, Checks

__all__ = ["Journal"]

#: Packages whose version may change an outcome.
_PACKAGES = (
    "edgekit", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "openvino", "tensorrt-rtx", "torch",
    "transformers",
)  # fmt: skip


class Journal:
    """A file with one JSON document a line: what was checked and with which versions, then an
    outcome each, flushed to disk one by one.

    A line torn by a crash is dropped, and that architecture checked again.

    Attributes:
        outcomes: by kind, of this run and of the one that it goes on with.

    Args:
        path: the file; one of other checks or versions is refused.
        suite: name of the suite.
        checks: what is tried.
        outcome: what an outcome is.

    Raises:
        OutputError: the file cannot be written, or holds something else.
    """

    def __init__(self, path: Path, suite: str, checks: Checks, outcome: type[Checked]) -> None:
        self._path, self._outcome = path, outcome
        self.outcomes: dict[str, Checked] = {}
        header = {"suite": suite, "checks": asdict(checks), "versions": _versions()}
        # A crash may tear a line inside a character.
        lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
        if lines and _parsed(lines[0]) != header:
            raise OutputError(
                "holds something else, or outcomes of other checks or versions",
                where=str(path),
                fix="Choose another file, or remove it",
            )
        for line in lines[1:]:
            self._keep(line)
        kept = [json.dumps(header), *(one.model_dump_json() for one in self.outcomes.values())]
        write_file(path, "".join(f"{line}\n" for line in kept).encode())

    def add(self, outcome: Checked) -> None:
        """Write an outcome down."""
        self.outcomes[outcome.kind] = outcome
        with self._path.open("a", encoding="utf-8") as file:
            file.write(outcome.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _keep(self, line: str) -> None:
        try:
            outcome = self._outcome.model_validate_json(line)
        except ValidationError:
            return
        self.outcomes[outcome.kind] = outcome


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None
