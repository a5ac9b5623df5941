"""What an artifact takes beside its latency, each figure measured in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.manifest import Artifact
from edgekit.profile.energy import Meter, Sensor, find_sensor
from edgekit.profile.records import Costs, Energy
from edgekit.runtimes import SessionOptions
from edgekit.spec import Feeds

__all__ = ["Wrap", "measure_costs"]

#: What turns a command into one that runs it elsewhere, under limits, say.
Wrap = Callable[[Sequence[str]], Sequence[str]]

_IDLE_S = 0.5
_PATIENCE_S = 600.0


class _Probe(BaseModel):
    """What :mod:`edgekit.profile.probe` wrote: nanoseconds of the monotonic clock, and bytes.

    Attributes:
        began: when the process was started, by the clock of the one that started it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    began: int
    entered: int
    ready: int
    loaded: int
    answered: int
    runs: int
    steady_start: int
    steady_end: int
    cpu_ns: int
    base_bytes: int
    steady_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class _Power:
    """The running meter and the power at rest, or why there is none."""

    meter: Meter | None
    idle_watts: float
    missing: str


def measure_costs(
    bundle: Bundle,
    artifacts: Sequence[Artifact],
    feeds: Feeds,
    options: SessionOptions,
    *,
    processes: int = 3,
    max_seconds: float = 30.0,
    steady_s: float = 0.5,
    sensor: Sensor | str | None = None,
    wrap: Wrap = list,
) -> dict[str, Costs]:
    """Load and run every artifact in fresh processes, one at a time, in turns.

    Args:
        bundle: that holds the artifacts.
        artifacts: that this machine can run.
        feeds: the input of every inference.
        options: threads and device of the sessions.
        processes: of each artifact.
        max_seconds: no further round after this time; the first one is always finished.
        steady_s: how long each process runs inferences after the first.
        sensor: of energy, or why there is none; None looks for one.
        wrap: changes the command of each process.

    Returns:
        By the id of the artifact.

    Raises:
        EdgekitError: an artifact cannot be loaded or run in a process of its own.
    """
    deadline = time.monotonic() + max_seconds
    found: dict[str, list[_Probe]] = {artifact.id: [] for artifact in artifacts}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-costs-")))
        power = _power(find_sensor() if sensor is None else sensor, stack)
        np.savez(folder / "feeds.npz", *feeds.values())
        for number in range(processes):
            if number and time.monotonic() > deadline:
                break
            for artifact in artifacts:
                job = _job(folder, bundle, artifact, feeds, options, steady_s)
                found[artifact.id].append(_run(job, artifact, wrap))
        return {one.id: _costs(one, found[one.id], power) for one in artifacts}


def _power(sensor: Sensor | str, stack: ExitStack) -> _Power:
    if isinstance(sensor, str):
        return _Power(None, 0.0, sensor)
    meter = stack.enter_context(Meter(sensor))
    start = time.monotonic_ns()
    time.sleep(_IDLE_S)
    watts = meter.watts(start, time.monotonic_ns())
    if not watts:
        return _Power(None, 0.0, meter.broken or f"{sensor.domain} does not count")
    return _Power(meter, watts, "")


def _job(
    folder: Path,
    bundle: Bundle,
    artifact: Artifact,
    feeds: Feeds,
    options: SessionOptions,
    steady_s: float,
) -> Path:
    job = {
        "artifact": str(bundle.file(artifact)),
        "runtime": artifact.runtime,
        "threads": options.threads,
        "device": options.device,
        "inputs": list(feeds),
        "feeds": str(folder / "feeds.npz"),
        "seconds": steady_s,
        "result": str(folder / "result.json"),
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return path


def _run(job: Path, artifact: Artifact, wrap: Wrap) -> _Probe:
    """One fresh process."""
    # -P: what lies in the working folder is not imported in place of what is installed.
    command = wrap([sys.executable, "-P", "-m", "edgekit.profile.probe", str(job)])
    result = job.with_name("result.json")
    result.unlink(missing_ok=True)
    with tempfile.TemporaryFile() as told:
        began = time.monotonic_ns()
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=told,
                timeout=_PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _failed(artifact, f"gave no answer in {_PATIENCE_S:.0f} s") from error
        told.seek(0)
        said = told.read().decode(errors="replace").strip()
    if done.returncode < 0 or done.returncode == 137:
        raise _failed(artifact, f"was killed by signal {abs(done.returncode) % 128}. {said}")
    if done.returncode or not result.is_file():
        raise _failed(artifact, f"ended with {done.returncode}: {said.rpartition(chr(10))[2]}")
    return _Probe.model_validate({"began": began, **json.loads(result.read_bytes())})


def _failed(artifact: Artifact, why: str) -> EdgekitError:
    return EdgekitError(
        f"a process that only runs it {why}",
        where=f"costs of {artifact.id}",
        fix="Free memory, or leave the costs out with --no-costs",
    )


def _costs(artifact: Artifact, probes: Sequence[_Probe], power: _Power) -> Costs:
    energy, missing = _energy(probes, power)

    def seconds(start: str, end: str) -> tuple[float, ...]:
        return tuple((getattr(one, end) - getattr(one, start)) / 1e9 for one in probes)

    def middle(values: Sequence[float]) -> int:
        return max(0, round(median(values)))

    return Costs(
        start_s=seconds("began", "entered"),
        import_s=seconds("entered", "ready"),
        load_s=seconds("ready", "loaded"),
        first_s=seconds("loaded", "answered"),
        cold_start_s=seconds("began", "answered"),
        base_bytes=middle([one.base_bytes for one in probes]),
        steady_bytes=middle([one.steady_bytes - one.base_bytes for one in probes]),
        peak_bytes=middle([one.peak_bytes - one.base_bytes for one in probes]),
        cpu_s=median(one.cpu_ns / one.runs for one in probes) / 1e9,
        disk_bytes=artifact.size,
        energy=energy,
        energy_missing=missing,
    )


def _energy(probes: Sequence[_Probe], power: _Power) -> tuple[Energy | None, str]:
    """Of one inference, from the steady part of each process."""
    if power.meter is None:
        return None, power.missing
    taken = [
        joules / one.runs
        for one in probes
        if (joules := power.meter.joules(one.steady_start, one.steady_end)) is not None
    ]
    domain = power.meter.sensor.domain
    if not taken:
        return None, power.meter.broken or f"{domain} is read too seldom for so short a run"
    return Energy(joules=median(taken), idle_watts=power.idle_watts, domain=domain), ""
