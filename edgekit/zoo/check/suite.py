"""Check a suite in worker processes, so that a crash or a hang takes one architecture along."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

from edgekit.errors import ModelReferenceError
from edgekit.progress import Progress
from edgekit.zoo.check.journal import Journal
from edgekit.zoo.check.outcome import Checks, Outcome, check

__all__ = ["SUITES", "chosen", "run_suite"]

#: Seconds that one architecture may take.
_LIMIT = 600.0
#: Seconds to wait for the end of a process that was asked to end.
_PATIENCE = 5.0


def _transformers() -> tuple[str, ...]:
    """Every base model that transformers has, in alphabetical order."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    return tuple(sorted(MODEL_MAPPING_NAMES))


SUITES: dict[str, Callable[[], tuple[str, ...]]] = {"transformers": _transformers}


def chosen(suite: str, only: Sequence[str]) -> list[str]:
    """The architectures of a suite that have one of ``only`` in their name; all without any.

    Raises:
        ModelReferenceError: there is no such suite, or nothing in it matches.
    """
    if suite not in SUITES:
        raise ModelReferenceError(
            f"unknown suite {suite!r}", fix=f"Choose from {', '.join(SUITES)}"
        )
    kinds = SUITES[suite]()
    found = [kind for kind in kinds if not only or any(part in kind for part in only)]
    if not found:
        raise ModelReferenceError(
            f"no architecture has {' or '.join(only)} in its name",
            where=f"suite {suite}",
            fix=f"The first of {len(kinds)} are {', '.join(kinds[:10])}",
        )
    return found


def run_suite(
    kinds: Sequence[str],
    checks: Checks,
    *,
    progress: Progress,
    journal: Journal | None = None,
    jobs: int = 1,
) -> list[Outcome]:
    """Check the architectures that the journal does not hold yet.

    Args:
        kinds: types in transformers.
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
        worker = _Worker(checks)
        try:
            while True:
                with lock:
                    if not waiting:
                        return
                    kind = waiting.popleft()
                    progress.stage(f"{total - len(waiting)} of {total}: {kind}")
                outcome = worker.check(kind)
                with lock:
                    outcomes[kind] = outcome
                    if journal is not None:
                        journal.add(outcome)
        finally:
            worker.stop()

    with ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(work) for _ in range(jobs)]:
            done.result()
    return [outcomes[kind] for kind in kinds]


class _Worker:
    """A process that imports PyTorch once; started again where an architecture killed it."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._context = multiprocessing.get_context("spawn")
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def check(self, kind: str) -> Outcome:
        """The outcome; of one that kills the process or takes too long, that."""
        pipe = self._started()
        try:
            pipe.send((kind, self._checks))
            if pipe.poll(_LIMIT):
                outcome: Outcome = pipe.recv()
                return outcome
            reason = f"took over {_LIMIT:.0f} s"
        except (EOFError, OSError):
            reason = "the process died"
        self.stop()
        return Outcome(kind=kind, built=True, reasons={"process": reason})

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
        pipe.send(check(*asked))
