"""Errors that a user can mend.

Every expected failure is an :class:`EdgekitError`. Its message is one line built from three typed
fields: *where* it happened, *what* happened and *how to mend it*. The command line prints that
line and exits with :attr:`EdgekitError.exit_code`; it never shows a traceback unless ``--debug``.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable

__all__ = [
    "BundleError",
    "CalibrationError",
    "CompressError",
    "EdgekitError",
    "ExportError",
    "ExternalDataError",
    "GateError",
    "ModelReferenceError",
    "OutOfRangeError",
    "OutputError",
    "ProfileError",
    "RecipeError",
    "RuntimeUnavailableError",
    "SecurityError",
    "SpecError",
    "UnsupportedGpuError",
    "UnsupportedOperatorError",
    "WorkloadError",
    "did_you_mean",
    "nearest",
]


class EdgekitError(Exception):
    """An expected failure, told in one line.

    Args:
        what: what went wrong, without a final full stop.
        where: the file, model, tensor or option that it went wrong in.
        fix: how to mend it, as an imperative sentence without a final full stop.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = _one_line(what)
        self.where = _one_line(where) if where else None
        self.fix = _one_line(fix) if fix else None
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}. {self.fix}." if self.fix else f"{head}."


class GateError(EdgekitError):
    """The work ran but failed a gate (accuracy, verification): exit code 1, not bad input."""

    exit_code = 1


class SpecError(EdgekitError):
    """A tensor does not fit the declared name, dtype or shape."""


class OutOfRangeError(SpecError):
    """A tensor fits the model, but not the sizes that an engine was built for."""


class ModelReferenceError(EdgekitError):
    """A MODEL argument cannot be resolved or loaded."""


class WorkloadError(EdgekitError):
    """A workload is incomplete or its own code raised."""


class RecipeError(EdgekitError):
    """A recipe is unknown, malformed or has a key that no pass knows."""


class CalibrationError(EdgekitError):
    """Calibration data is empty, not finite or does not fit the model."""


class CompressError(EdgekitError):
    """A pass cannot be applied to this model."""


class ExportError(EdgekitError):
    """A model cannot be exported to the wanted format."""


class UnsupportedOperatorError(ExportError):
    """An operator has no counterpart in the target format.

    Args:
        operator: the operator's name in the source framework, or several with commas between.
        module: dotted path of the module that produced it, empty if unknown.
        target: the format that lacks it.
        source: file and line of the code that calls it, empty if unknown.
        rewrite: what computes the same with supported operators, empty if unknown.
    """

    def __init__(
        self, operator: str, module: str, target: str, *, source: str = "", rewrite: str = ""
    ) -> None:
        self.operator = operator
        self.module = module
        self.source = source
        self.rewrite = rewrite
        subject = "operators {} have" if ", " in operator else "operator {} has"
        places = [source, f"module {module}" if module else ""]
        super().__init__(
            f"{subject.format(operator)} no {target} counterpart",
            where=", ".join(filter(None, places)),
            fix=f"Write {rewrite}" if rewrite else "Rewrite that code with supported operators",
        )


class UnsupportedGpuError(ExportError):
    """A GPU generation cannot compute what a graph asks for; another precision may do.

    Args:
        gpu: the generation, such as ``sm75``.
        lacks: what it cannot do.
        builder: the tool that says so.
        where: the graph, and the operator where it is known.
        instead: the half precision that it has in place of float32, None where that is not it.
    """

    def __init__(
        self, gpu: str, lacks: str, *, builder: str, where: str, instead: str | None = None
    ) -> None:
        self.gpu = gpu
        self.lacks = lacks
        self.instead = instead
        super().__init__(
            f"{builder} has no {lacks} for {gpu}",
            where=where,
            fix=f"Compress with --recipe {instead or 'fp16'}, or build for a newer GPU",
        )


class ExternalDataError(EdgekitError):
    """An ONNX file wants weights from where it must not read."""


class BundleError(EdgekitError):
    """A bundle is damaged, from another schema version or not a bundle at all."""


class ProfileError(EdgekitError):
    """A profile is damaged, from another schema version or does not fit what is asked of it."""


class RuntimeUnavailableError(EdgekitError):
    """A runtime is unknown or cannot be used on this machine."""


class SecurityError(EdgekitError):
    """Tokens, certificates, keys or signatures are missing, wrong or too weak for what is asked."""


class OutputError(EdgekitError):
    """A result cannot be written where it was asked for."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to ``word``, or None when nothing is close.

    Of equally close ones it is the one that begins alike for longest.
    """

    def closeness(other: str) -> tuple[float, int, str]:
        ratio = difflib.SequenceMatcher(None, other, word).ratio()
        alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(word, other, strict=False))
        return ratio, len(list(alike)), other

    found = max(known, key=closeness, default="")
    return found if found and closeness(found)[0] >= 0.5 else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to add to the message of an unknown ``word``; empty when nothing is close."""
    guess = nearest(word, known)
    return f", did you mean {guess!r}" if guess else ""


def _one_line(text: str) -> str:
    return " ".join(text.split()).removesuffix(".")
