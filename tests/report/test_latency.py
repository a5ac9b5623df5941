"""The latencies of a run in a terminal of 80 columns."""

from __future__ import annotations

import io

from rich.console import Console

from edgekit.profile.samples import Conditions, Samples
from edgekit.profile.stats import summarize
from edgekit.report.latency import print_latency
from tests.profile.synthetic import engine, measured, slower, throttled


def _printed(samples: list[Samples]) -> str:
    stream = io.StringIO()
    print_latency(samples, Console(file=stream, width=80))
    return stream.getvalue()


def _named(samples: list[Samples], *names: str) -> list[Samples]:
    return [
        record.model_copy(update={"artifact": name, "conditions": Conditions(others=0.3)})
        for record, name in zip(samples, names, strict=True)
    ]


def test_percentiles_stand_over_their_intervals() -> None:
    (record,) = _named(measured([engine], seed=0), "onnxruntime-fp32")
    text = _printed([record])
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    found = summarize(record).percentiles
    assert lines[1].split() == [
        "onnxruntime-fp32", "1000", *(f"{found[share].value:.3f}" for share in (50.0, 90.0, 99.0))
    ]  # fmt: skip
    assert lines[2].split()[0] == f"{found[50.0].low:.3f}-{found[50.0].high:.3f}"
    assert "lie beyond" in text


def test_a_p99_of_few_samples_is_not_told() -> None:
    text = _printed(_named(measured([engine], seed=0, rounds=50), "a"))
    assert text.splitlines()[1].split()[-1] == "-"
    assert text.splitlines()[2].endswith("needs 662 ")


def test_verdicts_and_comparisons_follow() -> None:
    laws = [engine, slower(engine, 1 / 1.5), engine, throttled(engine, 0.3, 600)]
    text = _printed(_named(measured(laws, seed=0), "fp32", "int8", "again", "hot"))
    assert "fp32, int8, again: stable\n" in text
    assert "hot: unstable: p50 rose by 30% at" in text
    assert "Meanwhile: other processes 30%\n" in text
    assert "int8 is 1.50x as fast as fp32 (1.49 to 1.50)" in text
    assert "no difference between again and fp32 (" in text
