"""What else the machine does while latencies are taken. Read between timed calls, never in them.

Everything comes from files of Linux and from the system's accounting; what a system does not tell
is None. A reading costs well under a millisecond on a small machine, and the runner takes one at
most twice a second, before an inference that is not counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgekit.profile.samples import Conditions
from edgekit.sensors import process_cpu_s, temperatures

__all__ = ["ConditionsWatch"]

_PROC, _SYS = Path("/proc"), Path("/sys")
_EVERY_NS: Final = 500_000_000

#: Types of the kernel's cooling devices that hold a processor's clock down.
_COOLING: Final = ("cpufreq-", "thermal-cpufreq-", "Processor")


@dataclass(frozen=True, slots=True)
class _Counters:
    """Counts since some origin; only differences mean something.

    Attributes:
        ticks: all, stolen and busy time of the processors that this process may use, in seconds.
        own: seconds of processor time of this process, all threads together.
        preempted: involuntary context switches; None where the system does not count them.
        throttled: times that processors slowed down for heat; None where they do not say.
    """

    ticks: tuple[float, float, float] | None
    own: float
    preempted: int | None
    throttled: int | None


class ConditionsWatch:
    """Watches from its making until :meth:`stop`.

    Args:
        clock: nanoseconds, the same that the latencies are taken by.
        proc: where the kernel's process files are.
        sys: where its device files are.
    """

    def __init__(self, clock: Callable[[], int], proc: Path = _PROC, sys: Path = _SYS) -> None:
        self._clock = clock
        self._proc = proc
        self._sys = sys
        self._frequencies = sorted(
            sys.glob("devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
        )
        self._cooling = [
            folder / "cur_state"
            for folder in sys.glob("class/thermal/cooling_device*")
            if _text(folder / "type").startswith(_COOLING)
        ]
        self._held = 0
        self._mhz: list[float] = []
        self._celsius = self._hottest()
        self._first = self._counters()
        self._began = self._due = clock()
        self.look()

    def look(self) -> None:
        """Read clocks and cooling, if the last time is half a second ago. For between rounds."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + _EVERY_NS
        mhz = self._fastest()
        if mhz is not None:
            self._mhz.append(mhz)
        self._held += any(_number(file) for file in self._cooling)

    def stop(self) -> Conditions:
        """What happened since the start."""
        self._due = 0
        self.look()
        last, first = self._counters(), self._first
        seconds = (self._clock() - self._began) / 1e9
        steal = others = None
        if first.ticks and last.ticks and last.ticks[0] > first.ticks[0]:
            total, stolen, busy = (b - a for a, b in zip(first.ticks, last.ticks, strict=True))
            steal = _share(stolen / total)
            others = _share((busy - (last.own - first.own)) / total)
        hottest = self._hottest()
        return Conditions(
            steal=steal,
            others=others,
            preempted=_difference(first.preempted, last.preempted, seconds),
            mhz=(min(self._mhz), max(self._mhz)) if self._mhz else None,
            celsius=(self._celsius, hottest)
            if self._celsius is not None and hottest is not None
            else None,
            throttled=self._throttled(first.throttled, last.throttled),
        )

    def _throttled(self, first: int | None, last: int | None) -> int | None:
        counted = None if first is None or last is None else last - first
        if not self._cooling:
            return counted
        return self._held + (counted or 0)

    def _counters(self) -> _Counters:
        return _Counters(
            ticks=_ticks(self._proc),
            own=process_cpu_s(),
            preempted=_preempted(),
            throttled=_throttle_counts(self._sys),
        )

    def _hottest(self) -> float | None:
        return max((one.celsius for one in temperatures(self._sys)), default=None)

    def _fastest(self) -> float | None:
        """Of all cores: idle ones rest at a low clock, which says nothing of those that work."""
        read = [value / 1e3 for file in self._frequencies if (value := _number(file)) is not None]
        return max(read or _cpuinfo_mhz(self._proc), default=None)


def _ticks(proc: Path) -> tuple[float, float, float] | None:
    """Seconds in all, stolen and busy of the processors that this process may use."""
    allowed = getattr(os, "sched_getaffinity", lambda _: None)(0)
    if allowed is None:
        return None
    total = stolen = busy = 0
    names = {f"cpu{number}" for number in allowed}
    for line in _text(proc / "stat").splitlines():
        fields = line.split()
        if len(fields) >= 9 and fields[0] in names:
            ticks = [int(field) for field in fields[1:9]]
            total += sum(ticks)
            stolen += ticks[7]
            busy += sum(ticks[:3]) + ticks[5] + ticks[6]
    hertz = os.sysconf("SC_CLK_TCK")
    return (total / hertz, stolen / hertz, busy / hertz) if total else None


def _preempted() -> int | None:
    """Involuntary context switches; a kernel that counts no switches at all cannot say."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_nivcsw if used.ru_nivcsw or used.ru_nvcsw else None


def _throttle_counts(sys: Path) -> int | None:
    """Times that cores and packages slowed down, by x86's own counters."""
    folders = sys.glob("devices/system/cpu/cpu[0-9]*/thermal_throttle")
    cores, packages = [], []
    for folder in folders:
        cores.append(_number(folder / "core_throttle_count"))
        packages.append(_number(folder / "package_throttle_count"))
    known = [count for count in cores if count is not None]
    shared = [count for count in packages if count is not None]
    # Every core tells its package's count: taking the largest counts no event twice.
    return sum(known) + max(shared, default=0) if known or shared else None


def _cpuinfo_mhz(proc: Path) -> list[float]:
    return [
        float(line.partition(":")[2])
        for line in _text(proc / "cpuinfo").splitlines()
        if line.startswith("cpu MHz")
    ]


def _difference(first: int | None, last: int | None, seconds: float) -> float | None:
    return None if first is None or last is None or seconds <= 0 else (last - first) / seconds


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdigit() else None


def _text(file: Path) -> str:
    """A sensor that is off, or a system without such files, refuses to be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
