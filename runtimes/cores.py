"""Run on some of the machine's cores only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from edgekit.errors import RuntimeUnavailableError

__all__ = ["check_cores", "hold_process", "on_cores"]


def hold_process(text: str) -> int:
    """Keep this thread, and all that it starts from now on, to cores written like ``0,2-3``.

    Engines count the cores that they find when they are first used: call it before.

    Returns:
        How many cores these are.

    Raises:
        RuntimeUnavailableError: it is not written so, or names what this process may not use.
    """
    found: list[int] = []
    for part in text.split(","):
        numbers = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        if numbers is None:
            raise _refused(text, "are not numbers", "Give them like 0,2-3")
        first, last = numbers[1], numbers[2] or numbers[1]
        found += range(int(first), int(last) + 1)
    check_cores(tuple(found))
    os.sched_setaffinity(0, found)
    return len(found)


def check_cores(cores: tuple[int, ...] | None) -> None:
    """See that this process may run on all of them.

    Raises:
        RuntimeUnavailableError: it may not, one is named twice or none is, or this is not Linux.
    """
    if cores is None:
        return
    text = ",".join(map(str, cores))
    if not hasattr(os, "sched_getaffinity"):
        raise _refused(text, "cannot be chosen on this system", "Leave them out")
    able = os.sched_getaffinity(0)
    allowed = ",".join(map(str, sorted(able)))
    if not cores or len(set(cores)) != len(cores):
        raise _refused(text, "are none, or some are there twice", f"Choose from {allowed}")
    if not able.issuperset(cores):
        raise _refused(text, f"are not all there: this process has {allowed}", "Choose from these")


@contextmanager
def on_cores(cores: tuple[int, ...] | None) -> Iterator[None]:
    """Let this thread, and every thread that it starts meanwhile, run on ``cores`` only.

    With None nothing is done.
    """
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _refused(cores: str, why: str, fix: str) -> RuntimeUnavailableError:
    return RuntimeUnavailableError(f"cores {cores!r} {why}", where="cores", fix=fix)
