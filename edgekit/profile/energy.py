"""Energy from sensors of the board: Intel's and AMD's RAPL counters, TI's INA power monitors.

RAPL: ``Documentation/power/powercap/powercap.rst`` of Linux. INA: its hwmon drivers, and NVIDIA's
older one on Jetson boards, which shows the same chip under ``iio``.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from edgekit.closing import Closing

__all__ = ["Meter", "Sensor", "find_sensor"]

_SYS = Path("/sys")
#: Rails that feed the whole board, by the names on Jetson modules.
_BOARD_RAILS = ("VDD_IN", "POM_5V_IN", "5V_IN")


class Sensor(Protocol):
    """Something that tells energy.

    Attributes:
        domain: what its figures cover.
    """

    @property
    def domain(self) -> str: ...

    def taken(self, seconds: float) -> float:
        """Joules since the last call, which was so many seconds ago.

        Raises:
            OSError: it can no longer be read.
        """


def find_sensor(sys: Path = _SYS) -> Sensor | str:
    """The sensor that covers the most of this machine, or why there is none.

    A board's own input is preferred to the processor's counters.
    """
    rails = _hwmon_rails(sys / "class/hwmon") or _iio_rails(sys / "bus/i2c/drivers")
    if rails:
        return _Rails(rails)
    zones = [
        zone
        for zone in sorted((sys / "class/powercap").glob("intel-rapl:*"))
        if _text(zone / "name").startswith("package")
    ]
    if not zones:
        return f"no power sensor: neither RAPL in {sys}/class/powercap nor INA in {sys}/class/hwmon"
    hidden = [zone / "energy_uj" for zone in zones if not os.access(zone / "energy_uj", os.R_OK)]
    if hidden:
        return f"no readable power sensor: {hidden[0]} needs root"
    return _Rapl(zones)


class _Rapl:
    """The energy counters of all processor packages."""

    def __init__(self, zones: Sequence[Path]) -> None:
        self.domain = " + ".join(_text(zone / "name") for zone in zones)
        self._files = [zone / "energy_uj" for zone in zones]
        self._ranges = [int(_text(zone / "max_energy_range_uj")) for zone in zones]
        self._last = self._read()

    def taken(self, seconds: float) -> float:  # noqa: ARG002  the counters know
        now, last = self._read(), self._last
        self._last = now
        # A counter starts at 0 again after its range: within minutes at full load.
        return sum(
            (new - old) % (most + 1)
            for new, old, most in zip(now, last, self._ranges, strict=True)
        ) / 1e6  # fmt: skip

    def _read(self) -> list[int]:
        return [int(file.read_text()) for file in self._files]


@dataclass(frozen=True, slots=True)
class _Rail:
    """One supply line: power is the product of its files' values and ``scale``, in watts."""

    name: str
    files: tuple[Path, ...]
    scale: float

    @property
    def watts(self) -> float:
        product = self.scale
        for file in self.files:
            product *= int(file.read_text())
        return product


class _Rails:
    """Power of supply lines, taken as constant since the last reading."""

    def __init__(self, rails: Sequence[_Rail]) -> None:
        whole = [rail for rail in rails if rail.name in _BOARD_RAILS]
        self._rails = whole[:1] or rails
        self.domain = " + ".join(rail.name for rail in self._rails)

    def taken(self, seconds: float) -> float:
        return seconds * sum(rail.watts for rail in self._rails)


def _hwmon_rails(folder: Path) -> list[_Rail]:
    """The rails of the first INA chip. Others feed from the first one's, on boards that have them.

    An INA2xx tells power (microwatts), an INA3221 the voltage (mV) and current (mA) of each rail.
    """
    for monitor in sorted(folder.glob("hwmon*")):
        chip = _text(monitor / "name")
        if not chip.startswith("ina"):
            continue
        rails = [
            _Rail(_text(monitor / file.name.replace("_input", "_label")) or chip, (file,), 1e-6)
            for file in sorted(monitor.glob("power*_input"))
        ]
        for current in sorted(monitor.glob("curr*_input")) if not rails else ():
            number = current.name.removeprefix("curr").removesuffix("_input")
            label = _text(monitor / f"in{number}_label")
            if (monitor / f"in{number}_input").is_file() and label != "NC":
                files = (monitor / f"in{number}_input", current)
                rails.append(_Rail(label or f"{chip} rail {number}", files, 1e-6))
        if rails := [rail for rail in rails if _readable(rail)]:
            return rails
    return []


def _iio_rails(folder: Path) -> list[_Rail]:
    """The rails of the first chip under NVIDIA's older driver, in milliwatts."""
    for device in sorted(folder.glob("ina3221*/*/iio:device*")):
        rails = [
            _Rail(_text(device / f"rail_name_{number}") or f"rail {number}", (file,), 1e-3)
            for number in range(8)
            if (file := device / f"in_power{number}_input").is_file()
        ]
        if rails := [rail for rail in rails if rail.name != "NC" and _readable(rail)]:
            return rails
    return []


def _readable(rail: _Rail) -> bool:
    return all(_text(file).removeprefix("-").isdigit() for file in rail.files)


def _text(file: Path) -> str:
    """Empty where it cannot be read: a rail that is off refuses."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


@dataclass
class Meter(Closing):
    """Reads a sensor in a thread of its own, so that energy is known between any two moments.

    It belongs into another process than what is measured.

    Attributes:
        sensor: to read.
        every: seconds between two readings.
        broken: why reading ended early; empty while it goes on.
    """

    sensor: Sensor
    every: float = 0.02
    broken: str = ""
    _times: list[int] = field(default_factory=list)
    _joules: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.sensor.taken(0.0)  # what was before does not count
        self._times.append(time.monotonic_ns())
        self._joules.append(0.0)
        self._thread = threading.Thread(target=self._read, name="edgekit-energy", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Read no more; what was read stays known."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def joules(self, start: int, end: int) -> float | None:
        """Energy between two moments of the monotonic clock, in nanoseconds.

        None where there are fewer than three readings between them: sensors are slow.
        """
        times, joules = list(self._times), list(self._joules)
        count = min(len(times), len(joules))  # the thread goes on meanwhile
        inside = sum(start <= moment <= end for moment in times[:count])
        if inside < 3:
            return None
        return self._at(end, times, joules) - self._at(start, times, joules)

    def watts(self, start: int, end: int) -> float | None:
        """Mean power between two moments."""
        joules = self.joules(start, end)
        return None if joules is None else joules / ((end - start) / 1e9)

    @staticmethod
    def _at(moment: int, times: Sequence[int], joules: Sequence[float]) -> float:
        """Energy up to a moment, on a straight line between the readings around it."""
        after = min(max(bisect_left(times, moment), 1), len(joules) - 1)
        before = after - 1
        share = (moment - times[before]) / max(times[after] - times[before], 1)
        return joules[before] + share * (joules[after] - joules[before])

    def _read(self) -> None:
        while not self._stop.wait(self.every):
            now = time.monotonic_ns()
            try:
                taken = self.sensor.taken((now - self._times[-1]) / 1e9)
            except (OSError, ValueError) as error:
                self.broken = f"{self.sensor.domain} can no longer be read: {error}"
                return
            self._times.append(now)
            self._joules.append(self._joules[-1] + taken)
