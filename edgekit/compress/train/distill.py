"""What a student learns from a teacher: outputs, features, attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from edgekit.compress.drop.blocks import find_blocks
from edgekit.compress.modules import example_tensors, named_outputs
from edgekit.compress.train import losses
from edgekit.compress.train.data import Batch
from edgekit.compress.train.settings import Distill
from edgekit.compress.train.taps import Tapped, tap
from edgekit.errors import WorkloadError, nearest
from edgekit.workload import Workload

__all__ = ["Teacher"]


@dataclass(frozen=True, slots=True)
class _Pair:
    """One module of the teacher and the one of the student that shall do what it does.

    Attributes:
        axis: the one that a learned linear map brings to the teacher's size.
        projection: number of that map; None where the sizes agree.
    """

    teacher: str
    student: str
    axis: int = 0
    projection: int | None = None


class Teacher:
    """The original model, and how far a student is from it.

    Args:
        model: the original. It stays as it is; it has to be in eval mode.
        student: what learns from it.
        settings: what is compared.
        workload: names of inputs and outputs, and labels.
        batch: to see on what the features and the attention look like.
        seed: of the projections' first values.

    Attributes:
        projections: what is learnt beside the student and thrown away afterwards.

    Raises:
        WorkloadError: a module that is named does not exist or does not fit, or there is nothing
            to compare.
    """

    def __init__(
        self,
        model: nn.Module,
        student: nn.Module,
        settings: Distill,
        workload: Workload,
        batch: Batch,
        seed: int,
    ) -> None:
        self._model = model
        self._settings = settings
        self._workload = workload
        self._where = f"workload {workload.name!r}, distill"
        self.projections = nn.ModuleList()
        pairs = self._named_pairs(student)
        with torch.no_grad():
            taught = self._tap(model, batch, [pair.teacher for pair in pairs])
            learnt = self._tap(student, batch, [pair.student for pair in pairs])
            generator = torch.Generator().manual_seed(seed)
            self._features = [self._fitted(pair, taught, learnt, generator) for pair in pairs]
            self._maps = self._map_pairs(student, batch, taught, learnt)
        self._kinds = self._comparisons(taught, learnt)

    def loss(
        self, student: nn.Module, batch: Batch
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Outputs of the student, and how far it is from the teacher in all that is compared."""
        pairs = [*self._features, *self._maps]
        with torch.no_grad():
            taught = self._tap(self._model, batch, [pair.teacher for pair in pairs])
        learnt = self._tap(student, batch, [pair.student for pair in pairs])
        outputs, total = self._outputs_loss(taught, learnt)
        if self._features:
            features = _mean([self._feature_loss(p, taught, learnt) for p in self._features])
            total = total + self._settings.feature_weight * features
        if self._maps:
            total = total + _mean(
                [
                    losses.feature_map_distance(
                        learnt.outputs[pair.student][-1], taught.outputs[pair.teacher][-1]
                    )
                    for pair in self._maps
                ]
            )
        if self._settings.attention and taught.attention:
            total = total + _attention_loss(taught.attention, learnt.attention)
        return outputs, total

    def outputs_loss(
        self, student: nn.Module, batch: Batch
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Outputs of the student, and how far they alone are from the teacher's."""
        inputs = self._inputs(batch)
        return self._outputs_loss(Tapped(self._model(*inputs)), Tapped(student(*inputs)))

    def _outputs_loss(
        self, taught: Tapped, learnt: Tapped
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        wanted, got = self._named(taught), self._named(learnt)
        return got, _mean(
            [self._compare(got[name], wanted[name], kind) for name, kind in self._kinds.items()]
        )

    def _compare(
        self, got: torch.Tensor, wanted: torch.Tensor, kind: Literal["kl", "mse", "cosine"]
    ) -> torch.Tensor:
        if kind == "kl":
            return losses.kl(got, wanted, self._settings.temperature, _class_axis(wanted))
        return (losses.relative_mse if kind == "mse" else losses.cosine)(got, wanted)

    def _comparisons(
        self, taught: Tapped, learnt: Tapped
    ) -> dict[str, Literal["kl", "mse", "cosine"]]:
        """How each output is compared; those that are not numbers, such as classes, are not."""
        kinds: dict[str, Literal["kl", "mse", "cosine"]] = {}
        got = self._named(learnt)
        for name, wanted in self._named(taught).items():
            if wanted.shape != got[name].shape:
                raise WorkloadError(
                    f"output {name!r} has shape {list(got[name].shape)}, "
                    f"the teacher's has {list(wanted.shape)}",
                    where=self._where,
                    fix="Distill from a teacher whose outputs have the same shapes",
                )
            if wanted.is_floating_point():
                kinds[name] = self._settings.outputs or self._usual(wanted)
        if not kinds:
            raise WorkloadError(
                "no output is a floating-point tensor",
                where=self._where,
                fix="Let forward return scores instead of their argmax",
            )
        return kinds

    def _usual(self, scores: torch.Tensor) -> Literal["kl", "mse"]:
        labels = len(self._workload.labels)
        classes = scores.shape[_class_axis(scores)] if scores.ndim > 1 else 0
        return "kl" if labels and labels == classes else "mse"

    def _named_pairs(self, student: nn.Module) -> list[_Pair]:
        pairs: list[_Pair] = []
        names = {name for name, _ in student.named_modules() if name}
        teachers = [name for name, _ in self._model.named_modules() if name]
        if self._settings.features == "blocks":
            blocks = find_blocks(self._model, example_tensors(self._workload))
            return [_Pair(block.name, block.name) for block in blocks if block.name in names]
        for wanted in self._settings.features:
            if isinstance(wanted, str):
                found = [n for n in teachers if n in names and fnmatchcase(n, wanted)]
                if not found:
                    raise self._unknown(wanted, "both models", [n for n in teachers if n in names])
                pairs += [_Pair(name, name) for name in found]
                continue
            for name, whose, known in zip(
                wanted, ("the teacher", "the student"), (teachers, sorted(names)), strict=True
            ):
                if name not in known:
                    raise self._unknown(name, whose, known)
            pairs.append(_Pair(*wanted))
        return pairs

    def _unknown(self, name: str, whose: str, known: Sequence[str]) -> WorkloadError:
        near = nearest(name, known)
        return WorkloadError(
            f"features names {name!r}, and no module of {whose} is called so"
            + (f"; did you mean {near!r}?" if near else ""),
            where=self._where,
            fix="Take names from model.named_modules()",
        )

    def _fitted(
        self, pair: _Pair, taught: Tapped, learnt: Tapped, generator: torch.Generator
    ) -> _Pair:
        """The pair with a projection if it needs one."""
        made = taught.outputs.get(pair.teacher), learnt.outputs.get(pair.student)
        if made[0] is None or made[1] is None or len(made[0]) != len(made[1]):
            raise WorkloadError(
                f"features {pair.teacher!r} and {pair.student!r} returned "
                f"{len(made[0] or ())} and {len(made[1] or ())} tensors in one forward pass",
                where=self._where,
                fix="Name modules that forward calls equally often in both models",
            )
        wanted, got = made[0][0], made[1][0]
        differ = [
            axis
            for axis, sizes in enumerate(zip(wanted.shape, got.shape, strict=False))
            if len(set(sizes)) > 1
        ]
        floats = wanted.is_floating_point() and got.is_floating_point()
        if not floats or wanted.ndim != got.ndim or len(differ) > 1 or differ == [0]:
            raise WorkloadError(
                f"features {pair.teacher!r} and {pair.student!r} have shapes "
                f"{list(wanted.shape)} and {list(got.shape)}",
                where=self._where,
                fix="Name modules whose float outputs differ in size in at most one axis, "
                "which is not the batch",
            )
        if not differ:
            return pair
        sizes = got.shape[differ[0]], wanted.shape[differ[0]]
        projection = nn.Linear(*sizes, bias=False, device="meta").to_empty(device=got.device)
        values = torch.randn(sizes[1], sizes[0], generator=generator) / sizes[0] ** 0.5
        projection.weight.copy_(values)
        self.projections.append(projection)
        return _Pair(pair.teacher, pair.student, differ[0], len(self.projections) - 1)

    def _feature_loss(self, pair: _Pair, taught: Tapped, learnt: Tapped) -> torch.Tensor:
        terms = []
        for wanted, got in zip(
            taught.outputs[pair.teacher], learnt.outputs[pair.student], strict=True
        ):
            mapped = got
            if pair.projection is not None:
                weight = self.projections[pair.projection].get_parameter("weight")
                mapped = functional.linear(got.movedim(pair.axis, -1), weight)
                mapped = mapped.movedim(-1, pair.axis)
            terms.append(losses.relative_mse(mapped, wanted))
        return _mean(terms)

    def _map_pairs(
        self, student: nn.Module, batch: Batch, taught: Tapped, learnt: Tapped
    ) -> list[_Pair]:
        """The last feature map of each size, where attention is asked for and there is none."""
        if not self._settings.attention or (taught.attention and learnt.attention):
            return []
        last = [self._last_maps(self._model, batch), self._last_maps(student, batch)]
        pairs = [_Pair(name, last[1][size]) for size, name in last[0].items() if size in last[1]]
        if not pairs:
            raise WorkloadError(
                "attention is asked for, and there are neither calls of "
                "scaled_dot_product_attention nor feature maps of equal size in both models",
                where=self._where,
                fix="Leave attention out, or name layers in features",
            )
        return pairs

    def _last_maps(self, model: nn.Module, batch: Batch) -> dict[tuple[int, ...], str]:
        names = [name for name, _ in model.named_modules() if name]
        made = self._tap(model, batch, names).outputs
        # outputs are in the order of their making, so that the last of a size stays
        sizes = ((tuple(tensors[-1].shape[2:]), name) for name, tensors in made.items())
        return {size: name for size, name in sizes if len(size) == 2 and min(size) > 1}

    def _tap(self, model: nn.Module, batch: Batch, names: Sequence[str]) -> Tapped:
        return tap(model, self._inputs(batch), names, attention=self._settings.attention)

    def _inputs(self, batch: Batch) -> list[torch.Tensor]:
        return [batch[name] for name in self._workload.example_inputs]

    def _named(self, tapped: Tapped) -> dict[str, torch.Tensor]:
        return named_outputs(tapped.result, self._workload.output_names)


def _attention_loss(taught: Sequence[torch.Tensor], learnt: Sequence[torch.Tensor]) -> torch.Tensor:
    """A student with fewer layers looks at evenly spaced ones, the last at the last (TinyBERT)."""
    return _mean(
        [
            losses.attention_divergence(got, taught[(index + 1) * len(taught) // len(learnt) - 1])
            for index, got in enumerate(learnt)
        ]
    )


def _class_axis(scores: torch.Tensor) -> int:
    return 1 if scores.ndim == 4 else -1


def _mean(terms: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms)).mean()
