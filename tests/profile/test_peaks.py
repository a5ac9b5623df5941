from __future__ import annotations

import logging

import pytest

from edgekit.cache import cache_folder
from edgekit.profile import peaks
from edgekit.profile.records import Peaks


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(peaks, "_PRODUCT_S", 0.02)
    monkeypatch.setattr(peaks, "_STREAM_S", 0.02)
    monkeypatch.setattr(peaks, "_SIDES", (128,))
    monkeypatch.setattr(peaks, "_MOST_BYTES", 2**20)


def test_the_peaks_of_this_machine_are_measured() -> None:
    found = peaks.measure_peaks(1)
    assert {"fp32", "int8"} <= found.flops.keys()
    assert all(value > 1e8 for value in found.flops.values())
    assert found.bytes_per_s > 1e8
    assert found.measured
    assert found.threads == 1


def _known(monkeypatch: pytest.MonkeyPatch, others: float | None) -> list[int]:
    """What is measured from now on; and, in the list, with how many threads it was."""
    asked: list[int] = []

    def measured(threads: int) -> Peaks:
        asked.append(threads)
        return Peaks(threads=threads, flops={"fp32": 1.0}, bytes_per_s=1.0, others=others)

    monkeypatch.setattr(peaks, "measure_peaks", measured)
    return asked


def test_they_are_kept_for_each_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _known(monkeypatch, None)
    assert peaks.machine_peaks(1) == peaks.machine_peaks(1)
    peaks.machine_peaks(2)
    assert asked == [1, 2]


def test_those_of_a_busy_machine_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _known(monkeypatch, 0.5)
    peaks.machine_peaks(1)
    peaks.machine_peaks(1)
    assert asked == [1, 1]


def test_a_damaged_file_is_made_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = _known(monkeypatch, None)
    peaks.machine_peaks(1)
    (file,) = cache_folder("peaks").iterdir()
    file.write_text("{")
    with caplog.at_level(logging.WARNING):
        peaks.machine_peaks(1)
    assert asked == [1, 1]
    assert "damaged" in caplog.text
