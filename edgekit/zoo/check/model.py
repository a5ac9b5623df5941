"""The whole way of one model of the zoo: compressed, exported, verified, judged and served."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from pydantic import Field

from edgekit import zoo
from edgekit.bundle import Bundle
from edgekit.client import Client
from edgekit.compress.recipe import load_recipe
from edgekit.errors import EdgekitError
from edgekit.exporters.torch_onnx import describe
from edgekit.fidelity import worst_sqnr
from edgekit.manifest import REFERENCE, Manifest
from edgekit.pipeline import Timing, make_bundle
from edgekit.targets import parse_targets
from edgekit.verify import GATES, Reference
from edgekit.workload import Metric
from edgekit.zoo._entry import Entry
from edgekit.zoo.check.checked import Checked, Checks

__all__ = ["Passage", "check_model"]

#: Enough to tell which artifact is faster; a figure for a report takes longer.
_TIMING = Timing(rounds=(5, 50), seconds=2)


class Passage(Checked):
    """One model of the zoo; its kind is its name.

    Attributes:
        metric: what it is judged by.
        better: the direction of "better": ``higher`` or ``lower``.
        bar: what its metric is in float32 at least, or at most.
        score: its metric in float32.
        max_drop: how much of it an artifact may lose.
        scores: by artifact.
        selected: what each runtime gets, and why.
        verified: whether every artifact that is selected passed its gate.
        engine: whether TensorRT-RTX built what it was to; None where nothing was.
        served_db: how close the answer of a server came to the original's, over HTTP.
    """

    metric: str = ""
    better: str = "higher"
    bar: float = 0.0
    score: float | None = None
    max_drop: float = 0.0
    scores: dict[str, float] = Field(default_factory=dict)
    selected: dict[str, str] = Field(default_factory=dict)
    verified: bool = False
    engine: bool | None = None
    served_db: float | None = None

    @property
    def judge(self) -> Metric:
        """What compares two scores."""
        return Metric(self.metric, higher_is_better=self.better == "higher")

    @property
    def learned(self) -> bool:
        """Whether it clears its bar in float32."""
        return self.score is not None and self.judge.within(self.bar, self.score, 0.0)

    @property
    def passed(self) -> bool:
        """Whether all of it worked."""
        return not self.reasons and self.learned and self.verified and self.engine is not False


def check_model(name: str, checks: Checks = Checks()) -> Passage:  # noqa: B008, frozen
    """Take one model the whole way; failures are told in the outcome."""
    found = Passage(kind=name)
    start = time.monotonic()
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            entry = zoo.entry(name)
            found.family, found.bar = entry.family, entry.bar
            with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
                _pass(found, entry, Path(scratch), checks)
    except Exception as error:  # noqa: BLE001, one failure is not to end the suite
        found.reasons["compress" if isinstance(error, EdgekitError) else "crash"] = describe(error)
    found.seconds = round(time.monotonic() - start, 1)
    return found


def _pass(found: Passage, entry: Entry, folder: Path, checks: Checks) -> None:
    bundle = make_bundle(
        entry.workload(),
        folder / f"{entry.name}.edge",
        recipe=load_recipe(entry.recipe),
        targets=parse_targets([], checks.gpu),
        timing=_TIMING,
    )
    _note(found, bundle.manifest)
    if checks.gpu is not None:
        kinds = {artifact.format for artifact in bundle.manifest.artifacts}
        found.engine = "tensorrt-engine" in kinds
    found.served_db = _served(bundle)
    precision = bundle.selected("onnxruntime").precision
    if found.served_db < GATES[precision]:
        found.reasons["serve"] = f"answers differ by {found.served_db:.0f} dB from the original's"


def _note(found: Passage, manifest: Manifest) -> None:
    accuracy = manifest.accuracy
    assert accuracy is not None
    found.metric, found.score, found.max_drop = (
        accuracy.metric, accuracy.reference, accuracy.max_drop,
    )  # fmt: skip
    found.better = "higher" if accuracy.higher_is_better else "lower"
    found.scores = dict(accuracy.artifacts)
    found.selected = {one.runtime: f"{one.selected}: {one.reason}" for one in manifest.decisions}
    passed = {one.artifact for one in manifest.verification if one.passed}
    found.verified = manifest.selected <= passed
    for artifact in manifest.selected & found.scores.keys():
        if not found.judge.within(accuracy.reference, found.scores[artifact], accuracy.max_drop):
            found.reasons[artifact] = f"{found.metric} is {found.scores[artifact]:.4g}"


def _served(bundle: Bundle) -> float:
    """Ask a server for a stored sample; the SQNR of its answer."""
    reference = Reference.load(bundle.path / REFERENCE)
    command = [sys.executable, "-m", "edgekit", "serve", str(bundle.path), "--port", "0"]
    command += ["--runtime", "onnxruntime"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            greeting = server.stderr.readline()
            if " at http" not in greeting:
                raise EdgekitError(greeting + server.stderr.read(), where="edgekit serve")
            url = greeting.split(" at ")[1].split(", see")[0]
            with Client(url) as client:
                got = client.infer(bundle.manifest.name, reference.feeds[0])
        finally:
            server.terminate()
    return worst_sqnr(reference.outputs[0], got)
