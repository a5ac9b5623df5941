"""What became of one architecture on its way to the engines."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Self

import torch
from pydantic import Field
from torch import nn

from edgekit import exporters, runtimes
from edgekit.compress.modules import flat_tensors
from edgekit.errors import EdgekitError
from edgekit.exporters import ExportOptions, ShapeRange
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.torch_onnx import describe, export_onnx
from edgekit.fidelity import worst_sqnr
from edgekit.quiet import quiet
from edgekit.runtimes import SessionOptions
from edgekit.spec import BATCH, Feeds, Outputs
from edgekit.verify import GATES
from edgekit.zoo.check.checked import Checked, Checks
from edgekit.zoo.check.examples import example_inputs, family_of
from edgekit.zoo.check.small import small_model

__all__ = ["ENGINE", "RUNTIMES", "Outcome", "check"]

RUNTIMES = ("onnxruntime", "openvino")
#: What engines are built by; nothing here can run them.
ENGINE = "tensorrt-rtx"


class Outcome(Checked):
    """One architecture; its kind is its type in transformers.

    The family is text, vision, audio, time series or multimodal, by its inputs.

    Attributes:
        built: whether a small model of it ran; the others count for nothing.
        exported: whether edgekit exported it.
        dynamic: whether with a dynamic batch.
        plain: whether ``torch.onnx.export`` alone makes a file that ONNX Runtime runs right; None
            where it was not tried.
        engine: whether TensorRT-RTX builds an engine; None where it was not tried.
        sqnr_db: of the worst output, by runtime.
    """

    built: bool = False
    exported: bool = False
    dynamic: bool = False
    plain: bool | None = None
    engine: bool | None = None
    sqnr_db: dict[str, float] = Field(default_factory=dict)

    @classmethod
    def died(cls, kind: str, reason: str) -> Self:
        """See :meth:`Checked.died`; a small model of it was built."""
        return cls(kind=kind, built=True, reasons={"process": reason})

    @property
    def verified(self) -> bool:
        """Whether both runtimes compute what PyTorch does."""
        return all(self.sqnr_db.get(runtime, 0.0) >= GATES["fp32"] for runtime in RUNTIMES)


def check(kind: str, checks: Checks = Checks()) -> Outcome:  # noqa: B008, frozen
    """Build, export and verify one architecture; failures are told in the outcome."""
    outcome = Outcome(kind=kind)
    start = time.monotonic()
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            model = small_model(kind)
            inputs = example_inputs(model)
            wanted = _reference(model, inputs)
    except Exception as error:  # noqa: BLE001, transformers raises anything
        outcome.reasons["build"] = describe(error)
        return outcome
    outcome.built, outcome.family = True, family_of(inputs)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        folder = Path(scratch)
        graph = _export(outcome, model, inputs, wanted, folder)
        if graph is not None:
            feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
            _verify(outcome, graph, feeds, wanted, folder)
            if checks.gpu is not None:
                _build_engine(outcome, graph, feeds, folder, checks.gpu)
        if checks.plain:
            _plain(outcome, model, inputs, wanted, folder / "plain.onnx")
    outcome.seconds = round(time.monotonic() - start, 1)
    return outcome


def _reference(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Outputs:
    with torch.no_grad():
        made = flat_tensors(model(**inputs))
    return {name: tensor.numpy() for name, tensor in made.items()}


def _export(
    outcome: Outcome,
    model: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    wanted: Outputs,
    folder: Path,
) -> Path | None:
    """The graph with a dynamic batch, or without where that fails; None where both do."""
    for dynamic in ({name: {0: BATCH} for name in inputs}, {}):
        try:
            exported = export_onnx(
                model,
                inputs,
                folder / "exported.onnx",
                dynamic=dynamic,
                output_names=list(wanted),
                opset=exporters.opset_for((*RUNTIMES, ENGINE)),
            )
            graph = prepare_onnx(exported, folder / "model.onnx")
        except EdgekitError as error:
            outcome.reasons["export" if not dynamic else "dynamic export"] = describe(error)
            continue
        outcome.exported, outcome.dynamic = True, bool(dynamic)
        return graph
    return None


def _verify(outcome: Outcome, graph: Path, feeds: Feeds, wanted: Outputs, folder: Path) -> None:
    for runtime in RUNTIMES:
        try:
            outcome.sqnr_db[runtime] = _ran(runtime, graph, feeds, wanted, folder)
        except Exception as error:  # noqa: BLE001, engines raise anything
            outcome.reasons[runtime] = describe(error)


def _build_engine(outcome: Outcome, graph: Path, feeds: Feeds, folder: Path, gpu: str) -> None:
    """An engine for the shapes of the example."""
    shapes = {name: ShapeRange(a.shape, a.shape, a.shape) for name, a in feeds.items()}
    options = ExportOptions(gpu, shapes if outcome.dynamic else {})
    try:
        exporters.get(ENGINE).export(graph, folder / ENGINE, options)
        outcome.engine = True
    except EdgekitError as error:
        outcome.engine, outcome.reasons[ENGINE] = False, describe(error)


def _ran(runtime: str, graph: Path, feeds: Feeds, wanted: Outputs, folder: Path) -> float:
    """The SQNR of the worst output."""
    path = exporters.get(runtime).export(graph, folder / runtime, ExportOptions(None, {}))[0]
    with runtimes.get(runtime).load(path, SessionOptions(threads=1)) as session:
        return worst_sqnr(wanted, session.run(feeds))


def _plain(
    outcome: Outcome,
    model: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    wanted: Outputs,
    path: Path,
) -> None:
    """``torch.onnx.export`` as its documentation says, on ONNX Runtime as it comes."""
    outcome.plain = False
    try:
        with quiet():
            torch.onnx.export(model, (), path, kwargs=dict(inputs), dynamo=True)
        with runtimes.get("onnxruntime").load(path, SessionOptions(threads=1)) as session:
            names = [spec.name for spec in session.inputs]
            feeds = {name: inputs[name].numpy() for name in names}
            got = dict(zip(wanted, session.run(feeds).values(), strict=True))
        outcome.plain = worst_sqnr(wanted, got) >= GATES["fp32"]
    except Exception as error:  # noqa: BLE001, it raises anything
        outcome.reasons["torch.onnx.export"] = describe(error)
