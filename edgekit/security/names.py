"""Names out of requests, before they become paths."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgekit.serve.errors import ServeError

__all__ = ["checked_folder", "checked_name"]

#: As long as every file system takes; a name begins with a letter or digit, so never with a dot.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def checked_name(name: object, kind: str = "model") -> str:
    """``name`` if it may be the name of a folder.

    Args:
        name: what the request gave, whatever that is.
        kind: what it names, for the message.

    Raises:
        ServeError: 400, it is not such a name.
    """
    if isinstance(name, str) and _NAME.fullmatch(name) and ".." not in name:
        return name
    raise ServeError(
        f"{str(name)[:80]!r} is not the name of a {kind}: it has 1 to 128 letters, digits and "
        "._-, begins with a letter or digit and has no two dots in a row"
    )


def checked_folder(root: Path, *names: str) -> Path:
    """The folder of these names below ``root``, which need not exist.

    Raises:
        ServeError: 400, one is not a name, or a symbolic link leads out of ``root``.
    """
    path = root.joinpath(*map(checked_name, names))
    # Not Path.resolve(): up to Python 3.12 it raises where links go in a circle.
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise ServeError(f"{'/'.join(names)!r} is a link that leads out of the model repository")
    return path
