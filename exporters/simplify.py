"""What ``torch.onnx.export`` does to the graph that it wrote, mended where that is wrong.

Its optimizer, onnxscript's, takes an addend of up to 1e-8 for zero and a factor within 1e-5 of one
for one. So the ``x + 1e-12`` under the root of a normalization was lost, and a row of zeros became
NaN. Here all of its rules run but these. Others give two constants one name, and one got lost.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from edgekit.exporters.graph import unused_name
from onnx_ir.passes import common
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.pattern import Constant, RewriteRule
from onnxscript.rewriter.rules.common import _no_op

__all__ = ["simplify_converted"]

#: Rounds of folding and rewriting: one uncovers what the next can do.
_ROUNDS = 2


def _rules() -> list[RewriteRule]:
    """The default rules, and those that compare a constant with 0 or 1 exactly."""

    def same(op: Any, x: ir.Value) -> Any:
        return op.Identity(x)

    zero, one = (Constant(value, rel_tol=0.0, abs_tol=0.0) for value in (0, 1))
    exact = (
        *RewriteRule(lambda op, x: op.Add(x, zero), same).commute(),
        *RewriteRule(lambda op, x: op.Mul(x, one), same).commute(),
        RewriteRule(lambda op, x: op.Sub(x, zero), same),
        RewriteRule(lambda op, x: op.Div(x, one), same),
    )
    inexact = list(_no_op.rules)
    # There is no public name for them.
    kept = (rule for rule in rewriter._DEFAULT_REWRITE_RULES if rule not in inexact)  # noqa: SLF001
    return [*exact, *kept]


def simplify_converted(model: ir.Model) -> None:
    """Inline functions, fold constants, remove what changes nothing, in place."""
    rounds = ir.passes.PassManager(
        [
            _Fold(),
            rewriter.RewritePass(_rules()),
            _KeepConstants(),
            common.RemoveUnusedNodesPass(),
        ],
        steps=_ROUNDS,
    )
    for step in (
        common.InlinePass(),
        rounds,
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
    ):
        step(model)


class _Fold(ir.passes.InPlacePass):
    """Compute what depends on constants only, with the shapes known by then."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        folded: ir.passes.PassResult = optimizer.fold_constants_ir(model, onnx_shape_inference=True)
        return folded


class _KeepConstants(ir.passes.InPlacePass):
    """Give constants that nodes read but the graph has lost, to another of their name, their own.

    Rules that make Clip of Min and Max call the limits after the tensor, every time it is clipped.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        nodes = ir.traversal.RecursiveGraphIterator(model.graph)
        read = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None)
        lost = [
            value
            for value in read
            if value.const_value is not None
            and value.producer() is None
            and not value.is_initializer()
        ]
        for value in lost:
            value.name = unused_name(model.graph.initializers, str(value.name))
            model.graph.initializers[value.name] = value
        return ir.passes.PassResult(model, bool(lost))
