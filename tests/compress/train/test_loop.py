"""Training stops in time, tells where it is, and can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgekit.compress.base import ModuleContext
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.run import FineTuned
from edgekit.compress.train.settings import FineTune
from edgekit.errors import OutputError, WorkloadError
from edgekit.reference import reference_predict
from edgekit.workload import Metric, Training, Workload
from edgekit.zoo import mlp_digits
from tests.compress.train.training import small_student, state, unlabelled

DISTILL = {"features": ["1", ["3", "3"]]}
KEYS: dict[str, Any] = {"epochs": 3, "rate": 1e-2, "distill": DISTILL, "checkpoint_seconds": 0}


class _Killed(BaseException):
    """What a test throws in mid-epoch."""


class _Told:
    """Keeps what it is told, and throws at a step."""

    def __init__(self, at: int | None = None) -> None:
        self.lines: list[str] = []
        self._left = at

    def stage(self, name: str) -> None:
        pass

    def update(self, detail: str) -> None:
        self.lines.append(detail)


class _Masks:
    """An after_step with a state: every step zeroes one more weight of the first layer."""

    def __init__(self, model: nn.Sequential, die_at: int | None = None) -> None:
        self._weight = model.get_parameter("0.weight")
        self._mask = torch.ones_like(self._weight)
        self._die_at = die_at

    def __call__(self, step: int, _steps: int) -> None:
        chosen = torch.randint(self._mask.numel(), ())  # of the global generator, on purpose
        self._mask.view(-1)[chosen] = 0.0
        with torch.no_grad():
            self._weight.mul_(self._mask)
        if step == self._die_at:
            raise _Killed

    def state_dict(self) -> dict[str, Any]:
        return {"mask": self._mask.clone()}

    def load_state_dict(self, held: dict[str, Any]) -> None:
        self._mask.copy_(held["mask"])


def _train(
    workload: Workload, folder: Path | None, model: nn.Module | None = None, **keys: Any
) -> tuple[nn.Module, FineTuned]:
    student = small_student(dropout=True) if model is None else model
    context = ModuleContext(folder=folder, seed=keys.pop("seed", 0))
    settings = FineTune.model_validate(KEYS | keys)
    return student, finetune(workload, student, settings, context, label="a test")


def _same(first: nn.Module, second: nn.Module) -> bool:
    return all(map(torch.equal, state(first), state(second)))


def _dying(workload: Workload, at: int) -> Workload:
    """The workload, whose loss throws at its ``at``-th call."""
    training = workload.training
    assert training is not None
    calls = 0

    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        nonlocal calls
        calls += torch.is_grad_enabled()
        if calls == at:
            raise _Killed
        return training.loss(outputs, batch)

    workload.training = Training(training.batches, loss, training.rate)
    return workload


@pytest.mark.parametrize("distill", [None, DISTILL], ids=["plain", "distilled"])
@pytest.mark.parametrize("patience", [None, 1], ids=["to the end", "early stop"])
@pytest.mark.parametrize("at", [1, 2, 26, 27, 40])
def test_a_broken_training_goes_on_to_the_bit(
    at: int, patience: int | None, distill: dict[str, Any] | None, tmp_path: Path
) -> None:
    keys = {"patience": patience, "distill": distill}
    whole, done = _train(mlp_digits.workload(), None, **keys)
    with pytest.raises(_Killed):
        _train(_dying(mlp_digits.workload(), at), tmp_path, **keys)
    assert bool(list(tmp_path.iterdir())) == (at > 1)
    counted = _Counting(mlp_digits.workload())
    again, resumed = _train(counted.workload, tmp_path, **keys)
    assert _same(whole, again)
    assert resumed == done
    assert counted.losses == 3 * 26 - (at - 1)
    assert not list(tmp_path.iterdir())


class _Counting:
    """Counts the losses that are trained on."""

    def __init__(self, workload: Workload) -> None:
        training = workload.training
        assert training is not None
        self.losses = 0

        def loss(outputs: Any, batch: Any) -> torch.Tensor:
            self.losses += torch.is_grad_enabled()
            return training.loss(outputs, batch)

        workload.training = Training(training.batches, loss, training.rate)
        self.workload = workload


def test_masks_survive_a_break(tmp_path: Path) -> None:
    def masked(folder: Path | None, die_at: int | None) -> nn.Module:
        student = small_student(dropout=True)
        assert isinstance(student, nn.Sequential)
        settings = FineTune.model_validate(KEYS)
        context, masks = ModuleContext(folder=folder), _Masks(student, die_at)
        workload = mlp_digits.workload()
        finetune(workload, student, settings, context, label="a test", after_step=masks)
        return student

    whole = masked(None, None)
    with pytest.raises(_Killed):
        masked(tmp_path, 40)  # the checkpoint is that of step 39
    assert _same(whole, masked(tmp_path, None))


def test_data_that_draws_from_the_global_generator_resumes_too(tmp_path: Path) -> None:
    def noisy() -> Workload:
        workload = mlp_digits.workload()
        training = workload.training
        assert training is not None

        def batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
            for batch in training.batches(epoch):
                noise = torch.rand_like(batch["pixels"])
                yield {**batch, "pixels": batch["pixels"] + 0.1 * noise}

        workload.training = Training(batches, training.loss)
        return workload

    whole, _ = _train(noisy(), None)
    with pytest.raises(_Killed):
        _train(_dying(noisy(), 31), tmp_path)
    assert _same(whole, _train(noisy(), tmp_path)[0])


_SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from edgekit.compress.base import ModuleContext
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.settings import FineTune
from edgekit.zoo import mlp_digits
from tests.compress.train.test_loop import KEYS
from tests.compress.train.training import small_student

class Kill:
    def __init__(self, at): self.at = at
    def __call__(self, step, steps):
        if step == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

folder, at, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
torch.set_num_threads(1)
student = small_student(dropout=True)
finetune(mlp_digits.workload(), student, FineTune.model_validate(KEYS),
         ModuleContext(folder=folder), label="a test", after_step=Kill(at))
torch.save(student.state_dict(), out)
"""


@pytest.mark.slow
def test_a_process_killed_in_mid_epoch_goes_on_to_the_bit(tmp_path: Path) -> None:
    def run(folder: str, at: int) -> int:
        command = [sys.executable, "-c", _SCRIPT, str(tmp_path / folder), str(at)]
        root = Path(__file__).parents[3]
        done = subprocess.run(
            [*command, str(tmp_path / f"{folder}.pt")],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            check=False,
        )
        return done.returncode

    assert run("whole", -1) == 0
    assert run("killed", 40) == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["a-test.checkpoint"]
    assert not (tmp_path / "killed.pt").exists()
    assert run("killed", -1) == 0
    whole, again = (torch.load(tmp_path / f"{name}.pt") for name in ("whole", "killed"))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert not list((tmp_path / "killed").iterdir())


@pytest.mark.parametrize(
    "other",
    [{"rate": 2e-2}, {"epochs": 4}, {"seed": 1}, {"model": small_student(13, dropout=True)}],
    ids=["rate", "epochs", "seed", "model"],
)
def test_a_checkpoint_of_another_training_is_ignored(other: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(_Killed):
        _train(_dying(mlp_digits.workload(), 30), tmp_path)
    counted = _Counting(mlp_digits.workload())
    _train(counted.workload, tmp_path, **other)
    assert counted.losses == other.get("epochs", 3) * 26


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_torn_checkpoint_is_ignored(damage: str, tmp_path: Path) -> None:
    whole, _ = _train(mlp_digits.workload(), None)
    with pytest.raises(_Killed):
        _train(_dying(mlp_digits.workload(), 30), tmp_path)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(
        {"cut": data[: len(data) // 2], "flipped": data, "empty": b"", "text": b"x" * 99}[damage]
    )
    again, _ = _train(mlp_digits.workload(), tmp_path)
    assert _same(whole, again)


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="folder for checkpoints") as caught:
        _train(mlp_digits.workload(), tmp_path / "file" / "folder")
    assert "\n" not in str(caught.value)


def test_training_leaves_the_global_generators_alone(tmp_path: Path) -> None:
    workload = mlp_digits.workload()
    before = torch.get_rng_state()
    _train(workload, tmp_path, distill=None)
    assert torch.equal(before, torch.get_rng_state())


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    first, second = (_train(mlp_digits.workload(), None)[0] for _ in range(2))
    assert _same(first, second)
    assert not _same(first, _train(mlp_digits.workload(), None, seed=1)[0])


def _falling(scores: list[float]) -> Workload:
    """A workload whose metric is what the list says, one after the other."""
    workload = mlp_digits.workload()
    given = iter(scores)
    workload.evaluate = lambda _: {"score": next(given)}
    workload.metric = Metric("score")
    return workload


def test_early_stop_takes_the_best_weights() -> None:
    best, _ = _train(_falling([0.1, 0.5]), None, epochs=2)
    kept: list[list[torch.Tensor]] = []
    workload = _falling([0.1, 0.9, 0.8, 0.7, 0.6])
    falling, student = workload.evaluate, small_student(dropout=True)
    assert falling is not None

    def evaluate(predict: Any) -> Any:
        kept.append(state(student))
        return falling(predict)

    workload.evaluate = evaluate
    _, done = _train(workload, None, student, epochs=9, patience=3)
    assert done.stopped
    assert done.epochs == 4
    assert all(map(torch.equal, kept[1], state(student)))
    assert not _same(best, student)


def test_where_training_only_harms_nothing_is_changed() -> None:
    student = small_student(dropout=True)
    before = state(student)
    _train(_falling([0.9, 0.8, 0.7, 0.6]), None, student, patience=2)
    assert all(map(torch.equal, before, state(student)))


def test_a_lower_metric_may_be_the_better_one() -> None:
    workload = _falling([0.9, 0.8, 0.7, 0.6])
    workload.metric = Metric("score", higher_is_better=False)
    _, done = _train(workload, None, patience=1)
    assert not done.stopped
    assert done.epochs == 3


def test_without_a_metric_the_loss_on_held_out_batches_decides() -> None:
    _, done = _train(unlabelled(), None, epochs=30, rate=0.3, patience=1)
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
    counted = _Counting(mlp_digits.workload())
    with pytest.raises(WorkloadError, match=r"diverged, the loss of step .*Lower the learning"):
        _train(counted.workload, None, rate=1e30, distill=None)
    assert counted.losses < 26


def test_a_loss_that_is_nan_from_the_beginning_is_not_the_rates_fault() -> None:
    workload = mlp_digits.workload()
    training = workload.training
    assert training is not None
    workload.training = Training(training.batches, lambda o, _: o["logits"].sum() * float("nan"))
    with pytest.raises(WorkloadError, match="the loss is nan before the first step"):
        _train(workload, None, distill=None)


def test_weight_decay_is_not_for_biases_and_norms() -> None:
    workload = unlabelled()
    student = small_student()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.fill_(1.0)
    student.requires_grad_()
    for parameter in student.parameters():
        parameter.register_hook(torch.zeros_like)
    _train(workload, None, student, distill={})
    for name, parameter in student.named_parameters():
        assert bool((parameter == 1.0).all()) == name.endswith("bias")


def test_a_frozen_model_cannot_be_trained() -> None:
    with pytest.raises(WorkloadError, match="no parameter of the model requires a gradient"):
        _train(mlp_digits.workload(), None, small_student().requires_grad_(requires_grad=False))


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
        _train(workload, None)


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
    _train(workload, None)
    assert not called


def test_a_distilled_student_predicts_as_well_as_its_teacher() -> None:
    workload = mlp_digits.workload()
    student, _ = _train(workload, None, small_student(), epochs=25, distill={})
    workload.model = student
    with reference_predict(workload) as predict:
        assert workload.score(predict) >= 0.96
