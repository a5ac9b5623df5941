"""Gates on latencies of a known distribution."""

from __future__ import annotations

import pytest

import edgekit
from edgekit.bundle import Bundle
from edgekit.errors import SpecError
from edgekit.machine import this_machine
from edgekit.manifest import Accuracy
from edgekit.profile.figures import Measured
from edgekit.profile.gate import judge, parse_gates
from edgekit.profile.records import Costs, Profile, Result
from tests.profile.test_choose import point


def profile(*points: Measured, **fields: object) -> Profile:
    made = Profile(
        edgekit=edgekit.__version__,
        created="now",
        model="m",
        machine=this_machine(),
        results=tuple(
            Result(samples=samples, settings=one.settings)
            for one in points
            for samples in one.samples
        ),
    )
    return made.model_copy(update=fields)


def accurate(bundle: Bundle, reference: float = 0.9, score: float = 0.894) -> Bundle:
    accuracy = Accuracy(
        metric="top1",
        higher_is_better=True,
        max_drop=0.1,
        reference=reference,
        artifacts={"onnxruntime-int8": score},
    )
    return Bundle(bundle.path, bundle.manifest.model_copy(update={"accuracy": accuracy}))


def passed(
    bundle: Bundle, gate: str, measured: Profile, baseline: Profile | None = None
) -> tuple[bool, str]:
    (verdict,) = judge(parse_gates([gate], bundle, baseline), bundle, measured, baseline=baseline)
    return verdict.passed, str(verdict)


@pytest.mark.parametrize(
    ("gate", "wanted"),
    [
        ("p50<1.1ms", True),
        ("p50<0.5ms", False),
        ("p50<500us", False),
        ("p99<8ms", True),
        ("throughput>900", True),
        ("throughput>1100", False),
        ("size<1GB", True),
        ("drop<0.7", True),
        ("drop<0.5", False),
        ("drop<0.5%", False),
    ],
)
def test_a_gate_is_judged_by_the_figure(bundle: Bundle, gate: str, wanted: bool) -> None:
    found, told = passed(accurate(bundle), gate, profile(point(1.0, rounds=500)))
    assert found is wanted, told
    assert gate in told


def test_too_few_samples_fail_and_say_so(bundle: Bundle) -> None:
    found, told = passed(bundle, "p99<8ms", profile(point(1.0, rounds=20)))
    assert not found
    assert "too few samples: 80 samples, p99 takes 662" in told


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ("p99", "is no goal"),
        ("speed<1", "'speed' is no metric"),
        ("trougput>1", "did you mean 'throughput'"),
        ("p99<8MB", "must be a time"),
        ("throughput>8ms", "must be a number"),
        ("p50<1.05x", "against a baseline, and there is none"),
        ("drop<0.5", "the bundle has no accuracy"),
    ],
)
def test_what_cannot_be_judged_is_told_before_anything_is_measured(
    bundle: Bundle, gate: str, told: str
) -> None:
    with pytest.raises(SpecError, match=told):
        parse_gates([gate], bundle, None)


def test_a_drop_of_what_is_no_share_is_told(bundle: Bundle) -> None:
    with pytest.raises(SpecError, match=r"top1 is 23\.5, not a share"):
        parse_gates(["drop<0.5"], accurate(bundle, 23.5), None)


def test_an_artifact_that_was_not_evaluated_fails(bundle: Bundle) -> None:
    found, told = passed(
        accurate(bundle), "drop<0.5", profile(point(1.0, artifact="openvino-int8"))
    )
    assert not found
    assert "was not evaluated" in told


def test_noise_does_not_fail_a_gate_against_a_baseline(bundle: Bundle) -> None:
    """One artifact twice: in 100 trials none fails a limit of 5 %."""
    failed = 0
    for trial in range(100):
        now, then = (
            profile(point(1.0, spread=0.2, seed=2 * trial + i, run=str(i))) for i in range(2)
        )
        failed += not passed(bundle, "p50<1.05x", now, then)[0]
    assert failed == 0


def test_a_real_slow_down_fails_with_its_interval(bundle: Bundle) -> None:
    now, then = profile(point(1.2, run="a")), profile(point(1.0, seed=1, run="b"))
    found, told = passed(bundle, "p50<1.05x", now, then)
    assert not found
    assert "1.20x (1.1" in told
    assert not passed(bundle, "throughput>0.95x", now, then)[0]
    assert passed(bundle, "throughput>0.5x", now, then)[0]


def test_a_baseline_of_another_machine_fails(bundle: Bundle) -> None:
    other = this_machine().model_copy(update={"cpu": "Z80"})
    found, told = passed(
        bundle, "p50<1.05x", profile(point(1.0)), profile(point(1.0), machine=other)
    )
    assert not found
    assert "measured on another machine: Z80" in told


def test_a_baseline_without_that_setting_fails(bundle: Bundle) -> None:
    found, told = passed(
        bundle, "p50<1.05x", profile(point(1.0, threads=2)), profile(point(1.0, threads=1))
    )
    assert not found
    assert "no such artifact and setting" in told


def test_costs_are_gated_where_they_were_measured(bundle: Bundle) -> None:
    costs = Costs(
        start_s=(0.5,), import_s=(0.2,), load_s=(0.1, 0.3, 0.2), first_s=(0.01,),
        cold_start_s=(1.0,), steady_bytes=10**7,
        peak_bytes=3 * 10**7, base_bytes=10**8, cpu_s=0.002, disk_bytes=1000,
    )  # fmt: skip
    plain = profile(point(1.0))
    assert "peak was not measured" in passed(bundle, "peak<20MB", plain)[1]
    result = plain.results[0].model_copy(update={"costs": costs})
    found = plain.model_copy(update={"results": (result,)})
    assert passed(bundle, "peak<40MB", found)[0]
    assert not passed(bundle, "peak<20MB", found)[0]
    assert passed(bundle, "load<=200ms", found)[0]
    assert passed(bundle, "peak<1.1x", found, found)[0]


def test_gates_are_on_what_the_bundle_selected(bundle: Bundle) -> None:
    decision = bundle.manifest.decisions[0]
    rejected = next(a.id for a in bundle.manifest.artifacts if a.id != decision.selected)
    every = profile(point(1.0, artifact=decision.selected), point(99.0, artifact=rejected))
    found = judge(parse_gates(["p50<2ms"], bundle, None), bundle, every)
    selected = {one.selected for one in bundle.manifest.decisions}
    assert {one.point.split()[0] for one in found} <= selected
