"""One training that can be killed and goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgekit.compress.base import ModuleContext
from edgekit.compress.modules import named_outputs
from edgekit.compress.train.checkpoint import (
    Checkpoint,
    digest,
    restore,
    rng_state,
    set_rng_state,
    snapshot,
)
from edgekit.compress.train.data import Batch, training_data
from edgekit.compress.train.distill import Teacher
from edgekit.compress.train.half import reduced_precision
from edgekit.compress.train.pace import Teller, schedule
from edgekit.compress.train.settings import FineTune
from edgekit.errors import WorkloadError
from edgekit.reference import reference_predict
from edgekit.workload import Workload

__all__ = ["FineTuned", "Run", "Stateful"]

_WEIGHT_DECAY = 1e-2
_LARGEST_GRADIENT = 1.0


@runtime_checkable
class Stateful(Protocol):
    """An ``after_step`` that keeps something between steps, such as masks.

    Its state goes into checkpoints: tensors, numbers, text, and lists and dicts of them.
    """

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class FineTuned:
    """How a training went.

    Attributes:
        epochs: how many were trained.
        before: mean loss of a few batches before, in eval mode; of the outputs alone, without
            features and attention. None where the workload's own function trained.
        after: that of the same batches afterwards.
        stopped: whether it stopped early.
    """

    epochs: int = 0
    before: float | None = None
    after: float | None = None
    stopped: bool = False


class Run:
    """One training, from its first or its last checkpoint's step to its end.

    What a checkpoint holds are the attributes below; all else follows from the arguments.

    Attributes:
        step: steps of the optimizer done.
        epoch: the epoch that is trained.
        position: batches of that epoch done.
        best: the highest score so far.
        best_weights: those that had it.
        waited: epochs since.
        before: loss before the first step.
    """

    def __init__(
        self,
        workload: Workload,
        model: nn.Module,
        settings: FineTune,
        context: ModuleContext,
        label: str,
        after_step: Callable[[int, int], None] | None,
    ) -> None:
        self.workload, self.model, self.settings = workload, model, settings
        self.label, self.after_step = label, after_step
        self.kept: Stateful | None = after_step if isinstance(after_step, Stateful) else None
        self.seed = context.seed
        self.where = f"workload {workload.name!r}, {label}"
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.data = training_data(workload, self.device, context.seed)
        self.steps = settings.epochs * self.data.per_epoch
        self.rate = settings.rate or self.data.rate
        self.original = _original(workload, context) if settings.distill else None
        self.teacher = self._teacher()
        self.frozen = self._inherited_embeddings()
        self.optimizer = self._optimizer()
        # A schedule of its own, like gradual sparsity, is to be gone through to its end.
        self.patience = None if after_step is not None else settings.patience
        self.checkpoint = Checkpoint(
            context.folder, label, self._fingerprint(), settings.checkpoint_seconds
        )
        self.teller = Teller(context.progress, label, settings.epochs, self.data.per_epoch)
        self.step = self.epoch = self.position = self.waited = 0
        self.best = -math.inf
        self.best_weights: dict[str, torch.Tensor] = {}
        self.before = 0.0
        self.epoch_rng = self.rng = rng_state(self.device)

    def run(self) -> FineTuned:
        devices = [self.device] if self.device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices=devices),
            self._teacher_in_eval(),
            self._without_gradients(),
        ):
            torch.manual_seed(self.seed)
            held = self.checkpoint.load()
            if held is None:
                self._begin()
            else:
                self._load(held)
            stopped = False
            while self.epoch < self.settings.epochs and not stopped:
                self._train_epoch(resumed=held is not None)
                held = None
                stopped = self._judge()
            if self.best_weights:
                restore(self.model, self.best_weights)
            self.model.eval()
            after = self._probe()
        self.checkpoint.remove()
        return FineTuned(self.epoch, self.before, after, stopped)

    def _begin(self) -> None:
        self.before = self._probe()
        if self.patience is not None:
            self._score()
        self.epoch_rng = self.rng = rng_state(self.device)

    def _train_epoch(self, *, resumed: bool) -> None:
        """The rest of one epoch.

        Batches that were done are drawn again and dropped. Should drawing them use the global
        generators, they do as in the first run: those are put back to the epoch's beginning, and
        afterwards to where the checkpoint was written.
        """
        self._learning()
        if not resumed:
            self.epoch_rng = rng_state(self.device)
        set_rng_state(self.device, self.epoch_rng)
        batches = iter(self.data.batches(self.epoch))
        done = sum(1 for _ in islice(batches, self.position))
        if resumed:
            set_rng_state(self.device, self.rng)
        for batch in batches:
            self._train_step(batch)
            done += 1
        if done != self.data.per_epoch:
            raise WorkloadError(
                f"epoch 0 had {self.data.per_epoch} batches, epoch {self.epoch} has {done}",
                where=f"{self.where}, training",
                fix="Let batches(epoch) make a fresh iterable of as many batches in every epoch",
            )
        self.epoch, self.position = self.epoch + 1, 0

    def _learning(self) -> None:
        """Train mode; without dropout and the like where a teacher says what is right."""
        self.model.train()
        if self.teacher is not None:
            for module in self.model.modules():
                # cuDNN's recurrent layers have no gradient in eval mode
                module.training = isinstance(module, _BatchNorm | nn.RNNBase)

    def _train_step(self, batch: Batch) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * schedule(self.step / self.steps)
        self.optimizer.zero_grad()
        with reduced_precision(self.device) if self.settings.bfloat16 else nullcontext():
            loss = self._loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise WorkloadError(
                f"training diverged, the loss of step {self.step + 1} is {value}"
                if self.step
                else f"the loss is {value} before the first step",
                where=self.where,
                fix=f"Lower the learning rate, which is {self.rate:g}"
                if self.step
                else "Look for NaN in the data, and at what the loss does",
            )
        loss.backward()
        for group in self.optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], _LARGEST_GRADIENT)
        self.optimizer.step()
        self.step += 1
        self.position += 1
        if self.after_step is not None:
            self.after_step(self.step, self.steps)
        self.teller.tell(self.epoch, self.position, self.step, self.steps, value)
        if self.checkpoint.due():
            self.checkpoint.save(self._state())

    def _loss(self, batch: Batch) -> torch.Tensor:
        own = self.data.loss
        if self.teacher is None or self.settings.distill is None:
            assert own is not None
            return own(self._outputs(batch), batch)
        outputs, taught = self.teacher.loss(self.model, batch)
        return self._mixed(outputs, taught, batch)

    def _mixed(
        self, outputs: Mapping[str, torch.Tensor], taught: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        assert self.settings.distill is not None
        weight = self.settings.distill.weight
        if self.data.loss is None or weight == 1.0:
            return taught
        return weight * taught + (1.0 - weight) * self.data.loss(outputs, batch)

    def _outputs(self, batch: Batch) -> dict[str, torch.Tensor]:
        result = self.model(*(batch[name] for name in self.workload.example_inputs))
        return named_outputs(result, self.workload.output_names)

    @torch.no_grad()
    def _probe(self) -> float:
        """Mean loss of a few batches in eval mode, of the outputs alone."""
        self.model.eval()
        found = []
        for batch in self.data.probe():
            if self.teacher is None:
                found.append(float(self._loss(batch)))
            else:
                found.append(
                    float(self._mixed(*self.teacher.outputs_loss(self.model, batch), batch))
                )
        return math.fsum(found) / len(found)

    def _score(self) -> bool:
        """Judge the model as it is, higher is better; True when it is the best so far."""
        if self.workload.metric is not None:
            with reference_predict(replace(self.workload, model=self.model)) as predict:
                score = self.workload.score(predict)
            score = score if self.workload.metric.higher_is_better else -score
        else:
            score = -self._probe()
        if score <= self.best:
            return False
        self.best, self.best_weights = score, snapshot(self.model)
        return True

    def _judge(self) -> bool:
        """After an epoch: whether there is no use in going on."""
        if self.patience is None:
            return False
        states = rng_state(self.device)  # what the user's evaluate draws is no part of training
        self.waited = 0 if self._score() else self.waited + 1
        set_rng_state(self.device, states)
        return self.waited >= self.patience and self.epoch < self.settings.epochs

    def _state(self) -> dict[str, Any]:
        return {
            "counts": [self.step, self.epoch, self.position, self.waited],
            "before": self.before,
            "best": self.best,
            "best_weights": self.best_weights,
            "model": snapshot(self.model),
            "projections": snapshot(self.teacher.projections) if self.teacher else {},
            "optimizer": self.optimizer.state_dict(),
            "epoch_rng": self.epoch_rng,
            "rng": rng_state(self.device),
            "after_step": self.kept.state_dict() if self.kept else {},
        }

    def _load(self, held: Mapping[str, Any]) -> None:
        self.step, self.epoch, self.position, self.waited = held["counts"]
        self.before, self.best = held["before"], held["best"]
        self.best_weights = held["best_weights"]
        restore(self.model, held["model"])
        if self.teacher is not None:
            restore(self.teacher.projections, held["projections"])
        self.optimizer.load_state_dict(held["optimizer"])
        self.epoch_rng, self.rng = held["epoch_rng"], held["rng"]
        if self.kept is not None:
            self.kept.load_state_dict(held["after_step"])

    def _fingerprint(self) -> str:
        settings = self.settings.model_dump_json(exclude={"checkpoint_seconds"})
        counts = f"{self.seed} {self.data.per_epoch} {self.rate}"
        models = [self.model] if self.original is None else [self.model, self.original]
        return digest(self.workload.name, self.label, settings, counts, *models)

    def _teacher(self) -> Teacher | None:
        if self.settings.distill is None or self.original is None:
            return None
        self.model.eval()
        batch = next(self.data.probe())
        with self._teacher_in_eval():
            return Teacher(
                self.original, self.model, self.settings.distill, self.workload, batch, self.seed
            )

    @contextmanager
    def _teacher_in_eval(self) -> Iterator[None]:
        if self.original is None or not self.original.training:
            yield
            return
        modes = {module: module.training for module in self.original.modules()}
        self.original.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training

    def _inherited_embeddings(self) -> list[torch.Tensor]:
        """Embedding tables that are the teacher's: right as they are.

        Training would change the rows that the data happens to have, and let the others decay.
        """
        if self.original is None:
            return []
        tables = dict(self.original.named_parameters())
        return [
            module.weight
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Embedding)
            and (own := tables.get(f"{name}.weight")) is not None
            and torch.equal(own, module.weight)
        ]

    @contextmanager
    def _without_gradients(self) -> Iterator[None]:
        wanted = [parameter for parameter in self.frozen if parameter.requires_grad]
        for parameter in wanted:
            parameter.requires_grad = False
        try:
            yield
        finally:
            for parameter in wanted:
                parameter.requires_grad_()

    def _optimizer(self) -> torch.optim.AdamW:
        """Weight decay pulls matrices and filters only: not norms, biases or scales."""
        frozen = {id(parameter) for parameter in self.frozen}
        learnt = [p for p in self.model.parameters() if p.requires_grad and id(p) not in frozen]
        if not learnt:
            raise WorkloadError(
                "no parameter of the model requires a gradient",
                where=self.where,
                fix="Call requires_grad_() on the model",
            )
        learnt += self.teacher.projections.parameters() if self.teacher else []
        groups = [
            {"params": [p for p in learnt if p.ndim > 1], "weight_decay": _WEIGHT_DECAY},
            {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=self.rate, fused=True
        )


def _original(workload: Workload, context: ModuleContext) -> nn.Module:
    model = context.teacher if context.teacher is not None else workload.model
    if isinstance(model, Path):
        raise WorkloadError(
            "an ONNX file cannot be learnt from",
            where=f"workload {workload.name!r}, distill",
            fix="Give the torch.nn.Module as its model",
        )
    return model
