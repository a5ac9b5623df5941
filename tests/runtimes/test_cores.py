"""Threads stay on the cores that were asked for; looked up in what the kernel says of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from edgekit.runtimes import SessionOptions
from edgekit.runtimes.cores import hold_process

from edgekit import runtimes
from edgekit.errors import RuntimeUnavailableError

LAST = max(os.sched_getaffinity(0))
MISSING = LAST + 1

#: Loads one session on the last core, then one with two threads on all, and runs both. Prints where
#: the caller was inside and after a run, and of each session's own threads that computed, where
#: each may run.
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
for kind, options in (("some", SessionOptions(cores=(last,))), ("all", SessionOptions(threads=2))):
    before = threads()
    with runtimes.get(name).load(path, options) as session:
        inner, session._run = session._run, None
        inside = set()
        def seen(feeds):
            inside.update(os.sched_getaffinity(0))
            return inner(feeds)
        session._run = seen
        for _ in range(20):
            session.run(feeds)
        loaded = threads()  # to load, an engine may use other threads
        until = time.perf_counter() + 0.5
        while time.perf_counter() < until:
            session.run(feeds)
        own = {
            key: (where, used)
            for key, (where, used) in threads().items()
            if key not in before and used - loaded.get(key, ("", 0))[1] > 2
        }
    told[kind] = {
        "inside": sorted(inside),
        "after": sorted(os.sched_getaffinity(0)),
        "threads": sorted({where for where, _ in own.values()}),
    }
if name == "openvino":
    import openvino as ov
    model = ov.Core().compile_model(path, "CPU")
    told["threads counted"] = model.get_property("INFERENCE_NUM_THREADS")
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
    assert (told["some"]["inside"], told["some"]["after"]) == ([LAST], everywhere)
    assert set(told["some"]["threads"]) <= {str(LAST)}
    assert told["all"]["inside"] == told["all"]["after"] == everywhere
    if name == "openvino" and len(everywhere) > 1:  # it counts cores once in a process
        assert told["threads counted"] > 1


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


@pytest.mark.skipif(LAST == 0, reason="this machine has one core")
def test_openvino_is_held_to_one_core_only(onnx_file: Path) -> None:
    first = min(os.sched_getaffinity(0))
    for options in (SessionOptions(cores=(first, LAST)), SessionOptions(cores=(LAST,), threads=2)):
        with pytest.raises(RuntimeUnavailableError, match="one core with one thread"):
            runtimes.get("openvino").load(onnx_file, options)


def test_a_process_is_held_to_cores_written_as_numbers_and_ranges() -> None:
    everywhere = os.sched_getaffinity(0)
    try:
        assert hold_process(f" {LAST}") == 1
        assert os.sched_getaffinity(0) == {LAST}
    finally:
        os.sched_setaffinity(0, everywhere)
    assert hold_process(",".join(map(str, everywhere))) == len(everywhere)
    for text in ("", "0,", "a", "1-", "-1", "0;1", "0-99999999999"):
        with pytest.raises(RuntimeUnavailableError, match="like 0,2-3"):
            hold_process(text)
    for text, reason in ((f"0-{MISSING}", "not all there"), ("3-1", "are none")):
        with pytest.raises(RuntimeUnavailableError, match=reason):
            hold_process(text)
    assert os.sched_getaffinity(0) == everywhere
