"""What only the user knows about a model: its data, its metric, its shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from edgekit.dynamic_axes import differing
from edgekit.errors import CalibrationError, EdgekitError, WorkloadError, did_you_mean
from edgekit.nested import leaves
from edgekit.spec import BATCH, Feeds, Outputs
from edgekit.tensors import as_array

if TYPE_CHECKING:
    import torch

__all__ = ["Evaluate", "Metric", "Predict", "Training", "Workload"]

Predict: TypeAlias = Callable[[Feeds], Outputs]
Evaluate: TypeAlias = Callable[[Predict], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Metric:
    """The figure that decides whether a compressed model is still good enough.

    Attributes:
        name: the key of this metric in what ``Workload.evaluate`` returns.
        higher_is_better: the direction of "better".
        max_drop: how much of it a compressed model may lose, in the metric's own unit. A recipe
            or ``--max-drop`` that says something else wins.
    """

    name: str
    higher_is_better: bool = True
    max_drop: float = 0.01

    def drop(self, reference: float, value: float) -> float:
        """How much worse ``value`` is than ``reference`` (negative when it is better)."""
        return reference - value if self.higher_is_better else value - reference

    def within(self, reference: float, value: float, budget: float) -> bool:
        """Whether no more than ``budget`` is lost. 1 - 0.99 is more than 0.01 in floating point."""
        return self.drop(reference, value) <= budget + 1e-9


@dataclass(frozen=True, slots=True)
class Training:
    """How the model is trained: what passes that learn, or that judge by gradients, go by.

    Attributes:
        batches: ``batches(epoch)`` gives the batches of one epoch, ``{name: tensor}``: the model's
            inputs by name, and whatever ``loss`` needs beside. The same epoch has to give the
            same batches again (seed the shuffling and the augmentation with it), so that a
            killed training goes on as if nothing had happened.
        loss: ``loss(outputs, batch)``, a scalar tensor with a gradient; ``outputs`` has the
            model's outputs by name.
        rate: the learning rate of AdamW that suits fine-tuning.
    """

    batches: Callable[[int], Iterable[Mapping[str, torch.Tensor]]]
    loss: Callable[[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]], torch.Tensor]
    rate: float = 1e-3


@dataclass(slots=True)
class Workload:
    """A model together with everything needed to compress, check and measure it.

    Attributes:
        name: name of the model, used for the bundle and the server.
        model: the trained ``torch.nn.Module``, or the path of an ONNX file.
        example_inputs: one example call, ``{input name: tensor or array}`` in the order of
            ``forward``'s parameters, or named like these. The names become the names of the
            exported inputs. Tuples, mappings and dataclasses of tensors are taken apart, and each
            tensor is an input of its own from there on, ``hx.0`` and ``hx.1`` of ``hx``; the
            model is then a :class:`~edgekit.flat_inputs.FlatInputs` around the given one.
        output_names: names of the model's outputs, in order; by default where the tensors are in
            what ``forward`` returns (``logits``, ``hidden_states.2``, ``output`` alone).
        dynamic_shapes: ``{input name: {axis: dimension name}}``; by default axis 0 of every
            input is the dynamic dimension ``batch``.
        other_inputs: instead of ``dynamic_shapes``, a second example call of other sizes. What
            differs is dynamic, and what differs alike everywhere is one dimension; so give each
            dimension sizes of its own.
        state: ``{input name: name of the output that replaces it in the next call}``, for what the
            model remembers: a key-value cache, LSTM state. See :mod:`edgekit.state`.
        calibration: a function returning a fresh iterable of feeds (``{input: array}``) that
            represent the data the model will see. It is read once a pass and never held in memory.
            Needed by the passes that quantize activations.
        evaluate: ``evaluate(predict) -> {metric: value}``, where ``predict(feeds) -> outputs``
            is any runtime. The same function judges PyTorch and every artifact.
        metric: which of the figures ``evaluate`` returns decides.
        labels: class names, one an output index, shipped with the bundle.
        pad: ``{input name: value}`` for inputs whose shorter ones the server may fill up with that
            value, to compute requests of several lengths together. The model must not let what
            is filled in change its other results, by a mask say.
        training: data and loss, for everything that trains or needs gradients.
        unlabelled: ``unlabelled(epoch)`` gives batches like those of :class:`Training` without
            labels, for a model to learn from the original on where there is no ``training``.
        finetune: ``finetune(model, epochs)`` trains the module in place; where it is given,
            plain fine-tuning uses it instead of ``training``.
        smaller: makes the workload of a smaller variant of the model (half the width, say),
            trained just as well: the honest alternative to compressing this one. It is measured
            beside.
    """

    name: str
    model: torch.nn.Module | Path
    example_inputs: Mapping[str, Any]
    calibration: Callable[[], Iterable[Feeds]] | None = None
    output_names: Sequence[str] = ()
    dynamic_shapes: Mapping[str, Mapping[int, str]] | None = None
    evaluate: Evaluate | None = None
    metric: Metric | None = None
    labels: Sequence[str] = ()
    training: Training | None = None
    unlabelled: Callable[[int], Iterable[Mapping[str, torch.Tensor]]] | None = None
    finetune: Callable[[torch.nn.Module, int], None] | None = None
    smaller: Callable[[], Workload] | None = None
    description: str = field(default="")
    state: Mapping[str, str] = field(default_factory=dict)
    pad: Mapping[str, float] = field(default_factory=dict)
    other_inputs: InitVar[Mapping[str, Any] | None] = None

    def __post_init__(self, other_inputs: Mapping[str, Any] | None) -> None:
        where = f"workload {self.name!r}"
        if not self.example_inputs:
            raise WorkloadError(
                "example_inputs is empty",
                where=where,
                fix="Give one example array for each input, {name: array}",
            )
        if (self.evaluate is None) != (self.metric is None):
            raise WorkloadError(
                "evaluate and metric must be given together",
                where=where,
                fix="Set metric=Metric('name') to one of the figures that evaluate returns",
            )
        if not isinstance(self.model, Path):
            from edgekit.flat_inputs import flat_inputs, output_names  # a device has no torch

            self.model, self.example_inputs = flat_inputs(self.model, self.example_inputs)
            self.output_names = self.output_names or output_names(self.model, self.example_inputs)
        if other_inputs is not None:
            if self.dynamic_shapes is not None:
                raise WorkloadError(
                    "has both dynamic_shapes and other_inputs",
                    where=where,
                    fix="Give one: names of dynamic axes, or a second example of other sizes",
                )
            self.dynamic_shapes = differing(self.example_inputs, leaves(dict(other_inputs)), where)
        self._require_known(self.dynamic_shapes or {}, "dynamic_shapes", self.example_inputs)
        self._require_known(self.state, "state", self.example_inputs)
        self._require_known(self.pad, "pad", self.example_inputs)
        if not isinstance(self.model, Path):
            self._require_known(dict.fromkeys(self.state.values()), "state", self.output_names)

    def _require_known(self, given: Iterable[str], what: str, known: Iterable[str]) -> None:
        for name in given:
            if name not in known:
                hint = did_you_mean(name, known)
                raise WorkloadError(
                    f"there is no {name!r}{hint}",
                    where=f"workload {self.name!r}, {what}",
                    fix=f"There are {', '.join(known)}",
                )

    @property
    def dynamic(self) -> dict[str, dict[int, str]]:
        """The dynamic axes of every input: declared, or axis 0 as ``batch``."""
        if self.dynamic_shapes is not None:
            return {name: dict(self.dynamic_shapes.get(name, {})) for name in self.example_inputs}
        return {name: {0: BATCH} for name in self.example_inputs}

    @property
    def growing(self) -> set[str]:
        """The dynamic dimensions that only state has: its length, 0 before the first call."""
        others = [axes for name, axes in self.dynamic.items() if name not in self.state]
        shared = {dim for axes in others for dim in axes.values()}
        return {dim for name in self.state for dim in self.dynamic[name].values()} - shared

    def feeds(self) -> Iterator[Feeds]:
        """The calibration batches, each value as a numpy array.

        Raises:
            CalibrationError: (while iterating) there is no calibration data.
            WorkloadError: (while iterating) the user's function raised, or gave something else.
        """
        where = f"workload {self.name!r}, calibration"
        if self.calibration is None:
            raise CalibrationError(
                "there is no calibration data",
                where=where,
                fix="Give it with --calib data.npz, or set calibration in the workload",
            )
        try:
            for batch in self.calibration():
                flat = leaves(dict(batch))
                yield {name: as_array(values) for name, values in flat.items()}
        except EdgekitError:
            raise
        except Exception as error:  # the user's own code
            raise _user_error(error, where) from error

    def score(self, predict: Predict) -> float:
        """Run :attr:`evaluate` with ``predict`` and pick the deciding metric.

        Raises:
            WorkloadError: ``evaluate`` raised, or returned no finite value of that name.
        """
        where = f"workload {self.name!r}, evaluate"
        if self.evaluate is None or self.metric is None:
            raise WorkloadError("no metric is defined", where=where, fix="Set evaluate and metric")
        try:
            figures = self.evaluate(predict)
        except EdgekitError:
            raise
        except Exception as error:  # the user's own code
            raise _user_error(error, where) from error
        value = figures.get(self.metric.name)
        if value is None or not math.isfinite(value):
            raise WorkloadError(
                f"returned {dict(figures)!r}, without a finite {self.metric.name!r}",
                where=where,
                fix=f"Return {{{self.metric.name!r}: value}}",
            )
        return float(value)


def _user_error(error: Exception, where: str) -> WorkloadError:
    return WorkloadError(
        f"raised {type(error).__name__}: {error}",
        where=where,
        fix="Mend that function; --debug shows the traceback",
    )
