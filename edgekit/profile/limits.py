"""Limits that make this machine like a smaller one, and what of this system can hold them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import SpecError, did_you_mean
from edgekit.profile.records import Simulated

__all__ = ["Fence", "Limits", "fenced", "parse_limits"]

_OPTION = "--limit"
_UNITS = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_BINARY = {"KI": 2**10, "MI": 2**20, "GI": 2**30}
_PERIOD_US = 100_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be used; None is no limit.

    Attributes:
        cores: how many processors.
        memory_bytes: of all processes together, where a cgroup can hold it.
        cpu: processor time in cores: 0.5 is half of one.
    """

    cores: int | None = None
    memory_bytes: int | None = None
    cpu: float | None = None


@dataclass(frozen=True, slots=True)
class Fence:
    """Holds limits around commands.

    Attributes:
        simulated: what is held, and how.
        prefix: of every command.
        cores: their numbers, empty for all.
        data_bytes: ``RLIMIT_DATA`` of each process, where memory cannot be held better.
        cgroup: folder of the group that commands join.
    """

    simulated: Simulated
    prefix: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()
    data_bytes: int | None = None
    cgroup: Path | None = None

    def command(self, command: Sequence[str]) -> list[str]:
        """The command that runs ``command`` under the limits."""
        limits = {
            "cores": self.cores,
            "data": self.data_bytes,
            "cgroup": str(self.cgroup) if self.cgroup else None,
        }
        launch = [sys.executable, "-P", "-m", "edgekit.profile.launch", json.dumps(limits)]
        return [*self.prefix, *launch, *command]


def parse_limits(text: str) -> Limits:
    """Limits from ``cores=1,memory=512MB,cpu=50%``; any of the three.

    ``MB`` are millions of bytes, ``MiB`` are 2**20; ``cpu`` is a share of one core's time.

    Raises:
        SpecError: it is not written so, or asks for more than this machine has.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in {"cores", "memory", "cpu"}:
            hint = did_you_mean(name, ("cores", "memory", "cpu"))
            raise _bad(f"knows no limit {name!r}{hint}")
        if name in found:
            raise _bad(f"{name} is there twice")
        found[name] = value
    return Limits(
        cores=_cores(found["cores"]) if "cores" in found else None,
        memory_bytes=_memory(found["memory"]) if "memory" in found else None,
        cpu=_cpu(found["cpu"]) if "cpu" in found else None,
    )


@contextmanager
def fenced(
    limits: Limits,
    *,
    root: Path = Path("/sys/fs/cgroup"),
    membership: Path = Path("/proc/self/cgroup"),
) -> Iterator[Fence]:
    """What holds these limits best here: a cgroup, else what every process can be given.

    Cores are held by affinity, which engines look at when they choose how many threads to start.
    Memory and time are held by a cgroup of version 2: an own one where this process may make it,
    else one that systemd makes. Without both, ``RLIMIT_DATA`` holds each process by itself:
    ``RLIMIT_AS`` would count every file that an engine maps.

    Args:
        limits: to hold.
        root: where the cgroups are mounted.
        membership: file that tells the group of this process.

    Raises:
        SpecError: processor time cannot be limited here.
    """
    cores = _chosen(limits.cores)
    affinity = ("affinity",) if cores else ()
    if limits.memory_bytes is None and limits.cpu is None:
        yield Fence(_simulated(limits, *affinity), cores=cores)
        return
    wanted = {"memory": limits.memory_bytes, "cpu": limits.cpu}
    parent = _parent([name for name, value in wanted.items() if value], root, membership)
    if parent is not None:
        with _group(parent, limits) as group:
            yield Fence(_simulated(limits, *affinity, "cgroup"), cores=cores, cgroup=group)
    elif prefix := _systemd(limits):
        yield Fence(_simulated(limits, *affinity, "cgroup"), prefix=prefix, cores=cores)
    elif limits.cpu is not None:
        raise SpecError(
            "processor time can be limited by cgroups only, and this process may not make one",
            where=f"{_OPTION} cpu",
            fix="Run it as root, under systemd, or limit cores instead",
        )
    else:
        how = "RLIMIT_DATA (each process by itself, its mapped files not counted)"
        yield Fence(_simulated(limits, *affinity, how), cores=cores, data_bytes=limits.memory_bytes)


def _simulated(limits: Limits, *how: str) -> Simulated:
    return Simulated(
        cores=limits.cores,
        memory_bytes=limits.memory_bytes,
        cpu=limits.cpu,
        how=" and ".join(how),
    )


def _cores(text: str) -> int:
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise _bad(f"cores={text} is not a number from 1 to {most}, what this process may use")
    return int(text)


def _memory(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?I?)B?", text.upper())
    scale = {**_UNITS, **_BINARY}.get(match[2]) if match else None
    if match is None or scale is None or float(match[1]) * scale < 1:
        raise _bad(f"memory={text} is no amount of memory")
    return round(float(match[1]) * scale)


def _cpu(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)%", text)
    if match is None or float(match[1]) < 1:
        raise _bad(f"cpu={text} is no share of a core's time from 1%")
    return float(match[1]) / 100


def _bad(what: str) -> SpecError:
    return SpecError(what, where=_OPTION, fix="Write cores=1,memory=512MB,cpu=50%, or some of them")


def _chosen(count: int | None, cpus: Path = Path("/sys/devices/system/cpu")) -> tuple[int, ...]:
    """Numbers of that many processors: of different cores, before the second thread of any."""
    if count is None:
        return ()

    def thread(cpu: int) -> int:
        siblings = _text(cpus / f"cpu{cpu}/topology/thread_siblings_list")
        listed = [int(number) for number in re.findall(r"\d+", siblings)]
        return sum(number < cpu for number in listed)

    able = sorted(os.sched_getaffinity(0), key=lambda cpu: (thread(cpu), cpu))
    return tuple(able[:count])


def _parent(controllers: Sequence[str], root: Path, membership: Path) -> Path | None:
    """The nearest group above this process in which it may make a limited one, None without."""
    found = re.search(r"^0::/(.*)$", _text(membership), re.MULTILINE)
    if found is None or ".." in found[1] or not (root / "cgroup.controllers").is_file():
        return None  # not mounted, of version 1, or not to be seen from here
    own = root / found[1] if found[1] else root
    for group in (own, *own.parents):
        if not group.is_relative_to(root):
            return None
        handed_down = _text(group / "cgroup.subtree_control").split()
        writable = all(os.access(path, os.W_OK) for path in (group, group / "cgroup.procs"))
        if writable and set(controllers) <= set(handed_down):
            return group
    return None


@contextmanager
def _group(parent: Path, limits: Limits) -> Iterator[Path]:
    group = parent / f"edgekit-{os.getpid()}-{time.monotonic_ns()}"
    group.mkdir()
    try:
        if limits.memory_bytes is not None:
            (group / "memory.max").write_text(str(limits.memory_bytes))
            with suppress(FileNotFoundError):  # a kernel without swap
                (group / "memory.swap.max").write_text("0")
        if limits.cpu is not None:
            (group / "cpu.max").write_text(f"{round(limits.cpu * _PERIOD_US)} {_PERIOD_US}")
        yield group
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    """End what still runs in it: a group can be removed only when it is empty."""
    with suppress(OSError):  # a kernel before 5.14 has no such file
        (group / "cgroup.kill").write_text("1")
    for _ in range(50):
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.02)


def _systemd(limits: Limits) -> tuple[str, ...]:
    """The systemd-run command that holds them, empty where it does not work."""
    if shutil.which("systemd-run") is None:
        return ()
    command = ["systemd-run", *([] if os.geteuid() == 0 else ["--user"]), "--scope", "--quiet"]
    files = []
    if limits.memory_bytes is not None:
        command += ["-p", f"MemoryMax={limits.memory_bytes}", "-p", "MemorySwapMax=0"]
        files.append("memory.max")
    if limits.cpu is not None:
        command += ["-p", f"CPUQuota={limits.cpu * 100:g}%"]
        files.append("cpu.max")
    # A manager without the controller makes a group without that limit, and says nothing.
    script = 'cd "/sys/fs/cgroup$(sed -n "s/^0:://p" /proc/self/cgroup)" && cat "$@"'
    with suppress(OSError, subprocess.TimeoutExpired):
        tried = subprocess.run(
            [*command, "--", "sh", "-c", script, "sh", *files],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        held = [line for line in tried.stdout.splitlines() if not line.startswith("max")]
        if tried.returncode == 0 and len(held) == len(files):
            return (*command, "--")
    return ()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
