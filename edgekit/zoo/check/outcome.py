"""What became of one architecture on its way to the engines."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import torch
from torch import nn

from edgekit import exporters, runtimes
from edgekit.compress.modules import flat_tensors
from edgekit.errors import EdgekitError
from edgekit.exporters import ExportOptions
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.torch_onnx import describe, export_onnx
from edgekit.fidelity import worst_sqnr
from edgekit.quiet import quiet
from edgekit.runtimes import SessionOptions
from edgekit.spec import BATCH, Feeds, Outputs
from edgekit.verify import GATES
from edgekit.zoo.check.small import example_inputs, small_model

__all__ = ["RUNTIMES", "Outcome", "check"]

RUNTIMES = ("onnxruntime", "openvino")


@dataclass
class Outcome:
    """One architecture.

    Attributes:
        kind: its type in transformers.
        built: whether a small model of it ran; the others count for nothing.
        exported: whether edgekit exported it.
        dynamic: whether with a dynamic batch.
        plain: whether ``torch.onnx.export`` alone makes a file that ONNX Runtime runs right.
        sqnr_db: of the worst output, by runtime.
        reasons: what went wrong, by stage.
        seconds: how long all of it took.
    """

    kind: str
    built: bool = False
    exported: bool = False
    dynamic: bool = False
    plain: bool = False
    sqnr_db: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def verified(self) -> bool:
        """Whether both runtimes compute what PyTorch does."""
        return all(self.sqnr_db.get(runtime, 0.0) >= GATES["fp32"] for runtime in RUNTIMES)


def check(kind: str, *, plain: bool = True) -> Outcome:
    """Build, export and verify one architecture; failures are told in the outcome.

    Args:
        kind: its type in transformers.
        plain: try ``torch.onnx.export`` alone, too, to compare with.
    """
    outcome = Outcome(kind)
    start = time.monotonic()
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            model = small_model(kind)
            inputs = example_inputs(model)
            wanted = _reference(model, inputs)
    except Exception as error:  # noqa: BLE001, transformers raises anything
        outcome.reasons["build"] = describe(error)
        return outcome
    outcome.built = True
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        folder = Path(scratch)
        _export(outcome, model, inputs, wanted, folder)
        if plain:
            _plain(outcome, model, inputs, wanted, folder / "plain.onnx")
    outcome.seconds = time.monotonic() - start
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
) -> None:
    """With a dynamic batch, or without where that fails."""
    for dynamic in ({name: {0: BATCH} for name in inputs}, {}):
        try:
            exported = export_onnx(
                model,
                inputs,
                folder / "exported.onnx",
                dynamic=dynamic,
                output_names=list(wanted),
                opset=exporters.opset_for(RUNTIMES),
            )
            graph = prepare_onnx(exported, folder / "model.onnx")
        except EdgekitError as error:
            outcome.reasons["export" if not dynamic else "dynamic export"] = describe(error)
            continue
        outcome.exported, outcome.dynamic = True, bool(dynamic)
        feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
        for runtime in RUNTIMES:
            try:
                outcome.sqnr_db[runtime] = _ran(runtime, graph, feeds, wanted, folder)
            except Exception as error:  # noqa: BLE001, engines raise anything
                outcome.reasons[runtime] = describe(error)
        return


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
