from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.profile.energy import Meter, Sensor, find_sensor

RANGE = 262_143_328_850


def _write(sys: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        file = sys / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")


def _rapl(sys: Path, joules: float = 1.0, package: int = 0) -> Path:
    zone = f"class/powercap/intel-rapl:{package}"
    _write(
        sys,
        {
            f"{zone}/name": f"package-{package}",
            f"{zone}/energy_uj": str(round(joules * 1e6)),
            f"{zone}/max_energy_range_uj": str(RANGE),
            f"{zone}:0/name": "core",
            f"{zone}:0/energy_uj": "5",
        },
    )
    return sys / zone / "energy_uj"


def _sensor(sys: Path) -> Sensor:
    found = find_sensor(sys)
    assert not isinstance(found, str), found
    return found


def test_energy_of_all_packages_is_added_and_their_parts_are_not_counted_twice(
    tmp_path: Path,
) -> None:
    first, second = _rapl(tmp_path, 10.0, 0), _rapl(tmp_path, 20.0, 1)
    sensor = _sensor(tmp_path)
    assert sensor.domain == "package-0 + package-1"
    first.write_text("10500000\n")
    second.write_text("20250000\n")
    assert sensor.taken(1.0) == pytest.approx(0.75)
    assert sensor.taken(1.0) == 0


@given(start=st.integers(0, RANGE), more=st.integers(0, RANGE))
def test_a_counter_that_starts_again_at_zero_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, start: int, more: int
) -> None:
    counter = _rapl(tmp_path_factory.mktemp("sys"))
    counter.write_text(str(start))
    sensor = _sensor(counter.parents[3])
    counter.write_text(str((start + more) % (RANGE + 1)))
    assert sensor.taken(1.0) == pytest.approx(more / 1e6)


def test_the_input_of_a_jetson_board_covers_more_than_its_other_rails(tmp_path: Path) -> None:
    chip = "class/hwmon/hwmon3"
    rails = {1: ("VDD_IN", 5000, 1200), 2: ("VDD_CPU_GPU_CV", 5000, 400), 3: ("VDD_SOC", 5000, 300)}
    files = {f"{chip}/name": "ina3221"}
    for number, (label, millivolt, milliampere) in rails.items():
        files[f"{chip}/in{number}_label"] = label
        files[f"{chip}/in{number}_input"] = str(millivolt)
        files[f"{chip}/curr{number}_input"] = str(milliampere)
    _write(tmp_path, {**files, f"{chip}/in7_label": "sum of shunt voltages"})
    sensor = _sensor(tmp_path)
    assert sensor.domain == "VDD_IN"
    assert sensor.taken(2.0) == pytest.approx(12.0)


def test_without_an_input_rail_the_rails_of_the_first_chip_are_added(tmp_path: Path) -> None:
    device = "bus/i2c/drivers/ina3221x/1-0040/iio:device0"
    _write(
        tmp_path,
        {
            f"{device}/rail_name_0": "VDD_GPU",
            f"{device}/in_power0_input": "1500",
            f"{device}/rail_name_1": "NC",
            f"{device}/in_power1_input": "9",
            f"{device}/rail_name_2": "VDD_CPU",
            f"{device}/in_power2_input": "500",
        },
    )
    sensor = _sensor(tmp_path)
    assert sensor.domain == "VDD_GPU + VDD_CPU"
    assert sensor.taken(1.0) == pytest.approx(2.0)


def test_a_monitor_of_one_supply_tells_power_itself(tmp_path: Path) -> None:
    _rapl(tmp_path)
    _write(
        tmp_path,
        {
            "class/hwmon/hwmon0/name": "nvme",
            "class/hwmon/hwmon0/power1_input": "99",
            "class/hwmon/hwmon1/name": "ina226",
            "class/hwmon/hwmon1/power1_input": "3250000",
        },
    )
    sensor = _sensor(tmp_path)
    assert sensor.domain == "ina226"
    assert sensor.taken(2.0) == pytest.approx(6.5)


def test_a_machine_without_sensors_says_where_they_were_looked_for(tmp_path: Path) -> None:
    _write(tmp_path, {"class/hwmon/hwmon0/name": "nvme", "class/powercap/dtpm/name": "dtpm"})
    assert find_sensor(tmp_path) == (
        f"no power sensor: neither RAPL in {tmp_path}/class/powercap nor INA in "
        f"{tmp_path}/class/hwmon"
    )


def test_counters_for_root_only_are_told_by_their_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = _rapl(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != counter)  # root reads all
    assert find_sensor(tmp_path) == f"no readable power sensor: {counter} needs root"


def test_the_meter_tells_the_energy_between_two_moments(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {"class/hwmon/hwmon1/name": "ina219", "class/hwmon/hwmon1/power1_input": "4000000"},
    )
    with Meter(_sensor(tmp_path), every=0.005) as meter:
        time.sleep(0.1)
        start = time.monotonic_ns()
        time.sleep(0.2)
        end = time.monotonic_ns()
        time.sleep(0.05)
        assert meter.joules(start, end) == pytest.approx(4.0 * (end - start) / 1e9, rel=1e-3)
        assert meter.watts(start, end) == pytest.approx(4.0, rel=1e-3)
        assert meter.joules(end, end + 1) is None  # not one reading between


def test_a_sensor_that_goes_away_is_told(tmp_path: Path) -> None:
    counter = _rapl(tmp_path)
    with Meter(_sensor(tmp_path), every=0.005) as meter:
        counter.unlink()
        deadline = time.monotonic() + 10
        while not meter.broken and time.monotonic() < deadline:
            time.sleep(0.005)
    assert meter.broken.startswith("package-0 can no longer be read")
