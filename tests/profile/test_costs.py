from __future__ import annotations

import io
import re
import threading
import time
from pathlib import Path

import pytest
from edgekit.runtimes import SessionOptions
from rich.console import Console

from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.profile.bundle import profile_bundle, usable_artifacts
from edgekit.profile.costs import measure_costs
from edgekit.report.costs import print_costs
from edgekit.spec import Feeds
from edgekit.verify import Reference
from tests.profile.test_energy import _rapl, _sensor


def _feeds(bundle: Bundle) -> Feeds:
    return Reference.load(bundle.path / "reference.npz").feeds[0]


def test_every_cost_is_measured_in_fresh_processes(bundle: Bundle) -> None:
    found = profile_bundle(bundle, runtime="onnxruntime", seconds=0.1, threads=1, costs=True)
    for result in found.results:
        costs = result.costs
        assert costs is not None
        artifact = bundle.manifest.artifact(result.samples.artifact)
        parts = zip(costs.start_s, costs.import_s, costs.load_s, costs.first_s, strict=True)
        assert len(costs.cold_start_s) == 3
        for parted, whole in zip(parts, costs.cold_start_s, strict=True):
            assert min(parted) > 0
            assert sum(parted) == pytest.approx(whole)
        assert costs.base_bytes > 10e6  # Python, numpy and the engine
        assert 0 < costs.steady_bytes <= costs.peak_bytes < 200e6
        assert 0 < costs.cpu_s < 1
        assert costs.disk_bytes == artifact.size
        assert (costs.energy is None) == bool(costs.energy_missing)


def test_costs_are_left_out_unless_asked_for(bundle: Bundle) -> None:
    found = profile_bundle(bundle, artifact="onnxruntime-int8", seconds=0.1)
    assert [result.samples.artifact for result in found.results] == ["onnxruntime-int8"]
    assert found.results[0].costs is None


def test_an_unknown_artifact_names_the_nearest(bundle: Bundle) -> None:
    with pytest.raises(EdgekitError, match="did you mean 'onnxruntime-int8'"):
        profile_bundle(bundle, artifact="onnxruntime-int", seconds=0.1)


def test_energy_is_that_of_the_steady_part(bundle: Bundle, tmp_path: Path) -> None:
    """A fake counter that gains 5 W: nothing that happens before or after may count."""
    counter, done = _rapl(tmp_path), threading.Event()
    start = time.monotonic()

    def count() -> None:
        while not done.wait(0.002):
            written = tmp_path / "next"
            written.write_text(str(int((time.monotonic() - start) * 5e6)))
            written.replace(counter)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        [artifact] = usable_artifacts(bundle, artifact="onnxruntime-int8")
        costs = measure_costs(
            bundle,
            [artifact],
            _feeds(bundle),
            SessionOptions(threads=1),
            processes=1,
            sensor=_sensor(tmp_path),
        )[artifact.id]
    finally:
        done.set()
        thread.join()
    assert costs.energy is not None
    assert costs.energy.domain == "package-0"
    assert costs.energy.idle_watts == pytest.approx(5, rel=0.2)
    # One thread computes all the time: 5 W for as long as its processor time, or a bit longer.
    assert costs.energy.joules > 4.5 * costs.cpu_s * 0.9


def test_an_artifact_that_does_not_load_says_which(bundle_copy: Path) -> None:
    bundle = Bundle.open(bundle_copy)
    [artifact] = usable_artifacts(bundle, artifact="onnxruntime-int8")
    bundle.file(artifact).write_bytes(b"broken")
    with pytest.raises(EdgekitError, match=r"costs of onnxruntime-int8: .*ONNX Runtime"):
        measure_costs(bundle, [artifact], _feeds(bundle), SessionOptions(), sensor="none")


def test_a_process_that_is_killed_says_so(bundle: Bundle) -> None:
    [artifact] = usable_artifacts(bundle, artifact="onnxruntime-int8")
    with pytest.raises(EdgekitError, match="was killed by signal 9"):
        measure_costs(
            bundle,
            [artifact],
            _feeds(bundle),
            SessionOptions(),
            sensor="none",
            wrap=lambda _: ["sh", "-c", "kill -9 $$"],
        )


def test_the_table_tells_why_there_is_no_energy(bundle: Bundle) -> None:
    [artifact] = usable_artifacts(bundle, artifact="onnxruntime-int8")
    feeds = _feeds(bundle)
    options = SessionOptions(threads=1)
    missing = "no readable power sensor: energy_uj needs root"
    costs = measure_costs(bundle, [artifact], feeds, options, processes=1, sensor=missing)
    profile = profile_bundle(bundle, artifact=artifact.id, seconds=0.1)
    [result] = profile.results
    console = Console(width=80, record=True, file=io.StringIO())
    print_costs([result.model_copy(update={"costs": costs[artifact.id]})], console)
    text = console.export_text()
    assert f"Energy: {missing}." in text
    assert re.search(r"onnxruntime-int8 +[\d.]+ +[\d.]+ +\d+ +\+[\d.]+ ", text)
