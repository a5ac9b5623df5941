"""The trace against the rules of the Trace Event Format."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest

from edgekit.bundle import Bundle
from edgekit.profile.records import Profile
from edgekit.report.trace import trace
from tests.report.documents import layer, layers, profile, profile_of, result


def events(measured: Profile) -> list[dict[str, Any]]:
    document = json.loads(trace(measured))
    assert document["displayTimeUnit"] in {"ms", "ns"}
    listed: list[dict[str, Any]] = document["traceEvents"]
    return listed


def test_every_event_has_what_the_format_wants(bundle: Bundle) -> None:
    for event in events(profile_of(bundle.manifest)):
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["name"], str)
        assert event["ph"] in {"X", "M", "b", "e"}
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
        if event["ph"] in {"b", "e"}:
            assert event["id"]
            assert event["cat"]


def test_slices_of_a_track_nest_and_never_cross(bundle: Bundle) -> None:
    tracks = defaultdict(list)
    for event in events(profile_of(bundle.manifest)):
        if event["ph"] == "X":
            key = event["pid"], event["tid"]
            tracks[key].append((event["ts"], event["ts"] + event["dur"]))
    for slices in tracks.values():
        open_until: list[float] = []
        for start, end in sorted(slices, key=lambda one: (one[0], -one[1])):
            while open_until and open_until[-1] <= start + 1e-6:
                open_until.pop()
            assert not open_until or end <= open_until[-1] + 1e-6
            open_until.append(end)


def test_each_inference_is_a_slice_where_it_ran() -> None:
    one = result(values=[1_000_000, 3_000_000], of_samples={"starts_ns": (5_000, 2_000_000)})
    slices = [event for event in events(profile(one)) if event["ph"] == "X"]
    assert [(event["ts"], event["dur"]) for event in slices] == [(5.0, 1000.0), (2000.0, 3000.0)]


def test_inferences_that_overlap_are_asynchronous_pairs() -> None:
    one = result(values=[5_000_000] * 3, of_samples={"starts_ns": (0, 1_000_000, 9_000_000)})
    listed = [event for event in events(profile(one)) if event.get("cat") == "inference"]
    assert {event["ph"] for event in listed} == {"b", "e"}
    spans = defaultdict(list)
    for event in listed:
        spans[event["id"]].append(event["ts"])
    assert sorted(spans.values()) == [[0.0, 5000.0], [1000.0, 6000.0], [9000.0, 14000.0]]


def test_layers_lie_end_to_end_inside_one_inference() -> None:
    times = layers(layer("a", 1000, modules=("stem", "act")), layer("b", 3000), outside=0.5)
    slices = [
        event for event in events(profile(result(layers=times))) if event.get("cat") == "layer"
    ]
    whole, first, second = slices
    assert whole["dur"] == pytest.approx(8.0)
    assert (first["ts"], first["dur"], first["name"]) == (0.0, 1.0, "stem + act")
    assert (second["ts"], second["dur"]) == (1.0, 3.0)


def test_tracks_are_named(bundle: Bundle) -> None:
    named = [
        e["args"]["name"]
        for e in events(profile_of(bundle.manifest))
        if e["name"] == "process_name"
    ]
    for artifact in ("onnxruntime-fp32", "openvino-int8"):
        assert any(name.startswith(artifact) for name in named)
