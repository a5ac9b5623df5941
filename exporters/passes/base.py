"""The contract of a graph pass, and how passes are run: what cannot prove itself is undone.

A pass is one of onnx-ir's, or a :class:`Rewrite`: a function that edits a graph in place and
returns in how many places. It knows nothing of proofs; they are made around it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir
from edgekit.exporters.passes.proof import Proof, UnprovableError

__all__ = ["PassUndoneWarning", "Rewrite", "Undone", "apply", "prove", "rewrite", "warn_of_undone"]


class Rewrite(ir.passes.InPlacePass):
    """An edit of the main graph as a pass of onnx-ir.

    Args:
        name: what the user reads when it is undone.
        edit: changes a graph in place and returns in how many places.
    """

    def __init__(self, name: str, edit: Callable[[ir.Graph], int]) -> None:
        self.name = name
        self._edit = edit

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=self._edit(model.graph) > 0)


@dataclass(frozen=True, slots=True)
class Undone:
    """A pass whose result was taken back.

    Attributes:
        step: the pass, empty when it was all of them.
        why: from which node on the results differ and by how much, or what kept the graph from
            being run.
    """

    step: str
    why: str

    def __str__(self) -> str:
        what = f"Graph pass {self.step} was undone" if self.step else "Graph passes were left out"
        return f"{what}: {self.why}."


class PassUndoneWarning(UserWarning):
    """A graph pass did not keep a result; the graph is right without it."""


def warn_of_undone(what: str) -> None:
    """Tell as a Python warning, where nobody else is there to be told."""
    warnings.warn(what, PassUndoneWarning, stacklevel=3)


def apply(model: ir.Model, passes: Sequence[ir.passes.PassBase]) -> ir.Model:
    """A copy of the model (tensors are shared) after these passes."""
    changed = model.clone()
    for step in passes:
        changed = step(changed).model
    return changed


def rewrite(
    model: ir.Model,
    passes: Sequence[ir.passes.PassBase],
    told: Callable[[str], None] | None,
    form: Sequence[ir.passes.PassBase] = (),
) -> ir.Model:
    """A copy of the model after passes that proved themselves.

    Args:
        model: left as it is.
        passes: in order.
        told: hears of what was undone, and of a graph that cannot be run, so that all passes are
            left out. None where the graph is only timed: nothing is proven then.
        form: passes before the others that only say the same in one way; they are made even where
            nothing can be proven.
    """
    steps = (*form, *passes)
    if told is None:
        return apply(model, steps)
    try:
        changed, undone = prove(model, steps)
    except UnprovableError as error:
        changed, undone = apply(model, form), (Undone("", str(error)),)
    for one in undone:
        told(str(one))
    return changed


def prove(
    model: ir.Model, passes: Sequence[ir.passes.PassBase]
) -> tuple[ir.Model, tuple[Undone, ...]]:
    """Run passes and keep those after which the graph computes what it computed before.

    All are proven together, by one comparison on random inputs. Only when that fails is each one
    compared alone, and undone when it is to blame.

    Returns:
        A changed copy of the model, and what is not in it.

    Raises:
        UnprovableError: the graph cannot be run.
    """
    proof = Proof(model)
    changed = apply(model, passes)
    return (changed, ()) if proof.error(changed) is None else _one_by_one(proof, model, passes)


def _one_by_one(
    proof: Proof, model: ir.Model, passes: Sequence[ir.passes.PassBase]
) -> tuple[ir.Model, tuple[Undone, ...]]:
    undone: dict[Undone, None] = {}
    for step in passes:
        changed = apply(model, [step])
        error = proof.error(changed)
        if error is None:
            model = changed
        else:
            name = step.name if isinstance(step, Rewrite) else type(step).__name__
            where = proof.place(model, changed)
            undone[Undone(name, f"from node {where!r} on, {error}" if where else error)] = None
    return model, tuple(undone)
