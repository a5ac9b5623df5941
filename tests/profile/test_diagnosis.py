"""Every rule with records that trigger it and records that do not."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from edgekit.profile.diagnosis import RULES, Finding, diagnose
from edgekit.profile.records import Outcome, Profile, Result, Settings, Simulated
from edgekit.profile.samples import WarmUp
from edgekit.report.findings import print_findings
from tests.report.documents import (
    PEAKS,
    QUIET,
    costs,
    latencies,
    layer,
    layers,
    network,
    profile,
    result,
)


def found(*results: Result, **fields: Any) -> dict[str, Finding]:
    return {finding.kind: finding for finding in diagnose(profile(*results, **fields))}


def conditions(**fields: Any) -> dict[str, Any]:
    return {"conditions": QUIET.model_copy(update=fields)}


def server(**stages: float) -> Result:
    whole = dict.fromkeys(("parse", "queue", "input", "infer", "output", "serialise"), 1e3)
    return result(stages={**whole, **stages})


def outcome(dropped: int) -> Outcome:
    return Outcome(
        valid=not dropped,
        queries=1000,
        samples=1000,
        seconds=10,
        metric="queries/s",
        value=100.0,
        dropped=dropped,
    )


def hot(slower: float) -> Result:
    """The second half of the run takes that many times as long, at a falling clock."""
    values = latencies(1.0)
    values = np.concatenate([values[:600], values[600:] * slower]).astype(int)
    return result(values=values, of_samples=conditions(mhz=(2000.0, 3000.0)))


def body(count: int = 8, **fields: Any) -> list[Any]:
    return [layer(f"conv{index}", **fields) for index in range(count)]


def at(intensity: float, rate: float, ns: float = 1e4) -> dict[str, Any]:
    """A layer's work: operations for each byte, operations a second."""
    flops = int(rate * ns / 1e9)
    return {"ns": ns, "flops": flops, "bytes": max(int(flops / intensity), 1)}


RIDGE = PEAKS.flops["int8"] / PEAKS.bytes_per_s

CASES: dict[str, tuple[Profile, Profile]] = {
    "throttled": (profile(hot(1.2)), profile(hot(1.0))),
    "unstable": (
        profile(result(values=latencies(1.0) * np.linspace(1.0, 1.4, 1200))),
        profile(result()),
    ),
    "other-load": (
        profile(result(of_samples=conditions(others=0.3))),
        profile(result(of_samples=conditions(others=0.02))),
    ),
    "too-few-samples": (
        profile(result(values=latencies(1.0, 661))),
        profile(result(values=latencies(1.0, 662))),
    ),
    "oversubscribed": (
        profile(result(settings=Settings(threads=4, streams=2))),
        profile(result(settings=Settings(threads=2, streams=2))),
    ),
    "dropped": (profile(result(outcome=outcome(3))), profile(result(outcome=outcome(0)))),
    "queue-bound": (profile(server(queue=9e3)), profile(server(infer=9e3))),
    "serialisation-bound": (
        profile(server(parse=4e3, serialise=5e3)),
        profile(server(infer=9e3)),
    ),
    "transfer-bound": (
        profile(result(layers=layers(*body(6), layer("copy", 3000, op="MemcpyToHost")))),
        profile(result(layers=layers(*body(20), layer("copy", 100, op="MemcpyToHost")))),
    ),
    "host-bound": (
        profile(result(layers=layers(*body(), outside=0.4))),
        profile(result(layers=layers(*body(), outside=0.1))),
    ),
    "fell-back": (
        profile(result(layers=layers(*body(), layer("odd", precision="fp32", modules=("m.odd",))))),
        profile(result(layers=layers(*body(), layer("odd", 100, precision="fp32")))),
    ),
    "conversions": (
        profile(result(layers=layers(*body(), layer("r", 2000, op="Reorder")))),
        profile(result(layers=layers(*body(), layer("r", 500, op="Reorder")))),
    ),
    "one-layer": (
        profile(result(layers=layers(*body(), layer("head", 9000, modules=("head",))))),
        profile(result(layers=layers(*body(), layer("head", 2000)))),
    ),
    "memory-bound": (
        profile(result(layers=layers(*body(**at(2.0, 0.8 * 2.0 * PEAKS.bytes_per_s))))),
        profile(result(layers=layers(*body(**at(RIDGE * 2, 0.8e12))))),
    ),
    "compute-bound": (
        profile(result(layers=layers(*body(**at(RIDGE * 2, 1.2e12))))),
        profile(result(layers=layers(*body(**at(RIDGE * 2, 0.4e12))))),
    ),
    "small-layers": (
        profile(result(layers=layers(*body(**at(RIDGE * 2, 0.02e12))))),
        profile(result(layers=layers(*body(**at(RIDGE * 2, 0.4e12))))),
    ),
    "heavy-tail": (
        profile(result(values=np.where(np.arange(2000) % 40 == 0, 5e6, 1e6))),
        profile(result()),
    ),
    "slow-start": (profile(result(costs=costs(10.0))), profile(result(costs=costs(1.0)))),
}


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == {rule.kind for rule in RULES}
    assert len(CASES) == len(RULES)


@pytest.mark.parametrize("kind", CASES)
def test_a_rule_finds_what_is_there_and_nothing_else(kind: str) -> None:
    bad, good = CASES[kind]
    told = {finding.kind: finding for finding in diagnose(bad)}
    assert kind in told
    finding = told[kind]
    assert finding.evidence
    assert all(name and value for name, value in finding.evidence)
    assert finding.sentence.endswith(".")
    assert finding.advice
    assert not finding.advice.endswith(".")
    assert kind not in {finding.kind for finding in diagnose(good)}


def test_a_quiet_run_of_a_healthy_network_has_nothing_in_doubt() -> None:
    told = found(result(layers=network("int8", 9.5e5), costs=costs()))
    assert [finding for finding in told.values() if finding.doubt] == []


def test_what_was_not_measured_says_nothing() -> None:
    bare = result(of_samples={"conditions": None, "warm_up": None})
    assert found(bare, peaks=None) == {}


def test_clocks_that_fell_while_latency_did_not_are_no_throttling() -> None:
    assert "throttled" not in found(hot(1.0))
    assert "throttled" in found(result(of_samples=conditions(throttled=2)))


def test_a_warm_up_that_never_settled_makes_a_run_unstable() -> None:
    restless = WarmUp(calls=9, seconds=0.1, steady=False)
    assert "unstable" in found(result(of_samples={"warm_up": restless}))


def test_threads_are_counted_against_the_cores_of_the_simulated_device() -> None:
    one = result(settings=Settings(threads=4))
    assert "oversubscribed" not in found(one)
    told = found(one, simulated=Simulated(cores=1, how="affinity"))["oversubscribed"]
    assert ("cores", "1") in told.evidence


def test_float_layers_of_a_float_artifact_did_not_fall_back() -> None:
    times = layers(*body(precision="fp32"))
    assert "fell-back" not in found(result("openvino-fp32", layers=times))
    assert "fell-back" in found(result("openvino-int8", layers=times))


def test_what_is_outside_the_layers_is_told_apart_where_that_is_known() -> None:
    times = layers(*body(), outside=0.5)
    unknown = dict(found(result(layers=times))["host-bound"].evidence)
    assert "outside" in unknown
    parts = {"call_ns": 3000.0, "between_ns": 1000.0}
    known = dict(found(result(layers=times.model_copy(update=parts)))["host-bound"].evidence)
    assert known["in the call"] == "3.0 µs"
    assert known["between layers"] == "1.0 µs"
    assert "outside" not in known


def test_a_layer_is_called_by_its_module() -> None:
    told = diagnose(CASES["one-layer"][0])
    assert any("head" in finding.sentence for finding in told if finding.kind == "one-layer")


def test_findings_about_the_machine_are_told_once() -> None:
    busy = conditions(others=0.4)
    told = diagnose(profile(*(result(name, of_samples=busy) for name in ("a-fp32", "a-int8"))))
    assert [finding.kind for finding in told].count("other-load") == 1


def test_the_terminal_has_a_line_for_what_several_artifacts_share() -> None:
    few = {"values": latencies(1.0, 100)}
    stream = io.StringIO()
    measured = profile(*(result(name, **few) for name in ("a-fp32", "b-fp32")))
    print_findings(measured, Console(file=stream, width=80))
    assert stream.getvalue() == (
        "too-few-samples (a-fp32, b-fp32): 100 samples do not bound a p99: 662 would. "
        "Give the run more --seconds.\n"
    )
