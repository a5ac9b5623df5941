from __future__ import annotations

import gc
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError, RuntimeUnavailableError
from edgekit.profile.bundle import profile_bundle
from edgekit.profile.runner import BLOCK, Timed, profile_interleaved
from edgekit.profile.samples import Samples
from edgekit.spec import Feeds
from tests.conftest import READ_ONNX, batches

FEEDS = {"image": next(batches())["image"][:1]}
LIMITS = {"threads": 1, "min_rounds": 3, "max_rounds": 5, "max_seconds": 0.5}


def _entries(path: Path) -> list[Timed]:
    return [Timed(name, name, runtimes.get(name).load(path)) for name in READ_ONNX]


def test_every_entry_is_timed_equally_often_in_one_run(onnx_file: Path) -> None:
    found = profile_interleaved(_entries(onnx_file), FEEDS, **LIMITS)
    assert {len(samples.latencies_ns) for samples in found} <= {3 * BLOCK, 4 * BLOCK, 5 * BLOCK}
    assert len({len(samples.latencies_ns) for samples in found}) == 1
    assert len({samples.run for samples in found}) == 1
    assert all(value > 0 for samples in found for value in samples.latencies_ns)


def test_the_least_rounds_are_done_however_long_they_take(onnx_file: Path) -> None:
    limits = {**LIMITS, "max_seconds": 0.0}
    found = profile_interleaved(_entries(onnx_file), FEEDS, **limits)
    assert len(found[0].latencies_ns) == 3 * BLOCK


def test_each_entry_follows_each_other(onnx_file: Path) -> None:
    order: list[str] = []
    entries = []
    for name in ("a", "b", "c"):
        session = runtimes.get("onnxruntime").load(onnx_file)
        run = session._run

        def spied(feeds: Feeds, name: str = name, run=run) -> dict[str, np.ndarray]:
            order.append(name)
            return run(feeds)

        session._run = spied
        entries.append(Timed(name, "onnxruntime", session))
    rounds = {**LIMITS, "min_rounds": 20, "max_rounds": 20}
    profile_interleaved(entries, FEEDS, **rounds, warmup=0)
    turns = order[:: BLOCK + 1]
    assert all(set(turns[i : i + 3]) == {"a", "b", "c"} for i in range(0, 60, 3))
    assert set(permutations("abc", 2)) <= set(pairwise(turns))


def test_garbage_collection_is_on_again_afterwards(onnx_file: Path) -> None:
    profile_interleaved(_entries(onnx_file), FEEDS, **LIMITS)
    assert gc.isenabled()


def test_a_failing_inference_names_the_artifact(onnx_file: Path) -> None:
    (entry, *_) = _entries(onnx_file)
    entry.session.close()
    with pytest.raises(EdgekitError, match=r"artifact onnxruntime on onnxruntime.*closed"):
        profile_interleaved([entry], FEEDS, **LIMITS)


def test_samples_survive_json(onnx_file: Path) -> None:
    (samples, *_) = profile_interleaved(_entries(onnx_file), FEEDS, **LIMITS)
    assert Samples.model_validate_json(samples.model_dump_json()) == samples


def test_the_device_of_a_profile_is_recorded(bundle: Bundle) -> None:
    found = profile_bundle(bundle, runtime="onnxruntime", seconds=0.1, device="CPU").samples
    assert {one.device for one in found} == {"CPU"}
    with pytest.raises(RuntimeUnavailableError, match="device 'CUDA'"):
        profile_bundle(bundle, runtime="onnxruntime", seconds=0.1, device="CUDA")


def test_a_bundle_is_profiled_from_its_own_samples(bundle: Bundle) -> None:
    found = profile_bundle(bundle, seconds=0.1, batch=4, threads=1).samples
    assert {samples.artifact for samples in found} == {a.id for a in bundle.manifest.artifacts}
    assert found[0].shapes["image"][0] == 4
    assert found[0].threads == 1
    assert found[0].call == "image 4x3x16x16"
    sized = profile_bundle(bundle, seconds=0.1, sizes={"batch": 3}, threads=1).samples
    assert sized[0].shapes["image"][0] == 3
    only = profile_bundle(bundle, runtime="openvino", seconds=0.1).samples
    assert {samples.runtime for samples in only} == {"openvino"}
    with pytest.raises(RuntimeUnavailableError, match="tensorrt-rtx"):
        profile_bundle(bundle, runtime="tensorrt-rtx", seconds=0.1)


def test_starts_are_counted_from_the_run_and_in_order(onnx_file: Path) -> None:
    for samples in profile_interleaved(_entries(onnx_file), FEEDS, **LIMITS):
        starts, latencies = np.array(samples.starts_ns), np.array(samples.latencies_ns)
        assert starts[0] >= 0
        assert (starts[1:] >= starts[:-1] + latencies[:-1]).all()


def test_artifacts_of_one_run_share_its_conditions(onnx_file: Path) -> None:
    first, second = profile_interleaved(_entries(onnx_file), FEEDS, **LIMITS)
    assert first.conditions is not None
    assert first.conditions == second.conditions
