"""Which points a sweep has, and what comes of them on real engines."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError, SpecError
from edgekit.machine import this_machine
from edgekit.profile.bundle import profile_bundle
from edgekit.profile.figures import measured
from edgekit.profile.journal import Journal
from edgekit.profile.points import Unseen
from edgekit.profile.records import Settings
from edgekit.profile.samples import Samples
from edgekit.profile.sweep import Sweep, parse_sweep, planned


def test_a_sweep_is_read() -> None:
    assert parse_sweep(["threads=1,2", "precision=fp32,int8", "size:sequence=16,128"]) == Sweep(
        threads=(1, 2), precision=("fp32", "int8"), sizes={"sequence": (16, 128)}
    )


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["thread=1"], "did you mean 'threads'"),
        (["threads"], "nothing to sweep"),
        (["size:=1"], "nothing to sweep"),
        (["threads=0"], "'0' is no number of threads"),
        (["threads=1,x"], "'x' is no number"),
        (["threads=1,,2"], "empty value"),
        (["threads=1", "threads=2"], "threads is there twice"),
    ],
)
def test_what_is_no_sweep_is_one_line(texts: list[str], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        parse_sweep(texts)


def test_points_are_the_product_over_the_selected_artifacts(bundle: Bundle) -> None:
    points, skipped = planned(
        bundle, parse_sweep(["threads=1,2", "batch=1,4", "streams=1,2"]), Settings()
    )
    runtimes = [decision.runtime for decision in bundle.manifest.decisions]
    assert len({point.name for point in points}) == len(points) == 8 * len(runtimes)
    assert {p.artifact.id for p in points} == {d.selected for d in bundle.manifest.decisions}
    assert skipped == []


def test_a_precision_asks_for_its_artifacts(bundle: Bundle) -> None:
    points, _ = planned(
        bundle, parse_sweep(["precision=fp32,int8", "runtime=onnxruntime"]), Settings(threads=1)
    )
    assert {p.artifact.id for p in points} == {"onnxruntime-fp32", "onnxruntime-int8"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("runtime=openvin", "no runtime 'openvin', did you mean 'openvino'"),
        ("precision=int9", "no precision 'int9'"),
        ("size:sequence=4", "no input has a dynamic dimension 'sequence'"),
    ],
)
def test_what_the_bundle_does_not_have_is_one_line(bundle: Bundle, text: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        planned(bundle, parse_sweep([text]), Settings())


def _fixed(bundle: Bundle) -> Bundle:
    """The bundle as if its batch were not dynamic."""
    inputs = tuple(
        spec.model_copy(update={"shape": (1, *spec.shape[1:])}) for spec in bundle.manifest.inputs
    )
    return Bundle(bundle.path, bundle.manifest.model_copy(update={"inputs": inputs}))


def test_a_batch_of_a_fixed_model_is_left_out_with_the_reason(bundle: Bundle) -> None:
    points, skipped = planned(_fixed(bundle), parse_sweep(["batch=1,4"]), Settings())
    assert {point.settings.batch for point in points} == {1}
    assert {point.reason for point in skipped} == {"the batch of input 'image' is fixed"}


def test_a_point_that_its_engine_refuses_is_left_out_with_the_reason(bundle: Bundle) -> None:
    """The manifest promises a dynamic size that the engines do not have."""
    inputs = tuple(
        spec.model_copy(update={"shape": (*spec.shape[:3], "width")})
        for spec in bundle.manifest.inputs
    )
    wrong = Bundle(bundle.path, bundle.manifest.model_copy(update={"inputs": inputs}))
    found = profile_bundle(wrong, sweep=parse_sweep(["size:width=16,20"]), seconds=0.1, threads=1)
    assert {result.settings.sizes["width"] for result in found.results} == {16}
    assert len(found.skipped) == len(found.results)
    assert all("width=20" in name for name in found.skipped)
    assert all(reason for reason in found.skipped.values())


def test_when_no_point_can_be_measured_that_is_one_line(bundle: Bundle) -> None:
    with pytest.raises(EdgekitError, match="the batch of input 'image' is fixed"):
        profile_bundle(_fixed(bundle), sweep=parse_sweep(["batch=4"]), seconds=0.1)


def test_points_of_a_sweep_take_turns_with_their_own_settings(bundle: Bundle) -> None:
    sweep = parse_sweep(["threads=1,2", "batch=1,3", "streams=1,2", "runtime=onnxruntime"])
    found = profile_bundle(bundle, sweep=sweep, seconds=0.1)
    assert len(found.results) == 8
    assert len({result.samples.run for result in found.results}) == 1
    for result in found.results:
        samples, settings = result.samples, result.settings
        assert samples.threads == settings.threads
        assert samples.shapes["image"][0] == settings.batch
        assert samples.block % settings.streams == 0
        assert len(samples.starts_ns) == len(samples.latencies_ns)


class _Stopping(Unseen):
    """Ctrl-C after some rounds."""

    def __init__(self, rounds: int) -> None:
        self._left = rounds

    def took(self, *_: object) -> None:
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


def test_a_stopped_sweep_goes_on_and_says_which_run_samples_are_from(
    bundle: Bundle, tmp_path: Path
) -> None:
    sweep = parse_sweep(["threads=1", "batch=1,2"])
    path = tmp_path / "p.partial.jsonl"
    with Journal(path, {}) as journal, pytest.raises(KeyboardInterrupt):
        profile_bundle(bundle, sweep=sweep, seconds=0.2, journal=journal, view=_Stopping(3))
    with Journal(path, {}) as journal:
        found = profile_bundle(bundle, sweep=sweep, seconds=0.2, journal=journal)
    points = measured(found)
    assert len({point.name for point in points}) == len(points) == len(found.results) / 2
    for point in points:
        first, second = point.samples
        assert first.run != second.run
        assert len(first.latencies_ns) == 3 * first.block


def test_what_was_done_is_not_measured_again(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "p.partial.jsonl"
    with Journal(path, {}) as journal:
        first = profile_bundle(bundle, runtime="onnxruntime", seconds=0.2, journal=journal)
    with Journal(path, {}) as journal:
        second = profile_bundle(bundle, runtime="onnxruntime", seconds=0.2, journal=journal)
    assert second.results == first.results


class _Slow(Unseen):
    """A view that takes its time, as a slow terminal would."""

    def took(self, *_: object) -> None:
        time.sleep(0.02)


def test_what_a_view_takes_is_in_no_latency(bundle: Bundle) -> None:
    found = profile_bundle(bundle, runtime="onnxruntime", threads=1, seconds=1.5, view=_Slow())
    samples: list[Samples] = found.samples
    assert all(sorted(s.latencies_ns)[len(s.latencies_ns) // 2] < 15_000_000 for s in samples)


def test_without_words_a_profile_is_of_all_cores(bundle: Bundle) -> None:
    found = profile_bundle(bundle, runtime="onnxruntime", seconds=0.1)
    assert {result.settings.threads for result in found.results} == {this_machine().cores}
