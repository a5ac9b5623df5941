"""What a run that was stopped has measured whole is not measured again."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgekit.profile.bundle as module
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError, OutputError
from edgekit.profile.bundle import profile_bundle
from edgekit.profile.journal import Journal
from edgekit.profile.points import Unseen
from edgekit.profile.scenarios.base import Ended, Rules
from edgekit.profile.scenarios.run import scenario_of_bundle
from edgekit.profile.scenarios.single_stream import SingleStream

IDENTITY = {"of": "this test"}


class Stages(Unseen):
    """What was told of a run."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def stage(self, name: str) -> None:
        self.names.append(name)


def test_costs_and_layers_are_taken_from_the_journal(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = Stages()
    with Journal(tmp_path / "p.partial.jsonl", IDENTITY) as journal:
        first = profile_bundle(
            bundle, seconds=1, costs=True, layers=True, journal=journal, view=view
        )
    kinds = [name.partition(" of ")[0] for name in view.names]
    assert kinds == ["load time, memory and processor time"] + ["operators"] * len(first.results)

    def fails(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(module, "measure_costs", fails)
    monkeypatch.setattr(module, "artifact_layers", fails)
    with Journal(tmp_path / "p.partial.jsonl", IDENTITY) as journal:
        again = profile_bundle(bundle, seconds=1, costs=True, layers=True, journal=journal)
    told = {result.samples.artifact: result for result in first.results}
    for result in again.results:
        assert result.costs is not None
        assert result.costs == told[result.samples.artifact].costs
        assert result.layers is not None
        assert result.layers == told[result.samples.artifact].layers


def test_layers_that_had_no_room_are_measured_by_the_run_that_goes_on(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("no space left")

    path = tmp_path / "p.partial.jsonl"
    with Journal(path, IDENTITY) as journal, monkeypatch.context() as patch:
        patch.setattr(module, "artifact_layers", full)
        first = profile_bundle(bundle, seconds=1, layers=True, journal=journal)
    assert not any(result.layers for result in first.results)
    assert "no space left" in caplog.text
    with Journal(path, IDENTITY) as journal:
        again = profile_bundle(bundle, seconds=1, layers=True, journal=journal)
    assert all(result.layers for result in again.results)


class _Breaks(SingleStream):
    """A scenario in which the power fails on the second artifact."""

    ran = 0

    def run(self, *arguments: object) -> Ended:  # type: ignore[override]
        type(self).ran += 1
        if self.ran == 2:
            raise EdgekitError("stopped")
        return super().run(*arguments)  # type: ignore[arg-type]


def test_a_scenario_goes_on_with_the_artifact_that_it_was_stopped_at(
    bundle: Bundle, tmp_path: Path
) -> None:
    scenario = _Breaks(Rules(0.2, 64))
    path = tmp_path / "p.partial.jsonl"
    with Journal(path, IDENTITY) as journal, pytest.raises(EdgekitError, match="stopped"):
        scenario_of_bundle(bundle, scenario, journal=journal)
    with Journal(path, IDENTITY) as journal:
        profile = scenario_of_bundle(bundle, scenario, journal=journal)
    assert _Breaks.ran == 3
    assert {r.samples.artifact for r in profile.results} == bundle.manifest.selected
    assert len({r.samples.run for r in profile.results}) == 2
