from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.bundle import Bundle
from edgekit.errors import SpecError
from edgekit.profile.limited import profile_limited
from edgekit.profile.limits import Fence, Limits, fenced, parse_limits
from edgekit.profile.records import Simulated

CORES = len(os.sched_getaffinity(0))
COSTS_OFF = ("--no-costs", "--seconds=0.1")


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Path]:
    """A system without cgroups of version 2 and without systemd."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return {"root": tmp_path / "none", "membership": tmp_path / "none"}


def _groups(root: Path, own: str = "user/shell") -> Mapping[str, Path]:
    """A tree of cgroups in which this process is in ``own``, and may make groups in ``user``."""
    (root / own).mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory pids\n")
    for group, handed_down in {"": "memory", "user": "cpu memory", own: ""}.items():
        (root / group / "cgroup.subtree_control").write_text(handed_down + "\n")
        (root / group / "cgroup.procs").write_text("")
    membership = root / "membership"
    membership.write_text(f"9:name=systemd:/\n0::/{own}\n")
    return {"root": root, "membership": membership}


def _told(fence: Fence, code: str) -> str:
    command = fence.command([sys.executable, "-c", code])
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("cores=1", Limits(cores=1)),
        ("memory=512MB", Limits(memory_bytes=512_000_000)),
        ("memory=0.5GiB, cpu=50%", Limits(memory_bytes=2**29, cpu=0.5)),
        ("cores=1,memory=64M,cpu=150%", Limits(1, 64_000_000, 1.5)),
    ],
)
def test_limits_are_written_by_name(text: str, limits: Limits) -> None:
    assert parse_limits(text) == limits


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("core=1", "knows no limit 'core', did you mean 'cores'"),
        ("", "knows no limit ''"),
        ("cores=0", f"cores=0 is not a number from 1 to {CORES}"),
        (f"cores={CORES + 1}", f"is not a number from 1 to {CORES}"),
        ("memory=lots", "memory=lots is no amount of memory"),
        ("memory=0", "memory=0 is no amount of memory"),
        ("cpu=0.5", "cpu=0.5 is no share of a core's time"),
        ("cores=1,cores=1", "cores is there twice"),
    ],
)
def test_limits_that_cannot_be_are_told(text: str, told: str) -> None:
    with pytest.raises(SpecError, match=r"^--limit: ") as caught:
        parse_limits(text)
    assert told in str(caught.value)


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(SpecError):
        assert parse_limits(text) != Limits()


def test_cores_are_what_the_process_finds(plain: Mapping[str, Path]) -> None:
    with fenced(Limits(cores=1), **plain) as fence:
        assert _told(fence, "import os; print(len(os.sched_getaffinity(0)))") == "1"
        assert fence.simulated == Simulated(cores=1, how="affinity")


def test_memory_is_held_for_each_process_where_there_are_no_groups(
    plain: Mapping[str, Path],
) -> None:
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_DATA)[0])"
    with fenced(Limits(memory_bytes=300_000_000), **plain) as fence:
        assert _told(fence, code) == "300000000"
        assert fence.simulated.how.startswith("RLIMIT_DATA (each process by itself")


def test_time_needs_a_group(plain: Mapping[str, Path]) -> None:
    with (
        pytest.raises(SpecError, match=r"--limit cpu: .* cgroups only"),
        fenced(Limits(cpu=0.5), **plain),
    ):
        pass


def test_a_group_is_made_where_its_limits_can_be_held(tmp_path: Path) -> None:
    """In ``user``: above the process, writable, and with both controllers handed down."""
    limits = Limits(cores=1, memory_bytes=10**9, cpu=0.25)
    with fenced(limits, **_groups(tmp_path)) as fence:
        group = fence.cgroup
        assert group is not None
        assert group.parent == tmp_path / "user"
        assert (group / "memory.max").read_text() == "1000000000"
        assert (group / "memory.swap.max").read_text() == "0"
        assert (group / "cpu.max").read_text() == "25000 100000"
        assert fence.simulated.how == "affinity and cgroup"
        pid = _told(fence, "import os; print(os.getpid())")
        assert (group / "cgroup.procs").read_text() == pid


@pytest.mark.parametrize("membership", ["0::/../../elsewhere", "4:memory:/x", ""])
def test_groups_that_cannot_be_seen_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: str
) -> None:
    places = _groups(tmp_path / "tree")
    places["membership"].write_text(membership)
    monkeypatch.setenv("PATH", str(tmp_path))
    with fenced(Limits(memory_bytes=10**9), **places) as fence:
        assert fence.cgroup is None
        assert fence.data_bytes == 10**9


@pytest.mark.parametrize(("held", "used"), [("500000000", True), ("max", False)])
def test_systemd_is_used_only_where_it_really_holds_the_limit(
    plain: Mapping[str, Path],
    tmp_path: Path,
    held: str,
    used: bool,
) -> None:
    """A manager that was not given the memory controller makes a group without a limit."""
    program = tmp_path / "systemd-run"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\necho {held}\n')
    program.chmod(0o755)
    with fenced(Limits(memory_bytes=500_000_000), **plain) as fence:
        assert bool(fence.prefix) is used
        assert (fence.data_bytes is None) is used
    called = (tmp_path / "called").read_text()
    assert "--scope --quiet -p MemoryMax=500000000 -p MemorySwapMax=0 -- sh -c" in called


def test_a_profile_under_limits_says_that_it_is_no_device(bundle: Bundle) -> None:
    brought = profile_limited(bundle, Limits(cores=1), COSTS_OFF, runtime="onnxruntime")
    assert brought.error is None
    profile = brought.profile
    assert profile is not None
    assert profile.simulated == Simulated(cores=1, how="affinity")
    assert {result.settings.threads for result in profile.results} == {1}
    assert profile.machine.cores == 1
    assert len({result.samples.run for result in profile.results}) == 1  # in turns
    assert (
        profile.simulated.label("CPU X")
        == "simulated: 1 core by affinity on CPU X: no device's figures"
    )


def _memory(bundle: Bundle, size: str) -> subprocess.CompletedProcess[str]:
    out = bundle.path.with_name("limited.json")
    command = [sys.executable, "-m", "edgekit", "profile", str(bundle.path), *COSTS_OFF]
    command += ["--artifact=onnxruntime-int8", f"--limit=cores=1,memory={size}", f"-o{out}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_fits_the_memory_is_measured_and_labelled(bundle_copy: Path) -> None:
    done = _memory(Bundle.open(bundle_copy), "2GB")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("simulated: 1 core, 2000 MB by affinity and ")
    stored = json.loads((bundle_copy.parent / "limited.json").read_bytes())
    assert stored["simulated"]["memory_bytes"] == 2_000_000_000


def test_what_does_not_fit_is_one_line_with_what_it_wants(bundle_copy: Path) -> None:
    done = _memory(Bundle.open(bundle_copy), "30MB")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().rpartition("\n")[2]
    assert last.startswith("edgekit: --limit memory: 30 MB are too little for onnxruntime-int8")
    assert re.search(r"by itself it holds \d+ MB", last)


def test_another_failure_is_told_as_it_is(bundle: Bundle) -> None:
    brought = profile_limited(bundle, Limits(cores=1), [*COSTS_OFF, "--size=foo=3"])
    assert brought.profile is None
    assert brought.error is not None
    assert str(brought.error).startswith("--size: no input has a dynamic dimension 'foo'")
    assert brought.error.exit_code == 2
