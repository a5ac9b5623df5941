"""The whole pass on a real network: as small as asked, only where it pays, told layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from edgekit.compress.base import Measured, ModuleContext, Trained
from edgekit.compress.modules import check_module, count_macs, example_tensors
from edgekit.compress.prune.recipe_pass import StructuredPruning
from edgekit.errors import CompressError, EdgekitError, WorkloadError
from edgekit.workload import Workload
from tests.compress.tiny import cnn
from tests.compress.train.training import Counting, same


@pytest.fixture(scope="module")
def workload() -> Workload:
    return cnn(16, blocks=1)


def prune(workload: Workload, *, clock: Any = None, seed: int = 0, **keys: Any) -> Trained:
    settings = {"type": "prune", "multiple": 1, **keys}
    step = StructuredPruning.model_validate(settings)
    return step.apply(workload, ModuleContext(clock=clock, seed=seed))


def widths(model: nn.Module) -> dict[str, int]:
    found = {name: p.shape[0] for name, p in model.named_parameters() if p.ndim == 4}
    return {name.removesuffix(".weight"): width for name, width in found.items()}


class OnlyTheStem:
    """A target on which nothing but a narrower first layer gains, and time goes in steps of 16."""

    name = "toaster int8"

    def seconds(self, workloads: Sequence[Workload]) -> list[float]:
        sizes = [next(iter(w.model.parameters())).shape[0] for w in workloads]  # type: ignore[union-attr]
        return [float(-(-size // 16) * 16) ** 2 for size in sizes]

    def compare(self, baseline: Workload, candidate: Workload) -> Measured:
        before, after = (widths(w.model)["stem"] for w in (baseline, candidate))  # type: ignore[arg-type]
        return Measured(1.5, 1.4) if after < before else Measured(1.02, 0.97)


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("share", [0.7, 0.3])
def test_as_many_macs_are_left_as_were_asked_for(
    workload: Workload, scope: str, share: float
) -> None:
    trained = prune(workload, keep=share, scope=scope, least=0.1)
    check_module(workload, trained.model, "prune")
    inputs = example_tensors(workload)
    assert isinstance(workload.model, nn.Module)
    left = count_macs(trained.model, inputs) / count_macs(workload.model, inputs)
    assert left == pytest.approx(share, abs=0.07)
    assert f"{left:.0%} of the macs are left, {share:.0%} wanted" in trained.report.details


def test_the_report_has_every_group_with_its_width_before_and_after(workload: Workload) -> None:
    trained = prune(workload, of="channels", scope="layer", multiple=4)
    assert trained.report.changed == trained.report.total == 2
    for change in trained.report.changes:
        assert change.kept
        assert change.before == "16 channels"
        assert change.after == f"{widths(trained.model)[change.where]} channels"


def test_the_workloads_own_model_stays(workload: Workload) -> None:
    before = widths(cnn(16, blocks=1).model)  # type: ignore[arg-type]
    prune(workload)
    assert widths(workload.model) == before  # type: ignore[arg-type]


@pytest.mark.parametrize("importance", ["l2", "random", "obd"])
def test_the_same_seed_gives_the_same_model(workload: Workload, importance: str) -> None:
    keys: dict[str, Any] = {"importance": importance, "finetune": {"epochs": 1}, "of": "channels"}
    assert same(prune(workload, **keys).model, prune(workload, **keys).model)


def test_another_seed_gives_another_model_at_random(workload: Workload) -> None:
    keys: dict[str, Any] = {"importance": "random", "of": "channels", "scope": "layer"}
    assert not same(prune(workload, **keys).model, prune(workload, seed=1, **keys).model)


def test_a_group_that_does_not_pay_is_undone_with_the_figures(workload: Workload) -> None:
    trained = prune(workload, clock=OnlyTheStem(), of="channels", scope="layer")
    found = widths(trained.model)
    assert found["stem"] < 16
    assert {width for name, width in found.items() if name != "stem"} == {16}
    undone = [change for change in trained.report.changes if not change.kept]
    (one,) = undone
    assert one.before == "16 channels"
    assert one.why == "not measurably faster, 1.02 times as fast on toaster int8, at least 0.97"
    assert trained.report.changed == 1


def test_where_nothing_pays_the_model_stays_whole(workload: Workload) -> None:
    class Nothing(OnlyTheStem):
        def compare(self, baseline: Workload, candidate: Workload) -> Measured:
            del baseline, candidate
            return Measured(0.99, 0.98)

    trained = prune(workload, clock=Nothing(), finetune={"epochs": 5}, of="channels")
    assert same(trained.model, workload.model)  # type: ignore[arg-type]
    assert trained.report.changed == 0
    assert all(not change.kept for change in trained.report.changes)


def test_what_is_not_to_be_measured_is_kept(workload: Workload) -> None:
    trained = prune(workload, clock=OnlyTheStem(), measured=False, of="channels", scope="layer")
    assert all(change.kept for change in trained.report.changes)


def test_the_multiple_that_the_target_likes_is_measured() -> None:
    wide = cnn(32, blocks=1)
    trained = prune(wide, clock=OnlyTheStem(), multiple="measured", measured=False, of="channels")
    assert set(widths(trained.model).values()) == {16}
    assert trained.report.details[0].startswith(
        "toaster int8 likes multiples of 16 channels (cost by width: 64: 1.00, 68: "
    )
    unmeasured = prune(wide, multiple="measured", of="channels")
    assert unmeasured.report.details[0] == "multiples of 16 channels, not measured"
    assert set(widths(unmeasured.model).values()) == {16}


def test_excluded_groups_stay_whole(workload: Workload) -> None:
    trained = prune(workload, exclude=["ste*"], of="channels", least=0.1)
    assert widths(trained.model)["stem"] == 16
    assert "stem" not in {change.where for change in trained.report.changes}


def test_a_pattern_that_matches_nothing_is_told_with_the_nearest_name(workload: Workload) -> None:
    with pytest.raises(CompressError) as caught:
        prune(workload, exclude=["stern"])
    assert "exclude 'stern' matches no group of channels, did you mean 'stem'" in str(caught.value)
    assert "Choose from stem" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_to_remove_is_an_error(workload: Workload) -> None:
    with pytest.raises(CompressError, match="has no channels that can be removed"):
        prune(workload, exclude=["*"])


def test_steps_come_nearer_to_the_goal_with_training_between(workload: Workload) -> None:
    counting = Counting(cnn(16, blocks=1))
    tuning = {"between": {"epochs": 1}, "finetune": {"epochs": 2}}
    trained = prune(counting.workload, steps=2, keep=0.4, **tuning)
    assert counting.losses == 2 + 2 * 2  # batches: of an epoch after the first step, then of two
    inputs = example_tensors(workload)
    left = count_macs(trained.model, inputs) / count_macs(workload.model, inputs)  # type: ignore[arg-type]
    assert left == pytest.approx(0.4, abs=0.07)


@pytest.mark.parametrize("keys", [{"finetune": {"epochs": 1}}, {"importance": "taylor"}])
def test_without_training_data_nothing_can_be_learnt(
    workload: Workload, keys: dict[str, Any]
) -> None:
    with pytest.raises(WorkloadError, match=r"has (neither|no) training"):
        prune(replace(workload, training=None), **keys)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("keep", 0.0),
        ("keep", 1.0),
        ("multiple", 0),
        ("multiple", "guessed"),
        ("least", 0.0),
        ("steps", 0),
        ("importance", "l3"),
        ("scope", "both"),
    ],
)
def test_settings_without_sense_are_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        StructuredPruning.model_validate({"type": "prune", key: value})


def test_a_model_that_cannot_be_traced_is_told(workload: Workload) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if float(x.sum()) > 0:  # decided by the data
                x = x + 1
            inner: torch.Tensor = self.inner(x)
            return inner

    own = Workload("own", Own().eval(), {"x": torch.zeros(1, 4)})
    with pytest.raises(EdgekitError, match="the model cannot be traced"):
        prune(own)
