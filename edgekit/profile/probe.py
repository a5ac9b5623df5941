"""``python -m edgekit.profile.probe JOB``: load one artifact in this fresh process, and run it.

:mod:`edgekit.profile.costs` starts it. Nothing is imported that serving the artifact would not
need, and the clock is read before that. All times are of the monotonic clock, which all processes
of a machine share.
"""

from __future__ import annotations

import time

_ENTERED = time.monotonic_ns()  # before anything else is imported

import json  # noqa: E402
import sys  # noqa: E402
from contextlib import suppress  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

if TYPE_CHECKING:
    from edgekit.runtimes import Session
    from edgekit.spec import Feeds

__all__ = ["LEAST_RUNS", "main"]

#: Inferences of the steady part, however long they take.
LEAST_RUNS = 3


def main(job_file: Path) -> None:
    """Do what the job says, and write what was measured.

    Args:
        job_file: JSON with ``artifact`` (file to load), ``runtime``, ``threads``, ``device``,
            ``inputs`` (names), ``feeds`` (``.npz`` with one array each), ``seconds`` (of the steady
            part) and ``result`` (file to write: nanoseconds of the clock, and bytes).

    Raises:
        EdgekitError: the artifact cannot be loaded or run.
    """
    import numpy as np

    from edgekit import runtimes
    from edgekit.machine import peak_resident, resident
    from edgekit.runtimes import SessionOptions
    from edgekit.spec import as_stored

    job: dict[str, Any] = json.loads(job_file.read_bytes())
    runtime = runtimes.require(job["runtime"])
    with np.load(job["feeds"]) as stored:
        feeds = {
            name: as_stored(array)
            for name, array in zip(job["inputs"], stored.values(), strict=True)
        }
    _forget_peak()
    base = resident()
    ready = time.monotonic_ns()
    options = SessionOptions(threads=job["threads"], device=job["device"])
    with runtime.load(Path(job["artifact"]), options) as session:
        loaded = time.monotonic_ns()
        session.run(feeds)
        answered = time.monotonic_ns()
        steady = _steady(session, feeds, job["seconds"])
        held, peak = resident(), peak_resident()
    found = {
        "entered": _ENTERED,
        "ready": ready,
        "loaded": loaded,
        "answered": answered,
        **steady,
        "base_bytes": base,
        "steady_bytes": held,
        "peak_bytes": peak,
    }
    Path(job["result"]).write_text(json.dumps(found))


def _steady(session: Session, feeds: Feeds, seconds: float) -> dict[str, int]:
    """Inferences one after the other: how many, from when to when, and their processor time."""
    runs = 0
    cpu, start = time.process_time_ns(), time.monotonic_ns()
    end = start + int(seconds * 1e9)
    while runs < LEAST_RUNS or time.monotonic_ns() < end:
        session.run(feeds)
        runs += 1
    return {
        "runs": runs,
        "steady_start": start,
        "steady_end": time.monotonic_ns(),
        "cpu_ns": time.process_time_ns() - cpu,
    }


def _forget_peak() -> None:
    """Let the kernel's record of the most memory begin anew: imports may have held more."""
    with suppress(OSError):  # not this kernel: then the peak counts from the start of the process
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    from edgekit.errors import EdgekitError

    try:
        main(Path(sys.argv[1]))
    except EdgekitError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None
