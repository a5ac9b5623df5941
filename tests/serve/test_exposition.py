from __future__ import annotations

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgekit.serve.exposition import Family, render


@pytest.mark.parametrize(
    "value", ["plain", 'a"b', "back\\slash", "new\nline", '\\"\n\\n', "", "{}=,", "ünï☃", "\r\t"]
)
def test_every_label_value_survives(value: str) -> None:
    family = Family("requests", "gauge", "Requests")
    family.add(3, {"model": value, "version": "1"})
    parsed = list(text_string_to_metric_families(render([family]).decode()))
    assert [sample.labels for sample in parsed[0].samples] == [{"model": value, "version": "1"}]
    assert parsed[0].samples[0].value == 3


@pytest.mark.parametrize("value", [0, 2**53, 1.5, -1e-9, 1e300, math.inf, math.nan])
def test_every_number_survives(value: float) -> None:
    family = Family("x", "gauge", "told")
    family.add(value)
    sample = next(iter(text_string_to_metric_families(render([family]).decode()))).samples[0]
    assert sample.value == value or (math.isnan(value) and math.isnan(sample.value))


def test_metrics_without_samples_are_left_out() -> None:
    assert render([Family("x", "gauge", "told")]) == b""


def test_a_counter_keeps_its_name() -> None:
    family = Family("nv_inference_count", "counter", "Inferences")
    family.add(1)
    assert render([family]).decode().splitlines() == [
        "# HELP nv_inference_count Inferences",
        "# TYPE nv_inference_count counter",
        "nv_inference_count 1",
    ]
