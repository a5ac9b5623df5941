from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgekit.sensors import CpuClock, Temperature, memory, process_cpu_s, temperatures


def _board(sys: Path) -> None:
    """Files as a Raspberry Pi 5's kernel shows them, and a sensor that is off."""
    for path, text in {
        "class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "class/thermal/thermal_zone0/temp": "48450\n",
        "class/thermal/thermal_zone1/type": "gpu-thermal\n",
        "class/hwmon/hwmon0/name": "cpu_thermal\n",
        "class/hwmon/hwmon0/temp1_input": "-1250\n",
        "class/hwmon/hwmon2/name": "nvme\n",
        "class/hwmon/hwmon2/temp1_input": "39850\n",
        "class/hwmon/hwmon2/temp1_label": "Composite\n",
    }.items():
        file = sys / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_every_sensor_that_can_be_read_is_told(tmp_path: Path) -> None:
    _board(tmp_path)
    assert temperatures(tmp_path) == [
        Temperature("thermal_zone0/cpu-thermal", 48.45),
        Temperature("hwmon0/cpu_thermal/temp1", -1.25),
        Temperature("hwmon2/nvme/Composite", 39.85),
    ]


def test_a_machine_without_sensors_has_no_temperature(tmp_path: Path) -> None:
    assert temperatures(tmp_path) == []
    assert memory(tmp_path) is None
    assert CpuClock(tmp_path).utilization() is None


def test_this_machine_says_how_busy_it_is() -> None:
    clock, before = CpuClock(), process_cpu_s()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    busy = clock.utilization()
    assert busy is not None
    assert 0.05 < busy <= 1
    assert process_cpu_s() - before > 0.1
    total, used = memory() or (0, 0)
    assert 0 < used < total


def test_utilization_is_the_share_of_ticks_that_were_not_idle(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  100 0 0 100 0 0 0 0 0 0\n")
    clock = CpuClock(tmp_path)
    (tmp_path / "stat").write_text("cpu  130 0 0 160 10 0 0 0 0 0\n")
    assert clock.utilization() == pytest.approx(0.3)
