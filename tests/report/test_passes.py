"""What passes did, and the honest alternative, on the terminal and on the page."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgekit.bundle import Bundle
from edgekit.manifest import Accuracy, Manifest, PassChange, PassRecord
from edgekit.report.page import render
from edgekit.report.passes import summary_of, undone
from edgekit.report.table import print_summary, rows

PRUNE = PassRecord(
    name="prune",
    changed=1,
    total=2,
    details=("multiples of 16 channels", "51% of the macs are left"),
    changes=(
        PassChange(where="stem", before="64 channels", after="48 channels", kept=True, why=""),
        PassChange(
            where="body.0",
            before="32 channels",
            after="16 channels",
            kept=False,
            why="1.02x the speed on openvino int8",
        ),
    ),
    macs=(12_500_000, 6_400_000),
    parameters=(900_000, 450_000),
    score=0.9125,
    seconds=12.0,
)


@pytest.fixture
def manifest(bundle: Bundle) -> Manifest:
    """The shared bundle's, as if a module pass had made it."""
    return bundle.manifest.model_copy(update={"passes": (PRUNE,)})


def printed(manifest: Manifest) -> str:
    stream = io.StringIO()
    print_summary(manifest, Console(file=stream, width=200))
    return stream.getvalue()


def test_a_pass_in_a_line() -> None:
    assert summary_of(PRUNE) == (
        "prune changed 1 of 2, 1 undone or left, MACs 12.5 to 6.4 million, "
        "parameters 0.9 to 0.45 million"
    )
    assert undone(PRUNE) == 1


def test_what_stayed_as_it_was_is_not_told() -> None:
    same = PRUNE.model_copy(update={"macs": (5, 5), "parameters": (5, 5), "changes": ()})
    assert summary_of(same) == "prune changed 1 of 2"


def test_the_terminal_has_a_line_a_pass_and_its_details(manifest: Manifest) -> None:
    text = printed(manifest)
    assert f"{summary_of(PRUNE)}, the module scores 0.9125, 12 s\n" in text
    for detail in PRUNE.details:
        assert f"  {detail}\n" in text
    unscored = PRUNE.model_copy(update={"score": None})
    assert "scores" not in printed(manifest.model_copy(update={"passes": (unscored,)}))


def test_the_page_lists_every_layer_with_what_was_undone_and_why(manifest: Manifest) -> None:
    page = render(manifest)
    section = page[page.index("What the passes did") :]
    kept, left = (section[section.index(f"<td>{name}</td>") :] for name in ("stem", "body.0"))
    assert kept.startswith("<td>stem</td><td>64 channels</td><td>48 channels</td><td></td>")
    assert left.startswith(
        "<td>body.0</td><td>32 channels</td><td>not 16 channels</td><td>undone or left</td>"
        "<td>1.02x the speed on openvino int8</td>"
    )
    assert "2 layers" in section
    assert "The module then scores 0.9125." in section


def test_without_passes_on_the_module_there_is_no_such_section(bundle: Bundle) -> None:
    assert "What the passes did" not in render(bundle.manifest)


def test_names_of_modules_and_words_of_passes_are_escaped(manifest: Manifest) -> None:
    evil = "<script>alert(1)</script>"
    change = PassChange(where=evil, before=evil, after=evil, kept=False, why=evil)
    record = PRUNE.model_copy(update={"name": evil, "details": (evil,), "changes": (change,)})
    page = render(manifest.model_copy(update={"passes": (record,)}))
    assert "<script>" not in page
    assert page.count("&lt;script&gt;") >= 6


def with_smaller(manifest: Manifest, *, score: float, speed: float) -> Manifest:
    """The same with a smaller model that is ``speed`` times as fast as what was selected."""
    decision = next(d for d in manifest.decisions if d.runtime == "onnxruntime")
    artifact = manifest.artifact(decision.selected)
    times = next(s for s in manifest.latency if s.artifact == artifact.id)
    other = {"id": "onnxruntime-smaller-int8", "precision": "smaller-int8"}
    own = times.model_copy(
        update={
            "artifact": other["id"],
            "latencies_ns": tuple(int(one / speed) for one in times.latencies_ns),
        }
    )
    scores = {one.id: 0.9 for one in manifest.artifacts} | {other["id"]: score}
    return manifest.model_copy(
        update={
            "alternatives": (artifact.model_copy(update=other),),
            "latency": (*manifest.latency, own),
            "accuracy": Accuracy(
                metric="accuracy",
                higher_is_better=True,
                max_drop=0.01,
                reference=0.9,
                artifacts=scores,
            ),
        }
    )


INSTEAD = "better and faster: use the smaller model instead"


@pytest.mark.parametrize(
    ("score", "speed", "wins"),
    [(0.9, 2.0, True), (0.95, 2.0, True), (0.89, 2.0, False), (0.95, 0.5, False)],
)
def test_a_smaller_model_that_is_better_and_faster_is_recommended(
    manifest: Manifest,
    score: float,
    speed: float,
    wins: bool,
) -> None:
    known = with_smaller(manifest, score=score, speed=speed)
    (row,) = [row for row in rows(known) if row.status == "smaller"]
    selected = next(d.selected for d in known.decisions if d.runtime == "onnxruntime")
    assert row.reason.startswith(f"{speed:.2f}x the speed of {selected}, ")
    assert f"accuracy {score - 0.9:+.4f} against it" in row.reason
    assert (INSTEAD in row.reason) == wins
    assert row.score == score
    page, text = render(known), printed(known)
    assert ("use the smaller model instead" in page) == wins
    assert f"{row.artifact.id}: the smaller model, {row.reason}" in text
    assert "onnxruntime-smaller-int8" in page


def test_a_smaller_model_that_was_not_measured_is_only_listed(manifest: Manifest) -> None:
    bare = with_smaller(manifest, score=0.95, speed=2.0).model_copy(
        update={"latency": (), "accuracy": None}
    )
    (row,) = [row for row in rows(bare) if row.status == "smaller"]
    assert row.reason == ""
    assert row.speedup is None


def test_where_less_is_better_a_lower_score_wins(manifest: Manifest) -> None:
    known = with_smaller(manifest, score=0.85, speed=2.0)
    assert known.accuracy is not None
    accuracy = known.accuracy.model_copy(update={"higher_is_better": False})
    (row,) = [
        row
        for row in rows(known.model_copy(update={"accuracy": accuracy}))
        if row.status == "smaller"
    ]
    assert INSTEAD in row.reason
