"""``python -m edgekit.profile.launch LIMITS COMMAND...``: take limits on, then become the command.

:mod:`edgekit.profile.limits` starts it. ``LIMITS`` is JSON: ``cores`` (numbers), ``data`` (bytes of
``RLIMIT_DATA``) and ``cgroup`` (folder to join), each of which may be null.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

__all__ = ["main"]


def main(limits: str, command: list[str]) -> None:
    """Never returns: this process becomes the command, and all that it starts inherits the limits.

    Raises:
        OSError: the system refuses one of them.
    """
    wanted = json.loads(limits)
    if wanted["cores"]:
        os.sched_setaffinity(0, wanted["cores"])
    if wanted["cgroup"]:
        (Path(wanted["cgroup"]) / "cgroup.procs").write_text(str(os.getpid()))
    if wanted["data"]:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted["data"], wanted["data"]))
    os.execvp(command[0], command)  # noqa: S606  a fixed program, without a shell


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
