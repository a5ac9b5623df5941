"""What is wrong with a file that an engine cannot read, in words for people."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from edgekit.errors import RuntimeUnavailableError

__all__ = ["check_file", "plainly", "refused"]

#: What engines put around their messages: places in their sources, codes, the path once more.
_NOISE = re.compile(
    r"Exception from \S+:\d+:|Check '[^\n]*?' failed at \S+:\d+:|\[ONNXRuntimeError\] : \d+ : \w+ :"
    r"|Load model from \S+ failed:|FrontEnd API failed with \w+:|Exception in loading the model:?"
)
_LONGEST = 240


def check_file(path: Path, *suffixes: str) -> None:
    """See that ``path`` is a file of a kind that the engine reads, before the engine does.

    Raises:
        RuntimeUnavailableError: it is not.
    """
    copy = "Check the path, or copy it again"
    if not path.is_file():
        what = "is no file" if path.exists() else "no such file"
        raise RuntimeUnavailableError(what, where=str(path), fix=copy)
    if path.suffix not in suffixes:
        wanted = " or ".join(suffixes)
        raise RuntimeUnavailableError(
            f"is a {path.suffix or 'file without a suffix'}, expected {wanted}",
            where=str(path),
            fix="Export it for this runtime, or choose the runtime that it was exported for",
        )
    if path.stat().st_size == 0:
        raise RuntimeUnavailableError("is empty", where=str(path), fix=copy)


def refused(engine: str, path: Path, error: Exception) -> RuntimeUnavailableError:
    """The error of an engine that does not load ``path``."""
    return RuntimeUnavailableError(
        f"{engine} refuses the model: {plainly(error)}",
        where=str(path),
        fix="Copy it again if it is damaged; else export it again, or choose another runtime",
    )


def plainly(error: Exception) -> str:
    """One line of an engine's message, without what only its authors can use."""
    text = _NOISE.sub(" ", str(error)).rstrip(" .!\n")
    return textwrap.shorten(text, _LONGEST, placeholder=" ...")
