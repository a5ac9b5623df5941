"""Threads stay on the cores that were asked for; looked up in what the kernel says of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from edgekit.runtimes import SessionOptions
from edgekit.runtimes.cores import parse_cores

from edgekit import runtimes
from edgekit.errors import RuntimeUnavailableError

LAST = max(os.sched_getaffinity(0))
MISSING = LAST + 1

#: Loads one session on the last core with two threads, then one on all, and runs both. Prints where
#: the caller was inside and after a run, and of each session's own threads that worked, where each
#: may run.
_SCRIPT = """
import json, os, sys, time
from pathlib import Path
import numpy as np
from edgekit import runtimes
from edgekit.runtimes import SessionOptions

def threads():
    found = {}
    for task in Path("/proc/self/task").iterdir():
        state = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        used = sum(map(int, (task / "stat").read_text().rpartition(")")[2].split()[11:13]))
        found[task.name] = state["Cpus_allowed_list"].strip(), used
    return found

name, path, last = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
feeds = {"image": np.zeros((64, 3, 16, 16), np.float32)}
told = {}
for kind, cores in (("some", (last,)), ("all", None)):
    before = threads()
    with runtimes.get(name).load(path, SessionOptions(threads=2, cores=cores)) as session:
        inner, session._run = session._run, None
        inside = set()
        def seen(feeds):
            inside.update(os.sched_getaffinity(0))
            return inner(feeds)
        session._run = seen
        until = time.perf_counter() + 0.5
        while time.perf_counter() < until:
            session.run(feeds)
        own = {k: v for k, v in threads().items() if k not in before and v[1] > 0}
    told[kind] = {
        "inside": sorted(inside),
        "after": sorted(os.sched_getaffinity(0)),
        "threads": sorted({where for where, _ in own.values()}),
    }
print(json.dumps(told))
"""


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_session_computes_on_its_cores_and_leaves_others_alone(
    name: str, onnx_file: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, name, str(onnx_file), str(LAST)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    everywhere = sorted(os.sched_getaffinity(0))
    assert told["some"] == {"inside": [LAST], "after": everywhere, "threads": [str(LAST)]}
    assert told["all"]["inside"] == told["all"]["after"] == everywhere
    if len(everywhere) > 1:
        assert told["all"]["threads"] != [str(LAST)]


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("cores", "reason"),
    [
        ((MISSING,), f"not all there: this process has .*{LAST}"),
        ((), "are none"),
        ((LAST, LAST), "there twice"),
    ],
)
def test_cores_that_are_not_there_are_refused(
    name: str, cores: tuple[int, ...], reason: str, onnx_file: Path
) -> None:
    with pytest.raises(RuntimeUnavailableError, match=reason):
        runtimes.get(name).load(onnx_file, SessionOptions(cores=cores))


def test_engines_whose_threads_are_shared_say_so(program: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="taskset"):
        runtimes.get("torch").load(program, SessionOptions(cores=(LAST,)))


def test_cores_are_written_as_numbers_and_ranges() -> None:
    assert parse_cores(f"0-{LAST}") == tuple(range(LAST + 1))
    assert parse_cores(str(LAST)) == (LAST,)
    for text in ("", "0,", "a", "1-", "-1", "0;1", "0-99999999999"):
        with pytest.raises(RuntimeUnavailableError, match="like 0,2-3"):
            parse_cores(text)
    with pytest.raises(RuntimeUnavailableError, match="not all there"):
        parse_cores(f"0,{MISSING}")
