"""What the machine did meanwhile, from files like those of a real one; None without such files."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from edgekit.profile import conditions as module
from edgekit.profile.conditions import ConditionsWatch
from edgekit.profile.samples import Conditions
from tests.profile.synthetic import FakeClock

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's files")


def _write(root: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def _stat(user: int, idle: int, steal: int) -> str:
    cores = sorted(os.sched_getaffinity(0))
    return "\n".join(f"cpu{core} {user} 0 0 {idle} 0 0 0 {steal} 0 0" for core in cores)


def test_a_system_that_tells_nothing_gives_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_preempted", lambda: None)
    assert ConditionsWatch(FakeClock(), tmp_path, tmp_path).stop() == Conditions()


@linux
def test_steal_and_other_processes_are_shares_of_the_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = iter([1.0, 1.0 + 0.2 * len(os.sched_getaffinity(0))])
    monkeypatch.setattr(module, "process_cpu_s", lambda: next(own))
    hertz = os.sysconf("SC_CLK_TCK")
    _write(tmp_path, {"stat": _stat(hertz, hertz, hertz)})
    watch = ConditionsWatch(FakeClock(), tmp_path, tmp_path)
    _write(tmp_path, {"stat": _stat(hertz * 3 // 2, hertz * 5 // 4, hertz * 5 // 4)})
    found = watch.stop()
    assert found.steal == pytest.approx(0.25)
    assert found.others == pytest.approx(0.3)


@linux
def test_clocks_temperatures_and_throttling_are_read_between_rounds(tmp_path: Path) -> None:
    cpu = "devices/system/cpu/cpu0"
    thermal = "class/thermal"
    _write(
        tmp_path,
        {
            f"{cpu}/cpufreq/scaling_cur_freq": 3_100_000,
            f"{cpu}/thermal_throttle/core_throttle_count": 4,
            f"{cpu}/thermal_throttle/package_throttle_count": 10,
            f"{thermal}/thermal_zone0/temp": 61_000,
            f"{thermal}/cooling_device0/type": "cpufreq-cpu0",
            f"{thermal}/cooling_device0/cur_state": 0,
        },
    )
    clock = FakeClock()
    watch = ConditionsWatch(clock, tmp_path, tmp_path)
    _write(tmp_path, {f"{cpu}/cpufreq/scaling_cur_freq": 2_200_000})
    _write(tmp_path, {f"{thermal}/cooling_device0/cur_state": 2})
    watch.look()  # too early: not read
    clock.now += 600_000_000
    watch.look()
    _write(
        tmp_path,
        {
            f"{cpu}/thermal_throttle/package_throttle_count": 13,
            f"{thermal}/cooling_device0/cur_state": 0,
            f"{thermal}/thermal_zone0/temp": 84_000,
        },
    )
    found = watch.stop()
    assert found.mhz == (2200.0, 3100.0)
    assert found.celsius == (61.0, 84.0)
    assert found.throttled == 3 + 1


@linux
def test_the_clock_is_read_from_cpuinfo_where_there_is_no_governor(tmp_path: Path) -> None:
    _write(tmp_path, {"cpuinfo": "processor : 0\ncpu MHz\t\t: 2649.998\ncpu MHz\t\t: 1200.000"})
    found = ConditionsWatch(FakeClock(), tmp_path, tmp_path).stop()
    assert found.mhz == (2649.998, 2649.998)


@linux
def test_this_machine_tells_shares() -> None:
    watch = ConditionsWatch(time.perf_counter_ns)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    found = watch.stop()
    assert found.others is not None
    assert 0 <= found.others <= 1
    assert found.steal is not None
    assert 0 <= found.steal <= 1
