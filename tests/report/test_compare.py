"""Two bundles side by side: a difference is claimed only where it was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgekit.bundle import Bundle
from edgekit.errors import SpecError
from edgekit.manifest import Manifest
from edgekit.profile.records import Profile
from edgekit.report import write_comparison
from edgekit.report.compare import compare_views
from edgekit.report.document import Change, json_schema
from edgekit.report.figures import difference, same_machine
from edgekit.report.view import view_of
from tests.report.documents import MACHINE, latencies, profile, profile_of, result, samples
from tests.report.test_page import judged
from tests.report.test_report import _Page

OTHER = MACHINE.model_copy(update={"cpu": "Another CPU", "cores": 8})


def timed(manifest: Manifest, factor: float, *, seed: int = 0, **fields: Any) -> Profile:
    """All artifacts that many times as slow, in a run of its own."""
    found = [
        result(a.id, factor, seed=seed + index, of_samples={"run": f"run-{seed}", **fields})
        for index, a in enumerate(manifest.artifacts)
    ]
    return profile(*found, machine=fields.get("machine", MACHINE))


def changes(before: Profile, after: Profile, bundle: Bundle) -> dict[str, Change]:
    """Of latency, by artifact."""
    views = [
        view_of(bundle.manifest, path=f"{n}.edge", profile=p)
        for n, p in (("a", before), ("b", after))
    ]
    found = compare_views(*views).changes
    return {one.artifact: one for one in found if one.what == "p50 latency"}


@pytest.mark.parametrize(("factor", "verdict"), [(0.8, "better"), (1.3, "worse"), (1.0, "same")])
def test_intervals_that_do_not_overlap_are_a_difference(
    bundle: Bundle, factor: float, verdict: str
) -> None:
    found = changes(timed(bundle.manifest, 1.0), timed(bundle.manifest, factor, seed=50), bundle)
    assert {one.verdict for one in found.values()} == {verdict}


def test_a_difference_too_small_to_count_is_none(bundle: Bundle) -> None:
    """The intervals part, but artifacts loaded twice differ by as much."""
    found = changes(timed(bundle.manifest, 1.0), timed(bundle.manifest, 1.012, seed=50), bundle)
    assert {one.verdict for one in found.values()} == {"same"}


def test_profiles_of_different_machines_are_labelled_and_not_compared(bundle: Bundle) -> None:
    first = timed(bundle.manifest, 1.0)
    second = timed(bundle.manifest, 0.5, machine=OTHER)
    found = changes(first, second, bundle)
    assert {one.verdict for one in found.values()} == {"unknown"}
    assert all("Test CPU 3000" in one.told for one in found.values())
    views = [view_of(bundle.manifest, profile=one) for one in (first, second)]
    document = compare_views(*views)
    assert any("different machines" in note and "Another CPU" in note for note in document.notes)


def test_other_settings_are_not_compared() -> None:
    one = samples("a", latencies(1.0))
    other = samples("a", latencies(0.5), threads=1, run="run-2")
    assert difference(one, other).verdict == "unknown"


def test_samples_of_one_interleaved_run_are_compared_pair_by_pair() -> None:
    noise = latencies(1.0, spread=0.3)
    slow, fast = samples("a", noise), samples("b", noise / 1.05)
    found = difference(slow, fast)
    assert found.verdict == "better"
    assert "in turns" in found.told
    apart = difference(slow, fast.model_copy(update={"run": "later"}))
    assert apart.verdict == "same"  # the same samples, not interleaved, show nothing


def test_machines_of_one_kind_may_differ_in_a_little_memory_and_in_their_kernel() -> None:
    near = {"memory_bytes": MACHINE.memory_bytes - 10_000_000, "system": "Linux 6.9 x86_64"}
    assert same_machine(MACHINE, MACHINE.model_copy(update=near))
    assert not same_machine(MACHINE, OTHER)


def test_what_else_changed_is_told(bundle: Bundle) -> None:
    first = judged(bundle.manifest, lost=0.0)
    second = judged(bundle.manifest, lost=0.004).model_copy(
        update={"versions": {**first.versions, "openvino": "9.9"}}
    )
    found = compare_views(view_of(first, path="a.edge"), view_of(second, path="b.edge"))
    scores = {one.artifact: one for one in found.changes if one.what == "top 1"}
    assert scores["openvino-int8"].verdict == "worse"
    assert scores["openvino-int8"].told == "-0.0040"
    assert scores["openvino-fp32"].verdict == "same"
    assert any(note.startswith("openvino: ") and note.endswith(" to 9.9.") for note in found.notes)
    sizes = [one for one in found.changes if one.what == "size"]
    assert {one.verdict for one in sizes} == {"same"}


def test_an_artifact_that_only_one_has_is_told(bundle: Bundle) -> None:
    fewer = tuple(a for a in bundle.manifest.artifacts if a.id != "openvino-int8")
    decisions = tuple(
        one.model_copy(update={"selected": f"{one.runtime}-fp32"})
        for one in bundle.manifest.decisions
    )
    second = bundle.manifest.model_copy(update={"artifacts": fewer, "decisions": decisions})
    found = compare_views(view_of(bundle.manifest, path="a.edge"), view_of(second, path="b.edge"))
    (one,) = [change for change in found.changes if change.artifact == "openvino-int8"]
    assert one.told == "only in a.edge"


def test_the_files_are_written_and_follow_the_schema(bundle: Bundle, tmp_path: Path) -> None:
    profiles = profile_of(bundle.manifest), timed(bundle.manifest, 1.3, machine=OTHER)
    written = write_comparison((bundle, bundle), profiles, tmp_path, formats=("html", "json", "md"))
    page = _Page(written.read_text())
    assert page.fetched == []
    assert "script" not in page.tags
    document = json.loads((tmp_path / "report.json").read_text())
    jsonschema.Draft202012Validator(json_schema()).validate(document)
    assert document["kind"] == "comparison"
    assert "Measured on different machines" in (tmp_path / "report.md").read_text()


def test_what_did_not_change_is_folded_in_markdown(bundle: Bundle, tmp_path: Path) -> None:
    profiles = timed(bundle.manifest, 1.0), timed(bundle.manifest, 1.3, seed=50)
    write_comparison((bundle, bundle), profiles, tmp_path, formats=("md",))
    head, _, rest = (tmp_path / "report.md").read_text().partition("<details>")
    assert re.findall(r"p50 latency .*worse", head)
    assert "size" not in head
    assert "size" in rest


def test_no_trace_of_two(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="two bundles cannot be written as trace"):
        write_comparison((bundle, bundle), (None, None), tmp_path, formats=("trace",))
