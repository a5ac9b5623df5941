"""A training that was killed goes on to the bit, and never from what is not its own."""

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
from edgekit.compress.train.settings import FineTune
from edgekit.errors import OutputError
from edgekit.workload import Training, Workload
from edgekit.zoo import mlp_digits
from tests.compress.train.training import DISTILL, KEYS, Counting, same, small_student, train


class _Killed(BaseException):
    """What a test throws in mid-epoch."""


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
    whole, done = train(mlp_digits.workload(), None, **keys)
    with pytest.raises(_Killed):
        train(_dying(mlp_digits.workload(), at), tmp_path, **keys)
    assert bool(list(tmp_path.iterdir())) == (at > 1)
    counted = Counting(mlp_digits.workload())
    again, resumed = train(counted.workload, tmp_path, **keys)
    assert same(whole, again)
    assert resumed == done
    assert counted.losses == 3 * 26 - (at - 1)
    assert not list(tmp_path.iterdir())


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
    assert same(whole, masked(tmp_path, None))


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

    whole, _ = train(noisy(), None)
    with pytest.raises(_Killed):
        train(_dying(noisy(), 31), tmp_path)
    assert same(whole, train(noisy(), tmp_path)[0])


_SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from edgekit.compress.base import ModuleContext
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.settings import FineTune
from edgekit.zoo import mlp_digits
from tests.compress.train.training import KEYS, small_student

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
        train(_dying(mlp_digits.workload(), 30), tmp_path)
    counted = Counting(mlp_digits.workload())
    train(counted.workload, tmp_path, **other)
    assert counted.losses == other.get("epochs", 3) * 26


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_torn_checkpoint_is_ignored(damage: str, tmp_path: Path) -> None:
    whole, _ = train(mlp_digits.workload(), None)
    with pytest.raises(_Killed):
        train(_dying(mlp_digits.workload(), 30), tmp_path)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(
        {"cut": data[: len(data) // 2], "flipped": data, "empty": b"", "text": b"x" * 99}[damage]
    )
    again, _ = train(mlp_digits.workload(), tmp_path)
    assert same(whole, again)


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="folder for checkpoints") as caught:
        train(mlp_digits.workload(), tmp_path / "file" / "folder")
    assert "\n" not in str(caught.value)
