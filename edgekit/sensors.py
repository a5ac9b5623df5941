"""What the machine and this process say of themselves, on Linux; nothing elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CpuClock", "Temperature", "memory", "process_cpu_s", "temperatures"]

_PROC, _SYS = Path("/proc"), Path("/sys")


@dataclass(frozen=True, slots=True)
class Temperature:
    """A reading in degrees Celsius."""

    sensor: str
    celsius: float


class CpuClock:
    """How busy all processors were, from one reading to the next."""

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._last = self._read()

    def utilization(self) -> float | None:
        """Share of the time since the last call, 0 to 1; None where it cannot be known."""
        now, last = self._read(), self._last
        self._last = now
        if now is None or last is None or now[1] <= last[1]:
            return None
        return min(1.0, max(0.0, 1.0 - (now[0] - last[0]) / (now[1] - last[1])))

    def _read(self) -> tuple[int, int] | None:
        """Idle and all ticks since the start of the machine."""
        line = _text(self._proc / "stat").partition("\n")[0].split()
        if len(line) < 9 or line[0] != "cpu":
            return None
        ticks = [int(field) for field in line[1:9]]
        return ticks[3] + ticks[4], sum(ticks)  # idle and waiting for a disk


def memory(proc: Path = _PROC) -> tuple[int, int] | None:
    """Bytes of the machine's memory in all and in use; None where it cannot be known."""
    lines = (line.split() for line in _text(proc / "meminfo").splitlines())
    found = {line[0]: int(line[1]) * 1024 for line in lines if len(line) >= 2}
    if not {"MemTotal:", "MemAvailable:"} <= found.keys():
        return None
    return found["MemTotal:"], found["MemTotal:"] - found["MemAvailable:"]


def process_cpu_s() -> float:
    """Seconds of processor time that this process took, all threads together."""
    times = os.times()
    return times.user + times.system


def temperatures(sys: Path = _SYS) -> list[Temperature]:
    """Every sensor that the kernel knows: thermal zones and hardware monitors."""
    return [*_zones(sys / "class/thermal"), *_monitors(sys / "class/hwmon")]


def _zones(folder: Path) -> Iterator[Temperature]:
    for zone in sorted(folder.glob("thermal_zone*")):
        celsius = _degrees(zone / "temp")
        if celsius is not None:
            yield Temperature(f"{zone.name}/{_text(zone / 'type').strip()}", celsius)


def _monitors(folder: Path) -> Iterator[Temperature]:
    for monitor in sorted(folder.glob("hwmon*")):
        name = _text(monitor / "name").strip()
        for file in sorted(monitor.glob("temp*_input")):
            celsius = _degrees(file)
            if celsius is not None:
                label = _text(file.with_name(file.name.replace("_input", "_label"))).strip()
                place = label or file.name.removesuffix("_input")
                yield Temperature(f"{monitor.name}/{name}/{place}", celsius)


def _degrees(file: Path) -> float | None:
    """The kernel writes thousandths of a degree; a sensor that is off refuses to be read."""
    text = _text(file).strip()
    return int(text) / 1000 if text.removeprefix("-").isdigit() else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
