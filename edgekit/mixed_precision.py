"""Search, engine by engine, which operators of an int8 artifact stay float.

Scores and latencies are those of real artifacts on their engine, a latency interleaved with the one
it has to beat. Only the order in which operators are tried comes from a simulation: one switchable
graph tells what quantizing each of them alone does to the outputs.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgekit import runtimes
from edgekit.build import Builder
from edgekit.built import Built
from edgekit.compress.base import Measured
from edgekit.compress.compressor import Compressor
from edgekit.compress.quantize.switchable import SWITCHES
from edgekit.compress.recipe import Recipe, Search
from edgekit.compress.search.accuracy import fewest_float
from edgekit.compress.search.journal import Journal, Trial
from edgekit.compress.search.latency import group_units, leave_what_does_not_pay
from edgekit.errors import EdgekitError
from edgekit.machine import resident
from edgekit.profile.runner import Timed, profile_interleaved
from edgekit.profile.stats import compare
from edgekit.progress import Progress
from edgekit.runtimes import Session, SessionOptions
from edgekit.spec import Array, Feeds, Outputs
from edgekit.targets import Target
from edgekit.workload import Workload

__all__ = ["MixedPrecision", "fingerprint"]

_SENSITIVITY_SAMPLES = 16
#: So many sensitive operators are named in the notes.
_TOLD = 5
#: Trials that stay on disk: the best so far and the latest.
_KEPT = 3
_ROUNDS, _ROUND_SECONDS = (15, 200), 1.5


def fingerprint(model: Path, recipe: Recipe, workload: Workload, *others: str) -> str:
    """What a journal belongs to: the same graph, recipe, metric, and whatever ``others`` name."""
    digest = hashlib.sha256(model.read_bytes())
    digest.update(recipe.model_dump_json(by_alias=True).encode())
    digest.update("\n".join((workload.name, *others)).encode())
    return digest.hexdigest()


class MixedPrecision:
    """Finds the operators to leave float for one target after the other.

    Args:
        workload: judges accuracy, when it has an ``evaluate``.
        builder: builds the artifacts.
        compressor: applies the recipe.
        search: what to search for, and how long.
        max_drop: the budget of the metric.
        sample: one sample to time inferences with.
        threads: of every session.
        journal: written and read by every trial.
        folder: where trials are built; whoever gave it removes it.
        progress: told what is going on.
    """

    def __init__(
        self,
        workload: Workload,
        builder: Builder,
        compressor: Compressor,
        search: Search,
        *,
        max_drop: float,
        sample: Feeds,
        threads: int,
        journal: Journal,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._workload = workload
        self._builder = builder
        self._compressor = compressor
        self._search = search
        self._max_drop = max_drop
        self._sample = sample
        self._threads = threads
        self._journal = journal
        self._progress = progress
        self._deadline = 0.0
        self._half: str | None = None
        self._folder = folder
        self._built: dict[tuple[str, str | None, frozenset[str]], tuple[Path, Path | None]] = {}

    def run(self, target: Target, reference_score: float | None) -> Built | None:
        """The artifact with the operators that this search leaves float; None when it finds none.

        Args:
            target: what to search for; its runtime has to be usable here.
            reference_score: the metric of the original, None when there is no metric.
        """
        self._deadline = time.monotonic() + self._search.seconds
        self._half = self._compressor.half_for(target.runtime)
        keep: frozenset[str] = frozenset()
        if self._search.latency:
            self._progress.stage(f"Search for speed on {target.runtime}")
            keep = self._by_latency(target)
        if self._search.accuracy and reference_score is not None:
            # Accuracy control has a time of its own: a slow search for speed must not starve it.
            self._deadline = time.monotonic() + self._search.seconds
            self._progress.stage(f"Search for accuracy on {target.runtime}")
            keep = self._by_accuracy(target, keep, reference_score)
        quantized = {str(node.name) for node in self._compressor.units(target.runtime)}
        if not keep or keep >= quantized:
            return None
        self._time_choice(target, keep)
        return self._builder.variant(
            self._compressor, target, keep, half=self._half, suffix="mixed"
        )

    def _time_choice(self, target: Target, keep: frozenset[str]) -> None:
        """Without a speed, what accuracy control chose could not be compared with the rest."""
        asked = Trial(engine=target.runtime, kind="measured", keep_float=tuple(sorted(keep)))
        same = [t for t in self._journal.trials if t.key[:3] == asked.key[:3]]
        if any(trial.speedup is not None for trial in same):
            return
        score = next((trial.score for trial in same if trial.score is not None), None)
        asked = asked.model_copy(update={"score": score, "note": "chosen for its score"})
        self._journal.add(self._timed(target, asked, keep, frozenset(), 1.0))

    def _out(self) -> bool:
        limit = self._search.memory_mb
        return time.monotonic() > self._deadline or (limit is not None and resident() > limit * 1e6)

    def _by_latency(self, target: Target) -> frozenset[str]:
        groups = group_units(self._compressor.units(target.runtime))
        speeds: dict[frozenset[str], float] = {frozenset(): 1.0}

        def measure(candidate: frozenset[str], best: frozenset[str], label: str) -> Measured | None:
            self._progress.update(label)
            asked = Trial(
                engine=target.runtime,
                kind="measured",
                keep_float=tuple(sorted(candidate)),
                note=f"{label} in float",
            )
            known = self._journal.find(asked)
            if known is None:
                known = self._journal.add(self._timed(target, asked, candidate, best, speeds[best]))
            if known.speedup is None or known.low is None:
                return None
            speeds[candidate] = known.speedup
            return Measured(known.speedup / speeds[best], known.low)

        return leave_what_does_not_pay(groups, measure, self._out)

    def _timed(
        self,
        target: Target,
        asked: Trial,
        candidate: frozenset[str],
        best: frozenset[str],
        speed: float,
    ) -> Trial:
        """Time the candidate against the best so far."""
        with self._session(target, best) as slow, self._session(target, candidate) as fast:
            if slow is None or fast is None:
                return asked.model_copy(update={"note": f"{asked.note}: cannot be built"})
            entries = [
                Timed("best", target.runtime, slow), Timed("candidate", target.runtime, fast)
            ]  # fmt: skip
            before, after = profile_interleaved(
                entries,
                self._sample,
                threads=self._threads,
                min_rounds=_ROUNDS[0],
                max_rounds=_ROUNDS[1],
                max_seconds=_ROUND_SECONDS,
                warmup=5,
            )
        found = compare(before, after)
        return asked.model_copy(update={"speedup": found.ratio * speed, "low": found.low})

    def _by_accuracy(
        self, target: Target, keep: frozenset[str], reference_score: float
    ) -> frozenset[str]:
        metric = self._workload.metric
        assert metric is not None

        def inside(floats: frozenset[str]) -> bool:
            score = self._score(target, keep | floats)
            return score is None or metric.within(reference_score, score, self._max_drop)

        if inside(frozenset()):
            return keep
        if self._half is not None:  # what is left float has to be exact, or it restores little
            self._half = None
            if inside(frozenset()):
                return keep
        with self._switched(target) as (names, run):
            noise = _sensitivity(names, run, self._samples())
        self._tell_sensitivity(target, noise)
        ranked = [name for name in sorted(names, key=lambda n: -noise[n]) if name not in keep]
        found, held = fewest_float(ranked, inside, self._out)
        return keep | found if held else self._best_scoring(target, keep | found)

    def _tell_sensitivity(self, target: Target, noise: dict[str, float]) -> None:
        worst = sorted(noise, key=lambda name: -noise[name])[:_TOLD]
        told = ", ".join(f"{n} {-10 * math.log10(max(noise[n], 1e-30)):.1f} dB" for n in worst)
        self._compressor.notes.append(
            f"{target.runtime}: most sensitive operators, by the SQNR of the outputs when each "
            f"alone is quantized: {told}."
        )

    def _best_scoring(self, target: Target, otherwise: frozenset[str]) -> frozenset[str]:
        """Time ran out before the budget held: the operators that were float in the best trial."""
        metric = self._workload.metric
        assert metric is not None
        scored = [
            (t.score, t.keep_float)
            for t in self._journal.trials
            if t.engine == target.runtime and t.score is not None
        ]
        if not scored:
            return otherwise
        _, best = min(scored, key=lambda one: (metric.drop(0.0, one[0]), len(one[1])))
        return frozenset(best)

    def _score(self, target: Target, keep: frozenset[str]) -> float | None:
        """The metric of the artifact; None when nothing is quantized in it: it is the original."""
        asked = Trial(
            engine=target.runtime,
            kind="measured",
            keep_float=tuple(sorted(keep)),
            note=f"score in {self._half}" if self._half else "score",
        )
        known = self._journal.find(asked)
        if known is None or known.score is None:
            with self._session(target, keep) as session:
                if session is None:
                    return None
                score = self._workload.score(session.run)
            known = self._journal.add(asked.model_copy(update={"score": score}))
        self._progress.update(f"{len(keep)} operators float: {known.score:.4f}")
        assert known.score is not None
        return known.score

    def _samples(self) -> list[Feeds]:
        return list(self._compressor.batches(_SENSITIVITY_SAMPLES))

    @contextmanager
    def _session(self, target: Target, keep: frozenset[str]) -> Iterator[Session | None]:
        """The artifact with these operators float; the last few are kept on disk for a while."""
        path = self._artifact(target, keep)
        if path is None:
            yield None
            return
        options = SessionOptions(threads=self._threads)
        with runtimes.require(target.runtime).load(path, options) as session:
            yield session

    def _artifact(self, target: Target, keep: frozenset[str]) -> Path | None:
        key = (target.runtime, self._half, keep)
        if key not in self._built:
            folder = Path(tempfile.mkdtemp(prefix="trial-", dir=self._folder))
            path = self._builder.trial(self._compressor, target, keep, folder, half=self._half)
            self._built[key] = (folder, path)
            if len(self._built) > _KEPT:
                shutil.rmtree(self._built.pop(next(iter(self._built)))[0])
        else:  # the most recently used go last
            self._built[key] = self._built.pop(key)
        return self._built[key][1]

    @contextmanager
    def _switched(
        self, target: Target
    ) -> Iterator[tuple[list[str], Callable[[Feeds, Array], Outputs]]]:
        with tempfile.TemporaryDirectory(prefix="edgekit-trial-") as folder:
            path = Path(folder) / "switchable.onnx"
            names = self._compressor.switchable(target.runtime, path)
            session = runtimes.require("onnxruntime").load(path)
        with session:
            yield names, lambda feeds, switches: session.run({**feeds, SWITCHES: switches})


def _sensitivity(
    names: Sequence[str], run: Callable[[Feeds, Array], Outputs], samples: Sequence[Feeds]
) -> dict[str, float]:
    """For each operator the relative squared error of the outputs when it alone is quantized."""
    nothing = np.zeros(len(names), dtype=bool)
    wanted = [run(feeds, nothing) for feeds in samples]
    noise = {}
    for index, name in enumerate(names):
        switches = nothing.copy()
        switches[index] = True
        errors = [
            _relative_error(exact, run(feeds, switches))
            for feeds, exact in zip(samples, wanted, strict=True)
        ]
        noise[name] = sum(errors) / len(errors)
    return noise


def _relative_error(wanted: Outputs, got: Outputs) -> float:
    total = 0.0
    for name, exact in wanted.items():
        power = float(np.square(exact, dtype=np.float64).sum())
        error = float(np.square(exact - got[name], dtype=np.float64).sum())
        if not np.isfinite(error):
            raise EdgekitError(
                "quantizing one operator makes the model compute NaN or infinity",
                where=f"output {name!r}",
                fix="Leave accuracy control out of the recipe, or calibrate with other data",
            )
        total += error / max(power, 1e-30)
    return total
