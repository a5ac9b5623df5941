from __future__ import annotations

import pytest

from edgekit.profile.records import LayerTime, Peaks
from edgekit.profile.roofline import roofline

PEAKS = Peaks(threads=1, flops={"fp32": 100e9, "int8": 400e9}, bytes_per_s=10e9)


def _layer(**values: object) -> LayerTime:
    return LayerTime.model_validate({"node": "n", "op": "Conv", "precision": "fp32", **values})


def test_a_layer_of_many_operations_a_byte_is_bound_by_the_processor() -> None:
    place = roofline(_layer(ns=1e6, flops=50_000_000, bytes=1_000_000), PEAKS)
    assert place.flops_per_s == pytest.approx(50e9)
    assert place.intensity == 50
    assert (place.bound, place.share) == ("compute", pytest.approx(0.5))


def test_a_layer_of_few_operations_a_byte_is_bound_by_memory() -> None:
    place = roofline(_layer(ns=1e6, flops=5_000_000, bytes=5_000_000), PEAKS)
    assert (place.bound, place.share) == ("memory", pytest.approx(0.5))


def test_each_precision_has_a_peak_of_its_own() -> None:
    place = roofline(_layer(ns=1e6, flops=100_000_000, bytes=1000, precision="int8"), PEAKS)
    assert place.share == pytest.approx(0.25)


def test_moving_data_is_measured_against_memory() -> None:
    place = roofline(_layer(ns=1e6, flops=0, bytes=20_000_000), PEAKS)
    assert (place.bound, place.share) == ("memory", pytest.approx(2.0))  # caches held it


def test_what_is_not_known_is_not_guessed() -> None:
    assert roofline(_layer(ns=1e6, flops=None, bytes=10), PEAKS).share is None
    assert roofline(_layer(ns=1e6, flops=10, bytes=10, precision="fp16"), PEAKS).share is None
    assert roofline(_layer(ns=1e6, flops=10, bytes=10), None).flops_per_s == pytest.approx(1e4)
    assert roofline(_layer(ns=0, flops=10, bytes=10), PEAKS).flops_per_s is None
