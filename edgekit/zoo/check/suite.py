"""Check a suite in worker processes, so that a crash or a hang takes one thing along."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from edgekit import zoo
from edgekit.errors import ModelReferenceError
from edgekit.progress import Progress
from edgekit.zoo.check import coverage, model, outcome, passages
from edgekit.zoo.check.checked import Checked, Checks
from edgekit.zoo.check.journal import Journal

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["SUITES", "Suite", "chosen", "run_suite"]

#: Seconds that one of them may take.
_LIMIT = 600.0
#: Seconds to wait for the end of a process that was asked to end.
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Suite:
    """Things to check.

    Attributes:
        names: of all of them.
        check: checks one, in a process of its own.
        outcome: what that gives.
        show: prints outcomes.
        require: raises a :class:`~edgekit.errors.GateError` where too little works.
    """

    names: Callable[[], tuple[str, ...]]
    check: Callable[[str, Checks], Checked]
    outcome: type[Checked]
    show: Callable[[Sequence[Any], Console], None]
    require: Callable[[Sequence[Any]], None]


def _transformers() -> tuple[str, ...]:
    """Every base model that transformers has, in alphabetical order."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    return tuple(sorted(MODEL_MAPPING_NAMES))


SUITES = {
    "zoo": Suite(
        zoo.names,
        model.check_model,
        model.Passage,
        passages.print_passages,
        passages.require_passages,
    ),
    "transformers": Suite(
        _transformers,
        outcome.check,
        outcome.Outcome,
        coverage.print_coverage,
        coverage.require_coverage,
    ),
}


def chosen(suite: str, only: Sequence[str]) -> list[str]:
    """What of a suite has one of ``only`` in its name; all without any.

    Raises:
        ModelReferenceError: there is no such suite, or nothing in it matches.
    """
    if suite not in SUITES:
        raise ModelReferenceError(
            f"unknown suite {suite!r}", fix=f"Choose from {', '.join(SUITES)}"
        )
    kinds = SUITES[suite].names()
    found = [kind for kind in kinds if not only or any(part in kind for part in only)]
    if not found:
        raise ModelReferenceError(
            f"nothing has {' or '.join(only)} in its name",
            where=f"suite {suite}",
            fix=f"The first of {len(kinds)} are {', '.join(kinds[:10])}",
        )
    return found


def run_suite(
    suite: Suite,
    kinds: Sequence[str],
    checks: Checks,
    *,
    progress: Progress,
    journal: Journal | None = None,
    jobs: int = 1,
) -> list[Checked]:
    """Check what the journal does not hold yet.

    Args:
        suite: that they are of.
        kinds: their names.
        checks: what is tried.
        progress: told what is checked.
        journal: outcomes of a run before; new ones are added. None keeps nothing.
        jobs: processes at once.

    Returns:
        An outcome for each of ``kinds``, in their order.
    """
    outcomes = {} if journal is None else dict(journal.outcomes)
    waiting = deque(kind for kind in kinds if kind not in outcomes)
    total, lock = len(waiting), threading.Lock()

    def work() -> None:
        worker = _Worker(suite, checks)
        try:
            while True:
                with lock:
                    if not waiting:
                        return
                    kind = waiting.popleft()
                    progress.stage(f"{total - len(waiting)} of {total}: {kind}")
                found = worker.check(kind)
                with lock:
                    outcomes[kind] = found
                    if journal is not None:
                        journal.add(found)
        finally:
            worker.stop()

    with ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(work) for _ in range(jobs)]:
            done.result()
    return [outcomes[kind] for kind in kinds]


class _Worker:
    """A process that imports PyTorch once; started again where a check killed it."""

    def __init__(self, suite: Suite, checks: Checks) -> None:
        self._suite, self._checks = suite, checks
        self._context = multiprocessing.get_context("spawn")
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def check(self, kind: str) -> Checked:
        """The outcome; of one that kills the process or takes too long, that."""
        pipe = self._started()
        try:
            pipe.send((self._suite.check, kind, self._checks))
            if pipe.poll(_LIMIT):
                found: Checked = pipe.recv()
                return found
            reason = f"took over {_LIMIT:.0f} s"
        except (EOFError, OSError):
            reason = "the process died"
        self.stop()
        return self._suite.outcome.died(kind, reason)

    def _started(self) -> Connection:
        if self._pipe is None:
            self._pipe, theirs = self._context.Pipe()
            self._process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        return self._pipe

    def stop(self) -> None:
        """End the process, by force where it does not listen."""
        if self._process is not None and self._pipe is not None:
            with contextlib.suppress(OSError):  # it is dead already
                self._pipe.send(None)
            self._process.join(_PATIENCE)
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None


def _serve(pipe: Connection) -> None:
    import warnings

    import torch
    from transformers.utils import logging

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # the models are small, and there may be several processes
    logging.set_verbosity_error()
    while (asked := pipe.recv()) is not None:
        check, kind, checks = asked
        pipe.send(check(kind, checks))
