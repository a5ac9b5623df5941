"""``edgekit profile`` as a user types it, stopped, resumed, on bad disks, gated and swept."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.profile.store import load
from tests.daemon import EDGEKIT

BASE = ["--runtime", "onnxruntime", "--threads", "1", "--no-costs"]
#: Python before the command, as ``preexec_fn`` may hang a process with threads. A shell's job in
#: the background, as tests may be, ignores Ctrl-C, and so do its children.
HEEDS_CTRL_C = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL)"
LIMITED = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"


def after(first: str, command: list[str]) -> list[str]:
    return [sys.executable, "-c", f"{first}; os.execv(sys.argv[1], sys.argv[1:])", *command]


def run(
    bundle: Path, *options: str, code: int = 0, limit: int | None = None
) -> subprocess.CompletedProcess[str]:
    """One run to its end, with a limit on the size of every file that it writes."""
    command = [*EDGEKIT, "profile", str(bundle), *BASE, *options]
    if limit is not None:
        command = after(LIMITED.format(limit), command)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def stopped(
    bundle: Path, sign: int, *options: str
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run that a signal ends in the middle: its journal, and what it said."""
    command = [*EDGEKIT, "profile", str(bundle), *BASE, *options]
    process = subprocess.Popen(
        after(HEEDS_CTRL_C, command),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    for _ in range(3000):
        journals = list(bundle.parent.rglob("*.partial.jsonl"))
        if journals and journals[0].read_bytes().count(b"\n") > 20:
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(sign)
    out, err = process.communicate(timeout=60)
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    return next(iter(bundle.parent.rglob("*.partial.jsonl"))), done


@pytest.fixture
def own(bundle_copy: Path) -> Path:
    return bundle_copy


def test_a_run_that_was_killed_goes_on(own: Path) -> None:
    options = ["--seconds", "10", "--no-layers"]
    journal, done = stopped(own, signal.SIGKILL, *options)
    assert done.returncode == -signal.SIGKILL
    rounds = journal.read_bytes().count(b"\n") - 1
    again = run(own, *options, "--resume")
    document = journal.with_name(journal.name.replace(".partial.jsonl", ".json"))
    assert f"Wrote {document}" in again.stderr
    assert not journal.exists()
    found = load(document)
    one = [s for s in found.samples if s.artifact == found.samples[0].artifact]
    assert len(one) == 2
    assert one[0].run != one[1].run
    assert len(one[0].latencies_ns) >= (rounds - 1) * one[0].block


def test_ctrl_c_says_how_to_go_on(own: Path) -> None:
    options = ["--seconds", "10", "--no-layers", "-o", str(own.parent / "p.json")]
    journal, done = stopped(own, signal.SIGINT, *options)
    assert done.returncode == 130
    assert f"samples are kept in {journal}. Add --resume to go on." in done.stderr
    assert "Traceback" not in done.stderr
    run(own, *options, "--resume")
    assert load(own.parent / "p.json").results


def test_without_resume_the_samples_of_a_stopped_run_stay(own: Path) -> None:
    journal, _ = stopped(own, signal.SIGKILL, "--seconds", "10")
    before = journal.read_bytes()
    done = run(own, "--seconds", "0.1", "--no-layers")
    assert journal.read_bytes() == before
    assert "Wrote" in done.stderr
    wrong = run(own, "--seconds", "0.2", "--resume", code=2)
    assert "no run of this very command, bundle and machine was stopped" in wrong.stderr


def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured(own: Path) -> None:
    (own.parent / "folder.json").mkdir()
    places = ["/proc/p.json", *(str(own.parent / name) for name in ("no/p.json", "folder.json"))]
    for place in places:
        done = run(own, "-o", place, "--seconds", "20", code=2)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert "--output" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")
def test_a_read_only_folder_is_told_before_anything_is_measured(own: Path) -> None:
    place = own.parent / "disk"
    place.mkdir()
    mount, umount = (str(shutil.which(name)) for name in ("mount", "umount"))
    command = [mount, "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        moved = Path(shutil.copytree(own, place / "x.edge"))
        subprocess.run([mount, "-o", "remount,ro", str(place)], check=True)
        done = run(moved, "--seconds", "20", code=2)
        assert len(done.stderr.strip().splitlines()) == 1
        assert "Read-only file system" in done.stderr
        run(moved, "--seconds", "0.1", "-o", str(own.parent / "p.json"))
    finally:
        subprocess.run([umount, str(place)], check=True)


def test_a_file_that_cannot_grow_loses_no_sample(own: Path) -> None:
    """No file may grow beyond 6 kB, so the document is printed in the end."""
    path = own.parent / "p.json"
    done = run(own, "--seconds", "1", "--costs", "-o", str(path), code=2, limit=6000)
    assert "cannot be written" in done.stderr
    assert not path.exists()
    printed = json.loads(done.stdout.splitlines()[0])
    assert len(printed["results"][0]["samples"]["latencies_ns"]) >= 200


def test_gates_decide_the_exit_status(own: Path) -> None:
    path = own.parent / "p.json"
    run(own, "--seconds", "2", "--no-layers", "-o", str(path), "--gate", "p50<10s")
    done = run(
        own, "--seconds", "0.1", "--no-layers", "--gate", "p50<1us", "--gate", "p50<10s", code=1
    )
    assert "gate p50<1us failed: onnxruntime-" in done.stderr
    assert "gate p50<10s passed: onnxruntime-" in done.stderr
    run(own, "--seconds", "0.5", "--no-layers", "--gate", "p50<100x", "--baseline", str(path))
    done = run(own, "--seconds", "0.1", "--no-layers", "--gate", "p99.9<1s", code=1)
    assert "too few samples" in done.stderr
    done = run(own, "--gate", "drop<0.5", code=2)
    assert "the bundle has no accuracy" in done.stderr


def test_a_sweep_chooses_and_writes_the_default(own: Path) -> None:
    done = subprocess.run(
        [*EDGEKIT, "profile", "--sweep", "threads=1,2", "batch=1,8", "runtime=onnxruntime",
         str(own), "--seconds", "0.3", "--goal", "throughput", "--write"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    best = re.search(r"Best for throughput: onnxruntime-\w+ threads=(\d) batch=(\d),", done.stdout)
    assert best, done.stdout
    known = Bundle.open(own).manifest.defaults["onnxruntime"]
    assert (known.threads, known.batch) == (int(best[1]), int(best[2]))
    assert (known.streams, known.goal) == (None, "throughput")
    found = json.loads(run(own, "--seconds", "0.1", "--json").stdout)
    assert {one["settings"]["batch"] for one in found["results"]} == {known.batch}


def test_what_is_no_sweep_is_one_line(own: Path) -> None:
    done = run(own, "--sweep", "threads=1", "bacth=2", code=2)
    assert "did you mean 'batch'" in done.stderr
    assert "--goal" in run(own, "--write", code=2).stderr
