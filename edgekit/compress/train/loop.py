"""The one training loop of every pass that learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from torch import nn

from edgekit.compress.base import ModuleContext
from edgekit.compress.modules import require_finite, require_training
from edgekit.compress.sparse.zeros import hold_zeros
from edgekit.compress.train.run import FineTuned, Run, Stateful
from edgekit.compress.train.settings import FineTune
from edgekit.errors import EdgekitError, WorkloadError
from edgekit.workload import Workload

__all__ = ["FineTuned", "Stateful", "blaming", "finetune"]


def finetune(
    workload: Workload,
    model: nn.Module,
    settings: FineTune,
    context: ModuleContext,
    *,
    label: str,
    after_step: Callable[[int, int], None] | None = None,
    keep_zeros: bool = True,
) -> FineTuned:
    """Train ``model`` in place; it is in eval mode afterwards, and nothing else is changed.

    With ``context.folder`` a training that was killed goes on where it was, to the bit, when it is
    started again with the same model, data, settings and seed.

    Weights that an earlier pass made sparse stay so, see :func:`~..sparse.zeros.hold_zeros`.

    Args:
        workload: its ``finetune`` if it has one, else its ``training``. To distill: its
            ``training``, else its calibration data.
        model: a changed copy of the workload's model.
        settings: how long, how fast, from whom.
        context: teacher, seed, progress, and where checkpoints are kept.
        label: what it is for, in progress, errors and names of checkpoints.
        after_step: ``after_step(step, steps)`` is called after each step of the optimizer, to keep
            masks and the like; see :class:`Stateful`. It needs ``training``, or to distill.
        keep_zeros: False where ``after_step`` itself says which weights are zero.

    Raises:
        WorkloadError: the workload cannot train, its function raised, or training diverged.
        OutputError: a checkpoint cannot be written.
    """
    if settings.epochs == 0:
        model.eval()
        return FineTuned()
    where = f"workload {workload.name!r}, {label}"
    with hold_zeros(model) if keep_zeros else nullcontext():
        done = _trained(workload, model, settings, context, label, after_step, where)
    model.eval()
    require_finite(model, where)
    return done


def _trained(
    workload: Workload,
    model: nn.Module,
    settings: FineTune,
    context: ModuleContext,
    label: str,
    after_step: Callable[[int, int], None] | None,
    where: str,
) -> FineTuned:
    if settings.distill is None:
        require_training(workload, label)
        if workload.finetune is not None and (after_step is None or workload.training is None):
            if after_step is not None:
                raise WorkloadError(
                    "has only finetune, which cannot be interrupted between its steps",
                    where=where,
                    fix="Set training=Training(batches, loss)",
                )
            with blaming(f"{where}, finetune"):
                workload.finetune(model, settings.epochs)
            return FineTuned(epochs=settings.epochs)
    with blaming(f"{where}, training"):
        return Run(workload, model, settings, context, label, after_step).run()


@contextmanager
def blaming(where: str) -> Iterator[None]:
    """Training runs the user's functions: say that it was there."""
    try:
        yield
    except EdgekitError:
        raise
    except Exception as error:  # the user's own code
        raise WorkloadError(
            f"raised {type(error).__name__}: {error}",
            where=where,
            fix="Mend that function; --debug shows the traceback",
        ) from error
