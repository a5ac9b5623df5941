"""Compare artifacts with the original model on the same samples, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.errors import BundleError, EdgekitError, OutOfRangeError
from edgekit.extremes import VALUES
from edgekit.fidelity import FidelityMeter
from edgekit.manifest import Artifact, Extreme, Fidelity, Verification
from edgekit.runtimes import SessionOptions
from edgekit.spec import Array, Feeds, Outputs, as_stored, is_float
from edgekit.workload import Predict

__all__ = ["DATA", "GATES", "Reference", "gate", "verify_artifact", "verify_bundle"]

#: Least signal-to-quantization-noise ratio of every output, in dB, by the lowest precision in an
#: artifact. fp32 differs from PyTorch by the order of its sums only. A quantized artifact is judged
#: by the workload's metric; this gate catches one that is plainly broken.
GATES: Mapping[str, float] = MappingProxyType(
    {"int4": 3.0, "int8": 6.0, "fp8": 6.0, "bf16": 20.0, "fp16": 35.0, "fp32": 60.0}
)


def gate(precision: str) -> float:
    """The gate of an artifact: that of the lowest precision in its label (``int8-bf16-mixed``).

    A label without a precision (``palette``) is that of float weights.
    """
    parts = precision.split("-")
    return next((least for name, least in GATES.items() if name in parts), GATES["fp32"])


#: The gate of an output that is itself of a type with fewer digits, by that type.
_DIGITS = MappingProxyType({"bfloat16": GATES["bf16"], "float16": GATES["fp16"]})

#: The kind of a sample that is like the calibration data.
DATA = "data"


@dataclass(frozen=True, slots=True)
class Reference:
    """Samples and what the original model computed for them.

    Attributes:
        feeds: one mapping a sample.
        outputs: the original's outputs for each.
        kinds: what each sample is: :data:`DATA`, or a name of :mod:`edgekit.extremes`.
    """

    feeds: Sequence[Feeds]
    outputs: Sequence[Outputs]
    kinds: Sequence[str]

    @classmethod
    def record(
        cls,
        predict: Predict,
        feeds: Sequence[Feeds],
        extremes: Mapping[str, Feeds] = MappingProxyType({}),
    ) -> Reference:
        """Run the original over ``feeds``, and over ``extremes`` as far as it can.

        Where the original itself raises or computes NaN or infinity on an extreme input, there is
        nothing to compare with, and that input is left out.

        Raises:
            EdgekitError: the original computes NaN or infinity on ``feeds``.
        """
        outputs = [predict(sample) for sample in feeds]
        for index, sample in enumerate(outputs):
            for name, value in sample.items():
                if not _finite(value):
                    raise EdgekitError(
                        f"the original model computes NaN or infinity in output {name!r}",
                        where=f"calibration sample {index}",
                        fix="Mend the model or the data before compressing it",
                    )
        found = {kind: _tried(predict, sample) for kind, sample in extremes.items()}
        able = {kind: made for kind, made in found.items() if made is not None}
        return cls(
            [*feeds, *(extremes[kind] for kind in able)],
            [*outputs, *able.values()],
            [*([DATA] * len(feeds)), *able],
        )

    def like_data(self) -> Reference:
        """Only the samples that are like the data."""
        return self.of_kind(DATA)

    def of_kind(self, kind: str) -> Reference:
        """Only the samples of that kind."""
        indices = [i for i, one in enumerate(self.kinds) if one == kind]
        return Reference(
            [self.feeds[i] for i in indices],
            [self.outputs[i] for i in indices],
            [self.kinds[i] for i in indices],
        )

    def save(self, path: Path, max_bytes: int) -> None:
        """Write the samples that fit in ``max_bytes`` as ``.npz``: the first, then extreme ones."""
        first = sorted(range(len(self.kinds)), key=lambda i: (i > 0, self.kinds[i] == DATA, i))
        arrays: dict[str, Array] = {}
        kinds: list[str] = []
        used = 0
        for index in first:
            feeds, outputs = self.feeds[index], self.outputs[index]
            used += sum(array.nbytes for array in (*feeds.values(), *outputs.values()))
            if kinds and used > max_bytes:
                break
            number = len(kinds)
            arrays |= {f"{number}/feeds/{name}": array for name, array in feeds.items()}
            arrays |= {f"{number}/outputs/{name}": array for name, array in outputs.items()}
            kinds.append(self.kinds[index])
        np.savez_compressed(path, allow_pickle=False, kinds=np.array(kinds), **arrays)

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read what :meth:`save` wrote.

        Raises:
            BundleError: the file is not such an archive.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                kinds = archive["kinds"].tolist()
                samples: list[dict[str, dict[str, Array]]] = [
                    {"feeds": {}, "outputs": {}} for _ in kinds
                ]
                for key in archive.files:
                    if key != "kinds":
                        index, part, name = key.split("/", 2)
                        samples[int(index)][part][name] = as_stored(archive[key])
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise BundleError(
                f"cannot be read: {error}", where=str(path), fix="Build the bundle again"
            ) from error
        return cls([s["feeds"] for s in samples], [s["outputs"] for s in samples], kinds)

    @classmethod
    def of(cls, bundle: Bundle, artifact: Artifact) -> Reference:
        """What the artifact has to compute: the outputs of the module that it was made from."""
        return cls.load(bundle.path / (artifact.reference or str(bundle.manifest.reference)))


def _tried(predict: Predict, feeds: Feeds) -> Outputs | None:
    """What the original makes of an extreme input; None where it cannot take it."""
    try:
        made = predict(feeds)
    except Exception:  # noqa: BLE001, the user's forward may raise anything
        return None
    return made if all(_finite(value) for value in made.values()) else None


def verify_artifact(
    artifact: str, precision: str, predict: Predict, reference: Reference
) -> Verification:
    """Compare one artifact with the reference.

    Args:
        artifact: id of the artifact, for the record.
        precision: decides the gate, see :data:`GATES`.
        predict: runs the artifact.
        reference: samples with the original's outputs.
    """
    outputs, problem = _compared(predict, reference.like_data(), precision)
    if not outputs and not problem and reference.feeds:
        problem = "none of the samples is of a size that it was built for"
    extremes = {}
    for kind in dict.fromkeys(reference.kinds):
        if kind != DATA:
            found, wrong = _survived(predict, reference.of_kind(kind), precision)
            if not found and not wrong:
                continue  # of a size that it was not built for
            gated = kind not in VALUES or gate(precision) == GATES["fp32"]
            extremes[kind] = Extreme(outputs=found, reason=wrong, gated=gated)
            if wrong and gated and not problem:
                problem = f"with input {kind!r}: {wrong}"
    return Verification(
        artifact=artifact,
        samples=sum(kind == DATA for kind in reference.kinds),
        outputs=outputs,
        extremes=extremes,
        passed=not problem,
        reason=problem,
    )


def _survived(
    predict: Predict, reference: Reference, precision: str
) -> tuple[dict[str, Fidelity], str]:
    """The same of an extreme input, which an engine may refuse."""
    try:
        return _compared(predict, reference, precision)
    except Exception as error:  # noqa: BLE001, engines raise a dozen unrelated types
        return {}, f"it is refused: {str(error)[:200]}"


def _compared(
    predict: Predict, reference: Reference, precision: str
) -> tuple[dict[str, Fidelity], str]:
    """How close the outputs are, and what is wrong with them, if anything.

    Samples of sizes that an engine was not built for are left out: it says so itself.
    """
    meters: dict[str, FidelityMeter] = {}
    gates: dict[str, float] = {}
    problem = ""
    for feeds, wanted in zip(reference.feeds, reference.outputs, strict=True):
        try:
            got = predict(feeds)
        except OutOfRangeError:
            continue
        for name, value in wanted.items():
            problem = problem or _mismatch(name, value, got)
            if not problem:
                meters.setdefault(name, FidelityMeter()).add(value, got[name])
                gates[name] = min(gate(precision), _DIGITS.get(value.dtype.name, np.inf))
    results = {name: meter.result() for name, meter in meters.items()}
    return results, problem or _below_gate(results, gates, precision)


def verify_bundle(bundle: Bundle, runtime: str | None = None) -> list[Verification]:
    """Run every artifact that this machine can run against the samples stored in the bundle.

    Args:
        bundle: an opened bundle.
        runtime: only the artifacts of this runtime.

    Raises:
        BundleError: the bundle stores no reference samples.
        RuntimeUnavailableError: nothing is there for ``runtime``, or it cannot load an artifact.
    """
    if bundle.manifest.reference is None:
        raise BundleError(
            "holds no reference samples", where=str(bundle.path), fix="Build the bundle again"
        )
    if runtime is not None:
        bundle.selected(runtime)
    wanted = [a for a in bundle.manifest.artifacts if runtime in {None, a.runtime}]
    return [_verify_stored(bundle, artifact) for artifact in wanted]


def _verify_stored(bundle: Bundle, artifact: Artifact) -> Verification:
    reason = unusable(artifact.runtime, artifact.target)
    if reason:
        return _not_run(artifact.id, reason)
    reference = Reference.of(bundle, artifact)
    with runtimes.get(artifact.runtime).load(bundle.file(artifact), SessionOptions()) as session:
        return verify_artifact(artifact.id, artifact.precision, session.run, reference)


def unusable(runtime: str, target: str | None = None) -> str:
    """Why artifacts of ``runtime`` cannot be run here; empty when they can.

    Args:
        runtime: its name.
        target: the device that the artifact was built for, where it is tied to one.
    """
    if runtime not in runtimes.names():
        return f"edgekit builds {runtime} artifacts but does not run them"
    status = runtimes.get(runtime).status()
    if not status.usable:
        return status.reason
    if target is not None and target != status.gpu:
        return f"it was built for {target}, this GPU is {status.gpu}"
    return ""


def _not_run(artifact: str, reason: str) -> Verification:
    """The record of an artifact that this machine cannot run."""
    return Verification(
        artifact=artifact, samples=0, outputs={}, passed=False, reason=reason, ran=False
    )


def _mismatch(name: str, wanted: Array, got: Outputs) -> str:
    if name not in got:
        return f"output {name!r} is missing, it has {', '.join(got)}"
    if got[name].shape != wanted.shape:
        return f"output {name!r} has shape {list(got[name].shape)}, not {list(wanted.shape)}"
    if not _finite(got[name]):
        return f"output {name!r} has NaN or infinite values"
    return ""


def _below_gate(results: Mapping[str, Fidelity], gates: Mapping[str, float], precision: str) -> str:
    for name, result in results.items():
        least = gates[name]
        if result.sqnr_db < least and result.max_abs > 1e-5:
            return (
                f"output {name!r} has an SQNR of {result.sqnr_db:.1f} dB, "
                f"{precision} needs {least:g} dB"
            )
    return ""


def _finite(value: Array) -> bool:
    return bool(np.isfinite(value).all()) if is_float(value.dtype) else True
