"""What is around the steps on the module: checks, records, names, random state."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.compress.base import (
    Change,
    ModuleContext,
    ModulePass,
    PassReport,
    Trained,
    pass_types,
)
from edgekit.compress.modules import copied
from edgekit.errors import WorkloadError
from edgekit.module_passes import run_module_passes
from edgekit.workload import Workload
from tests.compress.tiny import cnn


class Own(ModulePass):
    """A vendor's pass: does to the copy what ``how`` says."""

    type: Literal["own"] = "own"
    how: str = "nothing"
    name: str | None = None
    changed: int = 1

    @property
    def label(self) -> str | None:
        return self.name

    def apply(self, workload: Workload, context: ModuleContext) -> Trained:
        model = copied(workload)
        torch.rand(3)  # the process's own generator, which a vendor may well use
        if self.how == "hook":
            model.head.register_forward_hook(lambda *_: None)
        elif self.how == "parametrization":
            nn.utils.parametrizations.weight_norm(model.head)
        elif self.how == "shape":
            model.head = nn.Linear(8, 5)
        elif self.how == "nan":
            nn.init.constant_(model.head.bias, float("nan"))
        elif self.how == "noise":
            nn.init.normal_(model.head.bias)
        elif self.how == "tell":
            assert context.teacher is not None
        changes = (Change("head", "a", "b"), Change("stem", "c", "d", kept=False, why="slow"))
        report = PassReport("own", self.changed, 7, ("a detail",), changes=changes)
        return Trained(model, report, {self.name or "": Learnt()} if self.how == "learn" else {})


class Learnt:
    """What quantization-aware training tells of a layer."""

    weight = np.zeros((1, 1), np.float32)
    weight_scale = np.ones(1, np.float32)
    low, high = 0.0, 1.0


def step(kind: str, **keys: Any) -> Any:
    return pass_types()[kind].model_validate({"type": kind, **keys})


def run(*steps: ModulePass, workload: Workload | None = None, seed: int = 0) -> Any:
    given = workload or cnn(blocks=1)
    return run_module_passes(given, steps, ModuleContext(teacher=None, seed=seed))


def test_the_random_state_of_the_process_is_as_before() -> None:
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    run(Own(how="noise"))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_it_is_so_when_a_pass_fails_too() -> None:
    state = torch.random.get_rng_state()
    with pytest.raises(WorkloadError):
        run(Own(how="shape"))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_pass_that_uses_the_process_s_generator_is_seeded() -> None:
    def bias(seed: int) -> torch.Tensor:
        torch.rand(int(torch.randint(1, 9, ())))  # whatever was drawn before
        return run(Own(how="noise"), seed=seed).workload.model.head.bias.detach()

    assert torch.equal(bias(0), bias(0))
    assert not torch.equal(bias(0), bias(1))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("hook", "a hook is left on 'head'"),
        ("parametrization", "a parametrization is left on 'head'"),
        ("shape", r"outputs have shapes \[\[2, 5\]\] instead of \[\[2, 4\]\]"),
        ("nan", "'head.bias' is NaN or infinite"),
    ],
)
def test_a_module_that_is_not_plain_or_does_not_fit_is_refused(how: str, message: str) -> None:
    with pytest.raises(WorkloadError, match=message) as caught:
        run(Own(how=how))
    assert "after own" in str(caught.value)


def test_an_onnx_file_is_refused_before_any_pass_runs(onnx_file: Path) -> None:
    workload = Workload("file", onnx_file, {"image": np.zeros((1, 3, 16, 16), np.float32)})
    with pytest.raises(WorkloadError, match="an ONNX file is not a module"):
        run(Own(), workload=workload)


def test_the_given_workload_stays_and_the_next_pass_gets_what_the_last_one_made() -> None:
    workload = cnn(blocks=1)
    assert isinstance(workload.model, nn.Module)
    before = [p.detach().clone() for p in workload.model.parameters()]
    found = run(
        step("prune", of="channels", multiple=2), step("lowrank", rank={"ratio": 0.5}, multiple=1),
        workload=workload,
    )  # fmt: skip
    assert all(map(torch.equal, before, workload.model.parameters()))
    first, second = found.passes
    assert first.macs[0] > first.macs[1] == second.macs[0] > second.macs[1]
    assert first.parameters[0] > first.parameters[1] == second.parameters[0] > second.parameters[1]


def test_every_pass_is_recorded_with_what_it_told_and_the_score_after_it() -> None:
    (record,) = run(Own()).passes
    assert (record.name, record.changed, record.total) == ("own", 1, 7)
    assert record.details == ("a detail",)
    assert [(c.where, c.kept, c.why) for c in record.changes] == [
        ("head", True, ""), ("stem", False, "slow"),
    ]  # fmt: skip
    assert record.score == 1.0
    assert record.seconds >= 0.0


def test_without_a_metric_there_is_no_score() -> None:
    workload = cnn(blocks=1)
    workload.evaluate = workload.metric = None
    assert run(Own(), workload=workload).passes[0].score is None


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["pruned"], "pruned"),
        (["pruned", "lowrank"], "pruned-lowrank"),
        (["pruned", None, "lowrank", "pruned"], "pruned-lowrank"),
        ([None], "tuned"),
        ([None, None], "tuned"),
    ],
)
def test_artifacts_are_named_after_what_was_done(names: list[str | None], label: str) -> None:
    assert run(*(Own(name=name) for name in names)).label == label


def test_learnt_scales_alone_need_no_name() -> None:
    assert run(Own(how="learn")).label == ""


def test_a_pass_that_changed_nothing_leaves_no_name_and_no_module() -> None:
    workload = cnn(blocks=1)
    found = run(Own(name="pruned", changed=0, how="noise"), Own(name="lowrank"), workload=workload)
    assert found.label == "lowrank"
    assert [record.changed for record in found.passes] == [0, 1]
    assert found.anything
    idle = run(Own(name="pruned", changed=0, how="noise"), workload=workload)
    assert idle.workload is workload
    assert not idle.anything


def test_what_several_passes_learnt_is_kept() -> None:
    found = run(Own(how="learn", name="a"), Own(), Own(how="learn", name="b"))
    assert found.learned.keys() == {"a", "b"}


def test_the_teacher_is_handed_to_every_pass() -> None:
    workload = cnn(blocks=1)
    assert isinstance(workload.model, nn.Module)
    run_module_passes(workload, [Own(how="tell")] * 2, ModuleContext(teacher=workload.model))
