"""Training stops in time, tells where it is, and blames whom it has to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgekit.compress.base import ModuleContext
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.settings import FineTune
from edgekit.errors import WorkloadError
from edgekit.reference import reference_predict
from edgekit.workload import Metric, Training, Workload
from edgekit.zoo import mlp_digits
from tests.compress.train.training import (
    KEYS,
    Counting,
    same,
    small_student,
    state,
    train,
    unlabelled,
)


class _Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, name: str) -> None:
        pass

    def update(self, detail: str) -> None:
        self.lines.append(detail)


def test_training_leaves_the_global_generators_alone(tmp_path: Path) -> None:
    workload = mlp_digits.workload()
    before = torch.get_rng_state()
    train(workload, tmp_path, distill=None)
    assert torch.equal(before, torch.get_rng_state())


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    first, second = (train(mlp_digits.workload(), None)[0] for _ in range(2))
    assert same(first, second)
    assert not same(first, train(mlp_digits.workload(), None, seed=1)[0])


def _falling(scores: list[float]) -> Workload:
    """A workload whose metric is what the list says, one after the other."""
    workload = mlp_digits.workload()
    given = iter(scores)
    workload.evaluate = lambda _: {"score": next(given)}
    workload.metric = Metric("score")
    return workload


def test_early_stop_takes_the_best_weights() -> None:
    best, _ = train(_falling([0.1, 0.5]), None, epochs=2)
    kept: list[list[torch.Tensor]] = []
    workload = _falling([0.1, 0.9, 0.8, 0.7, 0.6])
    falling, student = workload.evaluate, small_student(dropout=True)
    assert falling is not None

    def evaluate(predict: Any) -> Any:
        kept.append(state(student))
        return falling(predict)

    workload.evaluate = evaluate
    _, done = train(workload, None, student, epochs=9, patience=3)
    assert done.stopped
    assert done.epochs == 4
    assert all(map(torch.equal, kept[1], state(student)))
    assert not same(best, student)


def test_where_training_only_harms_nothing_is_changed() -> None:
    student = small_student(dropout=True)
    before = state(student)
    train(_falling([0.9, 0.8, 0.7, 0.6]), None, student, patience=2)
    assert all(map(torch.equal, before, state(student)))


def test_a_lower_metric_may_be_the_better_one() -> None:
    workload = _falling([0.9, 0.8, 0.7, 0.6])
    workload.metric = Metric("score", higher_is_better=False)
    _, done = train(workload, None, patience=1)
    assert not done.stopped
    assert done.epochs == 3


def test_without_a_metric_the_loss_on_held_out_batches_decides() -> None:
    _, done = train(unlabelled(), None, epochs=30, rate=0.3, patience=1)
    assert done.before is not None
    assert done.after is not None
    assert done.after <= done.before
    assert done.stopped


def test_held_out_batches_are_not_trained_on() -> None:
    from edgekit.compress.train.data import training_data

    data = training_data(unlabelled(), torch.device("cpu"), 0)
    held = [batch["pixels"] for batch in data.probe()]
    trained = [batch["pixels"] for batch in data.batches(0)]
    assert (len(held), len(trained), data.per_epoch) == (5, 21, 21)
    assert not any(torch.equal(x, y) for x in held for y in trained)


def test_calibration_data_comes_in_another_order_each_epoch_and_always_the_same() -> None:
    from edgekit.compress.train.data import training_data

    data = training_data(unlabelled(), torch.device("cpu"), 0)
    orders = [[float(b["pixels"].sum()) for b in data.batches(epoch)] for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_it_tells_where_it_is() -> None:
    told = _Told()
    settings = FineTune.model_validate(KEYS)
    context = ModuleContext(progress=told)
    finetune(mlp_digits.workload(), small_student(), settings, context, label="distill")
    assert told.lines[0].startswith("distill, epoch 1 of 3, step 1 of 26, loss ")
    assert told.lines[-1].startswith("distill, epoch 3 of 3, step 26 of 26, loss ")
    assert told.lines[-1].endswith(", 0 s left")
    assert len(told.lines) < 3 * 26


def test_a_diverging_training_stops_at_once() -> None:
    counted = Counting(mlp_digits.workload())
    with pytest.raises(WorkloadError, match=r"diverged, the loss of step .*Lower the learning"):
        train(counted.workload, None, rate=1e30, distill=None)
    assert counted.losses < 26


def test_a_loss_that_is_nan_from_the_beginning_is_not_the_rates_fault() -> None:
    workload = mlp_digits.workload()
    training = workload.training
    assert training is not None
    workload.training = Training(training.batches, lambda o, _: o["logits"].sum() * float("nan"))
    with pytest.raises(WorkloadError, match="the loss is nan before the first step"):
        train(workload, None, distill=None)


def test_weight_decay_is_not_for_biases_and_norms() -> None:
    workload = unlabelled()
    student = small_student()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.fill_(1.0)
    student.requires_grad_()
    for parameter in student.parameters():
        parameter.register_hook(torch.zeros_like)
    train(workload, None, student, distill={})
    for name, parameter in student.named_parameters():
        assert bool((parameter == 1.0).all()) == name.endswith("bias")


def test_a_frozen_model_cannot_be_trained() -> None:
    with pytest.raises(WorkloadError, match="no parameter of the model requires a gradient"):
        train(mlp_digits.workload(), None, small_student().requires_grad_(requires_grad=False))


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (lambda _: [], "no batches"),
        (lambda _: [{"label": torch.zeros(1)}], "'label' but not 'pixels'"),
        (lambda epoch: [{"pixels": torch.zeros(2, 64)}] * (2 - epoch), "epoch 0 had 2 batches"),
        (lambda _: 1 / 0, "ZeroDivisionError"),
    ],
    ids=["none", "no input", "fewer later", "raises"],
)
def test_bad_batches_are_told(batches: Any, message: str) -> None:
    workload = mlp_digits.workload()
    workload.training = Training(batches, lambda outputs, _: outputs["logits"].sum())
    with pytest.raises(WorkloadError, match=message):
        train(workload, None)


def _nothing(*_: object) -> None: ...


def test_what_cannot_be_interrupted_keeps_no_masks() -> None:
    workload = mlp_digits.workload()
    workload.training, workload.finetune = None, _nothing
    with pytest.raises(WorkloadError, match="cannot be interrupted"):
        finetune(
            workload,
            small_student(),
            FineTune(),
            ModuleContext(),
            label="test",
            after_step=_nothing,
        )


def test_to_distill_the_workloads_own_function_is_not_called() -> None:
    workload = unlabelled()
    called: list[int] = []
    workload.finetune = lambda _, epochs: called.append(epochs)
    train(workload, None)
    assert not called


def test_a_distilled_student_predicts_as_well_as_its_teacher() -> None:
    workload = mlp_digits.workload()
    student, _ = train(workload, None, small_student(), epochs=25, distill={})
    workload.model = student
    with reference_predict(workload) as predict:
        assert workload.score(predict) >= 0.96
