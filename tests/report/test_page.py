"""The page: what each section says with a profile, and what it says without one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.manifest import Accuracy, Manifest
from edgekit.report.page import render, render_view
from edgekit.report.verdict import verdict_of
from edgekit.report.view import comparable, view_of
from tests.report.documents import latencies, profile, profile_of, result
from tests.report.test_report import _Page

SECTIONS = (
    "summary",
    "runtimes",
    "latency",
    "tradeoff",
    "layers",
    "memory",
    "verification",
    "diagnosis",
)


def section(page: str, identity: str) -> str:
    found = re.search(rf'<section id="{identity}".*?</section>', page, re.DOTALL)
    assert found, identity
    return found[0]


def judged(manifest: Manifest, lost: float) -> Manifest:
    """With a metric, of which everything in int8 loses some."""
    scores = {a.id: 0.9 - (lost if "int8" in a.id else 0.0) for a in manifest.artifacts}
    accuracy = Accuracy(
        metric="top_1", higher_is_better=True, max_drop=0.01, reference=0.9, artifacts=scores
    )
    return manifest.model_copy(update={"accuracy": accuracy})


def test_sections_come_in_the_order_of_a_reader(bundle: Bundle) -> None:
    page = render(bundle.manifest, profile=profile_of(bundle.manifest))
    found = re.findall(r'<section id="([\w-]+)"', page)
    assert tuple(found[: len(SECTIONS)]) == SECTIONS
    assert found[-1] == "reproduce"
    linked = re.findall(r'<li><a href="#([\w-]+)">', page)
    assert linked == [name for name in found if name != "summary"]


def test_without_a_profile_sections_say_what_would_measure_them(bundle: Bundle) -> None:
    page = render_view(view_of(bundle.manifest, path=Path("some where/x y.edge")))
    for identity in ("layers", "memory", "diagnosis"):
        assert "not measured. Run <code>edgekit profile &#x27;x y.edge&#x27;</code>" in section(
            page, identity
        )
    assert "Measured when the bundle was built" in section(page, "latency")


def test_with_a_profile_every_section_has_its_figures(bundle: Bundle) -> None:
    measured = profile_of(bundle.manifest)
    page = render(bundle.manifest, profile=measured)
    assert "not measured" not in page
    assert "Roofline" in section(page, "layers")
    assert "blocks.11.pw + blocks.11.act" in section(page, "layers")
    assert re.search(
        r"the call 0\.\d{3} ms, between the layers 0\.\d{3} ms", section(page, "layers")
    )
    assert "Cold start" in section(page, "memory")
    assert "with p99 within 8 ms" in section(page, "latency")
    assert "2 threads" in section(page, "latency")
    assert "edgekit profile residual.edge --seconds 20" in section(page, "reproduce")
    assert measured.machine.cpu in section(page, "machine")


def test_every_plot_says_in_words_what_it_shows(bundle: Bundle) -> None:
    page = render(bundle.manifest, profile=profile_of(bundle.manifest))
    plots = re.findall(r'<svg class="plot"[^>]*>', page)
    assert len(plots) > 8
    assert all('role="img" aria-label="' in plot for plot in plots)
    others = set(re.findall(r"<svg [^>]*>", page)) - set(plots)
    assert all('aria-hidden="true"' in svg for svg in others)


def test_every_table_has_a_caption_and_scrolls_by_itself(bundle: Bundle) -> None:
    page = render(bundle.manifest, profile=profile_of(bundle.manifest))
    assert page.count("<table") == page.count("<caption>") == page.count('<div class="wide" role')
    assert page.count("<th>") == 0  # all have a scope


def test_the_page_has_no_inline_styles_that_a_policy_could_refuse(bundle: Bundle) -> None:
    page = render(bundle.manifest, profile=profile_of(bundle.manifest))
    assert 'style="' not in page
    assert "default-src 'none'" in page
    assert page.count("<style>") == 1


def test_the_summary_says_what_to_ship_what_it_gains_and_what_it_costs(bundle: Bundle) -> None:
    manifest = judged(bundle.manifest, lost=0.004)
    view = view_of(manifest, profile=profile_of(manifest))
    found = verdict_of(view)
    selected = {decision.selected for decision in manifest.decisions}
    assert found.ship in selected
    times = [row.latency.p50 for row in view.rows if row.latency and row.artifact.id in selected]
    own = view.row(found.ship).latency
    assert own is not None
    assert own.p50 == min(times)
    assert len(found.figures) == 4
    assert f"Ship {found.ship}" in found.sentence
    assert found.verified
    assert "Verified against the PyTorch original" in found.sentence


def test_what_is_outside_the_accuracy_budget_is_marked(bundle: Bundle) -> None:
    for lost, mood in ((0.004, "good"), (0.05, "bad")):
        manifest = judged(bundle.manifest, lost=lost)
        selected = tuple(
            decision.model_copy(update={"selected": f"{decision.runtime}-int8"})
            for decision in manifest.decisions
        )
        view = view_of(manifest.model_copy(update={"decisions": selected}))
        figure = next(one for one in verdict_of(view).figures if one[0] == "Top 1")
        assert figure[3] == mood


def test_a_difference_within_the_noise_is_not_called_faster(bundle: Bundle) -> None:
    selected = tuple(
        decision.model_copy(update={"selected": f"{decision.runtime}-int8"})
        for decision in bundle.manifest.decisions
    )
    manifest = bundle.manifest.model_copy(update={"decisions": selected})
    names = [a.id for a in manifest.artifacts]
    same = profile(*(result(name, 1.0, seed=index) for index, name in enumerate(names)))
    told = verdict_of(view_of(manifest, profile=same)).sentence
    assert "times as fast" not in told
    assert "within what could be measured" in told


def test_latencies_are_those_of_the_profile(bundle: Bundle) -> None:
    measured = profile_of(bundle.manifest)
    view = view_of(bundle.manifest, profile=measured)
    for row in view.rows:
        own = next(one for one in measured.results if one.samples.artifact == row.artifact.id)
        assert row.latency is not None
        assert row.latency.highest == pytest.approx(max(own.samples.latencies_ns) / 1e6)


def test_artifacts_that_the_profile_left_out_have_no_latency(bundle: Bundle) -> None:
    view = view_of(bundle.manifest, profile=profile(result("onnxruntime-fp32")))
    timed = [row.artifact.id for row in view.rows if row.latency is not None]
    assert timed == ["onnxruntime-fp32"]
    render_view(view)


def test_one_interleaved_run_of_single_streams_is_compared() -> None:
    sweep = [result("a", of_samples={"run": f"r{index}"}) for index in range(3)]
    pair = [result(name, of_samples={"run": "both"}) for name in ("a", "b")]
    server = [
        result(name, of_samples={"run": "s", "scenario": "server"}) for name in ("a", "b", "c")
    ]
    assert comparable(profile(*sweep, *pair, *server)) == tuple(pair)
    assert comparable(profile(*server)) == tuple(server)
    assert comparable(profile()) == ()


def test_the_page_is_small_with_many_samples(bundle: Bundle) -> None:
    many = [
        result(artifact.id, values=latencies(1.0, 60_000)) for artifact in bundle.manifest.artifacts
    ]
    assert len(render(bundle.manifest, profile=profile(*many))) < 300_000


def test_what_comes_from_a_profile_is_escaped(bundle: Bundle) -> None:
    evil = "<script>alert(1)</script>"
    measured = profile_of(bundle.manifest)
    first = measured.results[0]
    assert first.layers is not None
    layers = tuple(
        one.model_copy(update={"node": evil, "op": evil, "kernel": evil, "modules": (evil,)})
        for one in first.layers.layers
    )
    told = first.model_copy(update={"layers": first.layers.model_copy(update={"layers": layers})})
    changed = measured.model_copy(
        update={"model": evil, "command": (evil,), "versions": {evil: evil}, "results": (told,)}
    )
    assert "<script>" not in render(bundle.manifest, profile=changed)
    assert _Page(render(bundle.manifest, profile=changed)).fetched == []
