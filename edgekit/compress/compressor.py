"""Run the passes of a recipe on a graph, for one engine after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
from onnx_ir.passes import common

from edgekit.calibration import CalibrationTable, Calibrator
from edgekit.compress.base import GraphContext, GraphPass, Learned, PassReport
from edgekit.compress.quantize.placement import plan
from edgekit.compress.quantize.profiles import PROFILES
from edgekit.compress.quantize.ptq import Int8Ptq
from edgekit.errors import CompressError
from edgekit.exporters.graph import INFERENCE_PRECISION
from edgekit.exporters.passes.fold_constants import fold_constants
from edgekit.exporters.save import save_onnx
from edgekit.numerics import InstructionSet
from edgekit.spec import Feeds

__all__ = ["Compressor"]


class Compressor:
    """Applies the graph passes of a recipe.

    Passes that do not depend on the engine run once; from the first one that does, every engine
    has a graph of its own.

    Args:
        model: the float ONNX file.
        passes: in order.
        engines: the runtimes to compress for, names of placement profiles.
        calibrator: runs graphs over the calibration data.
        target: the instruction set that the artifacts will run on.
        learned: see :class:`~edgekit.compress.base.GraphContext`.

    Attributes:
        source: the float ONNX file.
        target: the instruction set that the artifacts will run on.
        table: the calibration table, once a pass has made one.
        notes: what the passes did, one line each.
    """

    def __init__(
        self,
        model: Path,
        passes: Sequence[GraphPass],
        engines: Sequence[str],
        calibrator: Calibrator,
        target: InstructionSet,
        learned: Mapping[str, Learned] | None = None,
    ) -> None:
        self._passes = list(passes)
        self._engines = [PROFILES[name] for name in engines]
        self._calibrator = calibrator
        self.target = target
        self._learned = learned or {}
        self._shared: ir.Model | None = None
        self._shared_changed = False
        self.source = model
        self._memos: dict[str, dict[str, Any]] = {}
        self._ready: dict[tuple[str, frozenset[str]], Path] = {}
        self.table: CalibrationTable | None = None
        self.notes: list[str] = []

    def precision_for(self, engine: str) -> str:
        """The label of what comes out for one engine."""
        steps = [step for step in self._passes if step.suits(PROFILES[engine])]
        labels = [label for step in steps if (label := step.label) is not None]
        return "-".join(dict.fromkeys(labels)) or "fp32"

    def units(self, engine: str) -> list[ir.Node]:
        """The operators of the shared graph that the engine could run quantized, in order."""
        return [chosen.node for chosen in plan(self._common(), PROFILES[engine]).nodes]

    def batches(self, samples: int) -> Iterator[Feeds]:
        """Calibration batches of that many samples."""
        return self._calibrator.batches(samples)

    def build(
        self,
        engine: str,
        path: Path,
        keep_float: frozenset[str] = frozenset(),
        *,
        half: str | None = None,
        note: bool = True,
    ) -> bool:
        """Write the compressed graph for one engine.

        Args:
            engine: name of its placement profile.
            path: the ONNX file to write.
            keep_float: operators that stay float.
            half: half precision that the float operators shall compute in, if any.
            note: add what happened to :attr:`notes`.

        Returns:
            Whether any pass changed anything; if not, nothing is written.

        Raises:
            EdgekitError: a pass cannot be applied, or the calibration data is bad.
        """
        ready = self._ready.get((engine, keep_float))
        if ready is not None and ready.is_file():
            _ask_for(half, ready, path)
            return True
        model = self._common().clone()
        changed = self._shared_changed
        for step in self._passes:
            if step.per_engine and step.suits(PROFILES[engine]):
                report = step.apply(model, self._context(engine, keep_float))
                changed = changed or report.changed > 0
                self.table = report.table or self.table
                if note:
                    self._tell(engine, report)
        if changed:
            common.RemoveUnusedNodesPass()(model)
            save_onnx(model, path)
            self._ready[engine, keep_float] = path
            _ask_for(half, path, path)
        return changed

    def switchable(self, engine: str, path: Path) -> list[str]:
        """Write a graph in which each int8 operator can be switched to float at run time.

        Returns:
            Names of the operators in the order of the switches.

        Raises:
            CompressError: no pass of the recipe quantizes statically to int8.
        """
        step = next((one for one in self._passes if isinstance(one, Int8Ptq)), None)
        if step is None:
            raise CompressError(
                "search needs an int8-ptq pass", where="recipe", fix="Add one, or leave search out"
            )
        model = self._common().clone()
        names = step.make_switchable(model, self._context(engine, frozenset()))
        save_onnx(model, path)
        return names

    def half_for(self, engine: str) -> str | None:
        """The half precision that float operators beside int8 ones gain from, if any."""
        profile = PROFILES[engine]
        takes = profile.half_form == "hint" and "bf16" in profile.half
        static = any(isinstance(step, Int8Ptq) for step in self._passes)
        return "bf16" if takes and self.target.bf16 and static else None

    def _common(self) -> ir.Model:
        """The float graph after the passes that are the same for every engine."""
        if self._shared is None:
            self._shared = ir.load(self.source)
            fold_constants(self._shared.graph)  # tied weights are quantized for each reader
            for step in self._passes:
                if not step.per_engine:
                    context = self._context(self._engines[0].name, frozenset())
                    report = step.apply(self._shared, context)
                    self._shared_changed = self._shared_changed or report.changed > 0
                    self._tell("all engines", report)
        return self._shared

    def _context(self, engine: str, keep_float: frozenset[str]) -> GraphContext:
        return GraphContext(
            profile=PROFILES[engine],
            profiles=tuple(self._engines),
            calibrator=self._calibrator,
            target=self.target,
            keep_float=keep_float,
            learned=self._learned,
            memo=self._memos.setdefault(engine, {}),
        )

    def _tell(self, engine: str, report: PassReport) -> None:
        head = f"{engine}: {report.name} changed {report.changed} of {report.total} operators"
        self.notes.append(". ".join([head, *report.details]) + ".")


def _ask_for(half: str | None, source: Path, path: Path) -> None:
    """Copy a graph with the wish for half precision added (or taken away)."""
    if half is None and source == path:
        return  # it was saved without the wish
    model = ir.load(source)
    if half is not None:
        model.metadata_props[INFERENCE_PRECISION] = half
    else:
        model.metadata_props.pop(INFERENCE_PRECISION, None)
    save_onnx(model, path)
