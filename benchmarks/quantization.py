"""edgekit's quantization beside its peers': same model, same data, same machine, one run.

    python benchmarks/quantization.py --peers build/peers/bin/python [--model NAME ...]

``--peers`` is the Python of a virtual environment with ``benchmarks/peers/requirements.txt``;
``make bench-quantization`` sets one up. For each model every peer quantizes the file that
``torch.onnx.export`` writes, with the same calibration samples that edgekit gets, each in a process
of its own (wall time, peak memory). Then all artifacts are timed together, interleaved, at batch 1
with two threads: every ONNX artifact on ONNX Runtime and on OpenVINO, there also in bfloat16, which
is OpenVINO's default. edgekit's entry is the artifact that its bundle selects.

The fastest of twenty noisy figures is partly luck, so edgekit's fastest and the fastest peers meet
again alone, freshly loaded several times; the ratio comes from there. Ratios below 1 are in
edgekit's favour. There are two: against the artifacts as the peers wrote them (like edgekit's, they
take any batch size), and against the same with the batch size fixed to 1 by hand.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from edgekit.exporters.torch_onnx import export_onnx
from edgekit.runtimes import Session, SessionOptions
from quantization_models import MODELS, Model

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.fidelity import FidelityMeter
from edgekit.pipeline import Timing, make_bundle
from edgekit.profile.runner import Timed, profile_interleaved
from edgekit.reference import reference_predict, take_samples
from edgekit.spec import Feeds
from edgekit.targets import parse_targets
from edgekit.verify import Reference
from edgekit.workload import Workload

THREADS = 2
#: How many peers meet edgekit in the final, and how often everything is loaded for it.
FINALISTS = 3
LOADS = 3
PEERS = Path(__file__).parent / "peers"
#: Script, variant and whether it takes ``--transformer``.
TOOLS = (
    ("nncf_ptq", "ir"),
    ("nncf_ptq", "ir-per-tensor"),
    ("nncf_ptq", "onnx-per-tensor"),
    ("ort_quantize", "static-tuned"),
    ("ort_quantize", "dynamic"),
    ("modelopt_ptq", "int8"),
)


@dataclass(frozen=True)
class File:
    """Something to time. ``form`` is how a peer's artifact was changed: bf16, batch1 or both."""

    tool: str
    runtime: str
    path: Path
    form: str = ""

    def load(self) -> Session:
        return runtimes.get(self.runtime).load(self.path, SessionOptions(threads=THREADS))

    def __str__(self) -> str:
        return f"{self.tool} on {'-'.join(filter(None, (self.runtime, self.form)))}"


@dataclass
class Entry:
    """One artifact on one runtime."""

    file: File
    p50_ms: float | None = None
    sqnr_db: float | None = None
    metric: float | None = None
    problem: str = ""


@dataclass
class Quantized:
    """What a tool took to quantize."""

    tool: str
    wall_s: float | None = None
    peak_rss_mb: float | None = None
    file: str = ""
    problem: str = ""


@dataclass
class Row:
    """One model."""

    model: str
    entries: list[Entry] = field(default_factory=list)
    tools: list[Quantized] = field(default_factory=list)
    selected: str = ""
    metric: str = ""
    latency_ratio: float = math.nan
    best_peer: str = ""
    latency_ratio_fixed: float = math.nan
    best_peer_fixed: str = ""
    final_ms: dict[str, float] = field(default_factory=dict)
    cells: dict[str, dict[str, float]] = field(default_factory=dict)
    sqnr_gain_db: float = math.nan
    metric_gain: float = math.nan


def run_tool(python: str, script: str, variant: str, arguments: Sequence[str]) -> Quantized:
    """Quantize in a process of its own; a tool that fails is reported with its last line."""
    name = f"{script.split('_', maxsplit=1)[0]} {variant}"
    command = [python, str(PEERS / f"{script}.py"), *arguments, "--variant", variant]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Quantized(name, problem=last[:200])
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return Quantized(name, told["wall_s"], told["peak_rss_mb"], told["file"])


def quantize_all(
    model: Path, calibration: Path, folder: Path, peers: str, *, transformer: bool
) -> list[Quantized]:
    """Run every tool, edgekit's own plain int8 among them."""
    found = []
    for script, variant in TOOLS:
        stem = folder / f"{script}-{variant}"
        arguments = [str(model), str(calibration), str(stem)]
        found.append(run_tool(peers, script, variant, arguments + ["--transformer"] * transformer))
    for variant in ("openvino", "onnxruntime"):
        arguments = [str(model), str(calibration), str(folder / f"edgekit-{variant}")]
        found.append(run_tool(sys.executable, "edgekit_ptq", variant, arguments))
    return found


def peer_files(tool: Quantized, folder: Path) -> list[File]:
    """Where a peer's artifact runs; on OpenVINO in float32 and bfloat16, and with batch 1 fixed."""
    if not tool.file:
        return []
    source = Path(tool.file)
    found = [File(tool.tool, "onnxruntime", source)] if source.suffix == ".onnx" else []
    for form in ("", "bf16", "batch1", "bf16-batch1"):
        path = folder / f"{source.stem}-{source.suffix[1:]}-{form}.xml"
        try:
            model = ov.Core().read_model(source)
            if "bf16" in form:
                model.set_rt_info("bf16", ["edgekit", "inference_precision"])
            if "batch1" in form:
                model.reshape({p: [1, *list(p.partial_shape)[1:]] for p in model.inputs})
            ov.save_model(model, path, compress_to_fp16=False)
        except RuntimeError:
            continue  # OpenVINO does not read it, or it has another batch size written into it
        found.append(File(tool.tool, "openvino", path, form))
    return found


def measure(name: str, model: Model, peers: str, recipe: str, folder: Path) -> Row:
    """Everything about one model."""
    workload = model.load()
    batches = list(workload.feeds())
    workload.calibration = lambda: batches
    calibration = folder / "calibration"
    calibration.mkdir()
    for index, feeds in enumerate(batches):
        np.savez(calibration / f"{index:05}.npz", **feeds)  # type: ignore[arg-type]
    bundle = make_bundle(
        workload,
        folder / "edgekit.edge",
        recipe=load_recipe(recipe),
        targets=parse_targets([], None),
        timing=Timing(threads=THREADS, seconds=20),
    )
    row = Row(name, metric=workload.metric.name if workload.metric else "")
    row.tools = quantize_all(
        plain_export(workload, folder), calibration, folder, peers, transformer=model.transformer
    )
    files = [File("edgekit " + a.id, a.runtime, bundle.file(a)) for a in chosen(bundle)]
    for tool in row.tools:
        if not tool.tool.startswith("edgekit"):
            files += peer_files(tool, folder)
    sample = model.sample() if model.sample else take_samples(workload, batches, 1)[0]
    time_and_judge(row, files, workload, sample)
    summarize_row(row, sample)
    return row


def plain_export(workload: Workload, folder: Path) -> Path:
    """What a user of the peers starts from: ``torch.onnx.export``, with its name clashes mended."""
    assert isinstance(workload.model, torch.nn.Module)
    return export_onnx(
        workload.model,
        {name: torch.as_tensor(value) for name, value in workload.example_inputs.items()},
        folder / "plain.onnx",
        dynamic=workload.dynamic,
        output_names=workload.output_names,
        opset=20,
    )


def chosen(bundle: Bundle) -> list:  # type: ignore[type-arg]
    """What the bundle selects for each runtime."""
    wanted = {decision.selected for decision in bundle.manifest.decisions}
    return [artifact for artifact in bundle.manifest.artifacts if artifact.id in wanted]


def time_and_judge(row: Row, files: Sequence[File], workload: Workload, sample: Feeds) -> None:
    """Load all artifacts, time them in one interleaved run, compare them with the original."""
    row.entries = [Entry(file) for file in files]
    with reference_predict(workload) as predict:
        calibration = take_samples(workload, workload.feeds(), 32)
        reference = Reference.record(predict, calibration)
    with ExitStack() as stack:
        loaded: list[tuple[Entry, Session]] = []
        for entry in row.entries:
            try:
                session = stack.enter_context(entry.file.load())
                session.run(sample)
            except Exception as error:  # noqa: BLE001 - a peer's artifact that does not run is a result
                entry.problem = " ".join(str(error).split())[:200]
                continue
            loaded.append((entry, session))
        timed = time_all([(entry.file, session) for entry, session in loaded], sample, seconds=20)
        for (entry, session), latency in zip(loaded, timed, strict=True):
            entry.p50_ms = float(np.median(latency)) / 1e6
            if "batch1" not in entry.file.form:  # it computes what the other form does
                entry.sqnr_db = fidelity(reference, session)
                entry.metric = workload.score(session.run)


def time_all(
    loaded: Sequence[tuple[File, Session]], sample: Feeds, *, seconds: float
) -> list[tuple[int, ...]]:
    """Latencies of each in nanoseconds, taken in turns."""
    timed = profile_interleaved(
        [Timed(str(file), file.runtime, session) for file, session in loaded],
        sample,
        threads=THREADS,
        min_rounds=20,
        max_rounds=400,
        max_seconds=seconds,
    )
    return [samples.latencies_ns for samples in timed]


def final(files: Sequence[File], sample: Feeds) -> dict[File, float]:
    """Median latency in ms over several loads in changing order, nothing else being loaded.

    Where the memory of a session happens to lie is worth a few percent.
    """
    order = np.random.default_rng(0)
    found: dict[File, list[int]] = {file: [] for file in files}
    for _ in range(LOADS):
        with ExitStack() as stack:
            turn = [files[index] for index in order.permutation(len(files))]
            loaded = [(file, stack.enter_context(file.load())) for file in turn]
            for (file, _), latency in zip(loaded, time_all(loaded, sample, seconds=5), strict=True):
                found[file] += latency
    return {file: float(np.median(latency)) / 1e6 for file, latency in found.items()}


def fidelity(reference: Reference, session: Session) -> float:
    """SQNR of the worst output, in dB."""
    meters: dict[str, FidelityMeter] = {}
    for feeds, wanted in zip(reference.feeds, reference.outputs, strict=True):
        got = session.run(feeds)
        for name, value in wanted.items():
            meters.setdefault(name, FidelityMeter()).add(value, got[name])
    return min(meter.result().sqnr_db for meter in meters.values())


def summarize_row(row: Row, sample: Feeds) -> None:
    """edgekit's fastest against the peers' fastest, and against the most faithful of them."""
    ran = sorted((e for e in row.entries if e.p50_ms), key=lambda e: e.p50_ms or math.inf)
    own = next(e for e in ran if e.file.tool.startswith("edgekit"))
    peers = [e for e in ran if not e.file.tool.startswith("edgekit")]
    written = [e.file for e in peers if "batch1" not in e.file.form][:FINALISTS]
    fixed = [e.file for e in peers if "batch1" in e.file.form][:FINALISTS]
    row.selected = own.file.tool
    latency = final([own.file, *written, *fixed], sample)
    best = min(written, key=latency.__getitem__)
    row.best_peer, row.latency_ratio = str(best), latency[own.file] / latency[best]
    best = min([*written, *fixed], key=latency.__getitem__)
    row.best_peer_fixed, row.latency_ratio_fixed = str(best), latency[own.file] / latency[best]
    row.final_ms = {str(file): value for file, value in latency.items()}
    row.sqnr_gain_db = (own.sqnr_db or math.nan) - max(e.sqnr_db or -math.inf for e in peers)
    row.metric_gain = (own.metric or math.nan) - max(e.metric or -math.inf for e in peers)
    row.cells = cells(row)


def cells(row: Row) -> dict[str, dict[str, float]]:
    """edgekit's best over the best peer's, figure by figure, on each runtime."""
    found = {}
    for runtime in ("onnxruntime", "openvino"):
        here = [e for e in row.entries if e.file.runtime == runtime and e.metric is not None]
        own = [e for e in here if e.file.tool.startswith("edgekit")]
        peers = [e for e in here if not e.file.tool.startswith("edgekit")]
        tools = [t for t in row.tools if t.wall_s and not t.tool.startswith("edgekit")]
        tool = next(t for t in row.tools if t.tool == f"edgekit {runtime}")
        found[runtime] = {
            "latency": _best(own, "p50_ms", min) / _best(peers, "p50_ms", min),
            "SQNR dB": _best(own, "sqnr_db", max) - _best(peers, "sqnr_db", max),
            "metric": _best(own, "metric", max) - _best(peers, "metric", max),
            "wall time": _best([tool], "wall_s", min) / _best(tools, "wall_s", min),
            "peak memory": _best([tool], "peak_rss_mb", min) / _best(tools, "peak_rss_mb", min),
        }
    return found


def _best(entries: Sequence[object], figure: str, pick: Callable[..., float]) -> float:
    values = [value for one in entries if (value := getattr(one, figure)) is not None]
    return pick(values, default=math.nan)


def show(row: Row) -> None:
    print(f"\n== {row.model} ({row.metric})")
    for tool in row.tools:
        cost = "-" if tool.wall_s is None else f"{tool.wall_s:6.1f} s {tool.peak_rss_mb:6.0f} MB"
        print(f"  {tool.tool:24} {cost} {tool.problem}")
    for entry in sorted(row.entries, key=lambda e: e.p50_ms or math.inf):
        if entry.p50_ms is None:
            print(f"  {entry.file!s:52} {entry.problem}")
            continue
        judged = "" if entry.metric is None else f"{entry.sqnr_db:6.1f} dB  {entry.metric:.4f}"
        print(f"  {entry.file!s:52} {entry.p50_ms:8.3f} ms {judged}")
    for runtime, figures in row.cells.items():
        shapes = {"metric": "+.4f", "SQNR dB": "+.1f"}
        told = ", ".join(
            f"{name} {value:{shapes[name]}}" if name in shapes else f"{name} {value:.2f}x"
            for name, value in figures.items()
        )
        print(f"  {runtime}, edgekit's best against the best peer's: {told}")
    print(
        f"  -> {row.selected}: {row.latency_ratio:.2f}x the latency of {row.best_peer}, "
        f"{row.latency_ratio_fixed:.2f}x of {row.best_peer_fixed}, "
        f"SQNR {row.sqnr_gain_db:+.1f} dB, metric {row.metric_gain:+.4f} against the best peer",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="Python with the peers installed")
    parser.add_argument("--model", action="append", choices=tuple(MODELS), help="only this one")
    parser.add_argument("--recipe", default="int8")
    parser.add_argument("--json", type=Path, help="write everything here, too")
    given = parser.parse_args()
    rows = []
    for name in given.model or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, MODELS[name], given.peers, given.recipe, Path(folder)))
        show(rows[-1])
        if given.json:
            given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1, default=str))
    for what, ratios in (
        ("as the peers wrote them", [row.latency_ratio for row in rows]),
        ("with batch 1 fixed by hand", [row.latency_ratio_fixed for row in rows]),
    ):
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"latency, {what}: {mean:.3f}x in the geometric mean, {max(ratios):.2f}x at worst")
    return 0


if __name__ == "__main__":
    sys.exit(main())
