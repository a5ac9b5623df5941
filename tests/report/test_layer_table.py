from __future__ import annotations

from io import StringIO

from rich.console import Console

from edgekit.profile.records import LayerTime, LayerTimes, Peaks
from edgekit.report.layer_table import print_layers, print_peaks

PEAKS = Peaks(threads=2, measured="2026-01-02T03:04:05+00:00", flops={"fp32": 1e11},
              bytes_per_s=1e10)  # fmt: skip


def _printed(times: LayerTimes) -> str:
    stream = StringIO()
    print_layers("openvino-fp32", times, PEAKS, Console(file=stream, width=100))
    return stream.getvalue()


def _layers(count: int) -> tuple[LayerTime, ...]:
    return tuple(
        LayerTime(node=f"n{i}", op="Conv", precision="fp32", modules=(f"block[{i}].conv",),
                  ns=1000.0 * (i + 1), flops=10_000, bytes=100, inserted=i == count - 1)
        for i in range(count)
    )  # fmt: skip


def test_the_ten_slowest_come_first_and_the_rest_is_summed() -> None:
    text = _printed(LayerTimes(layers=_layers(12), inference_ns=1e5, plain_ns=1e5, runs=9))
    lines = text.splitlines()
    assert "(inserted for) block[11].conv" in lines[2]
    assert "block[2].conv" in text
    assert "block[1].conv" not in text
    assert "0.003   3.0%  2 other layers" in text
    assert "0.022  22.0%  outside the layers" in text


def test_the_call_and_what_is_between_the_layers_have_lines_where_they_are_known() -> None:
    text = _printed(
        LayerTimes(layers=_layers(1), inference_ns=1e4, plain_ns=1e4, call_ns=5000,
                   between_ns=4000, runs=9)
    )  # fmt: skip
    assert "0.005  50.0%  the call: Python, inputs, outputs" in text
    assert "0.004  40.0%  between the layers" in text
    assert "outside" not in text


def test_what_each_achieved_stands_beside_what_the_machine_could() -> None:
    text = _printed(LayerTimes(layers=_layers(1), inference_ns=1000, plain_ns=1000, runs=9))
    assert "Conv fp32" in text
    assert "10.0" in text  # 10,000 operations in a microsecond
    assert "10% compute" in text


def test_what_profiling_costs_is_said_where_it_matters() -> None:
    calm = LayerTimes(layers=_layers(1), inference_ns=1000, plain_ns=1000, runs=9)
    assert "Profiling" not in _printed(calm)
    assert "scaled" not in _printed(calm)
    heavy = LayerTimes(layers=_layers(1), inference_ns=3000, plain_ns=1000, call_ns=500,
                       profiler_ns=700, scale=0.8, runs=9)  # fmt: skip
    text = " ".join(_printed(heavy).split())
    assert "Profiling makes it take 3.0 times as long" in text
    assert "Taken off each layer: 0.7 us" in text
    assert "scaled by 0.80, to fit" in text


def test_peaks_of_a_busy_machine_are_told_to_be_too_low() -> None:
    stream = StringIO()
    print_peaks(PEAKS.model_copy(update={"others": 0.4}), Console(file=stream, width=200))
    assert "100 GOP/s fp32, 10.0 GB/s from memory" in stream.getvalue()
    assert "Other work used 40% of the processors" in stream.getvalue()
