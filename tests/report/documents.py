"""Profiles as ``edgekit profile`` writes them, made from records: a test decides what they say."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.machine import Machine
from edgekit.manifest import Manifest
from edgekit.profile.records import (
    Costs,
    LayerTime,
    LayerTimes,
    Outcome,
    Peaks,
    Profile,
    Result,
    Settings,
)
from edgekit.profile.samples import Conditions, Samples, WarmUp

MACHINE = Machine(
    cpu="Test CPU 3000",
    features=("AVX2", "AVX512-VNNI"),
    cores=4,
    memory_bytes=16_000_000_000,
    system="Linux 6.1 x86_64",
    python="3.12.1",
)

PEAKS = Peaks(threads=4, flops={"fp32": 4e11, "int8": 1.6e12}, bytes_per_s=2.5e10)

QUIET = Conditions(
    steal=0.0, others=0.01, preempted=3.0, mhz=(2950.0, 3000.0), celsius=(51.0, 54.0), throttled=0
)


def latencies(
    median_ms: float, count: int = 1200, *, seed: int = 0, spread: float = 0.03
) -> np.ndarray:
    """Nanoseconds around a median with the tail to the right that machines have."""
    generator = np.random.default_rng(seed)
    body = generator.lognormal(0.0, spread, count) + generator.exponential(spread / 2, count)
    return (median_ms * 1e6 * body / np.median(body)).astype(int)


def samples(artifact: str, values: Any, **fields: Any) -> Samples:
    """Of a closed loop that began at 0, with nothing else on the machine."""
    listed = tuple(int(value) for value in values)
    starts = (0, *np.cumsum(listed)[:-1].tolist())
    return Samples.model_validate(
        {
            "artifact": artifact,
            "runtime": artifact.partition("-")[0],
            "run": "run-1",
            "shapes": {"image": (1, 3, 16, 16)},
            "threads": 4,
            "warmup": 20,
            "block": 4,
            "latencies_ns": listed,
            "starts_ns": starts,
            "conditions": QUIET,
            "warm_up": WarmUp(calls=40, seconds=0.6, steady=True),
            "machine": MACHINE,
            "started": "2026-07-01T08:00:00+00:00",
            **fields,
        }
    )


def result(artifact: str = "onnxruntime-int8", median_ms: float = 1.0, **fields: Any) -> Result:
    """Of a quiet run with enough samples; ``values`` instead of a median gives them raw."""
    values = fields.pop("values", None)
    seed = fields.pop("seed", 0)
    of_samples = fields.pop("of_samples", {})
    raw = latencies(median_ms, seed=seed) if values is None else values
    return Result(
        samples=samples(artifact, raw, **of_samples),
        **{"settings": Settings(threads=4), **fields},
    )


def layer(node: str = "conv", ns: float = 1000.0, **fields: Any) -> LayerTime:
    return LayerTime.model_validate(
        {"node": node, "op": "Conv", "precision": "int8", "ns": ns, **fields}
    )


def layers(*found: LayerTime, outside: float = 0.03) -> LayerTimes:
    """Of an inference that spends that share of its time outside of them."""
    inside = sum(one.ns for one in found)
    whole = inside / (1.0 - outside)
    return LayerTimes(layers=found, inference_ns=whole, plain_ns=whole * 0.98, runs=50)


def network(precision: str, whole_ns: float) -> LayerTimes:
    """A small network: a stem, blocks of convolutions with quantizing around them, a head."""
    parts = [layer("stem/Conv", 9.0, modules=("stem.0",), onnx=("/stem/Conv",))]
    for index in range(12):
        parts += [
            layer(f"blocks.{index}/dw", 2.5, op="DepthwiseConv", modules=(f"blocks.{index}.dw",)),
            layer(
                f"blocks.{index}/pw",
                5.5 + index,
                modules=(f"blocks.{index}.pw", f"blocks.{index}.act"),
            ),
        ]
    parts += [
        layer("quantize", 1.2, op="QuantizeLinear", precision="fp32"),
        layer("pool", 1.5, op="Pooling", precision="fp32", modules=("pool",)),
        layer("head", 4.0, op="Gemm", modules=("head",)),
    ]
    scale = whole_ns / sum(part.ns for part in parts)
    made = []
    for index, part in enumerate(parts):
        ns = part.ns * scale
        speed = (120.0 if precision == "int8" else 55.0) * (0.4 if "dw" in part.node else 1.0)
        work = {"flops": int(ns * speed), "bytes": max(int(ns * speed / (4 + 3 * (index % 7))), 1)}
        known = work if part.op != "QuantizeLinear" else {}
        told = part.precision if part.op in {"QuantizeLinear", "Pooling"} else precision
        made.append(
            part.model_copy(update={"ns": ns, "precision": told, "kernel": "jit_avx512", **known})
        )
    around = {"call_ns": 0.02 * whole_ns, "between_ns": 0.01 * whole_ns}
    return layers(*made).model_copy(update=around)


def costs(scale: float = 1.0) -> Costs:
    return Costs(
        start_s=(0.03, 0.031, 0.03),
        import_s=(0.45, 0.46, 0.45),
        load_s=(0.11 * scale, 0.12 * scale, 0.118 * scale),
        first_s=(0.014 * scale, 0.015 * scale, 0.013 * scale),
        cold_start_s=(0.61, 0.63 * scale, 0.62),
        steady_bytes=int(41e6 * scale),
        peak_bytes=int(63e6 * scale),
        base_bytes=58_000_000,
        cpu_s=0.0021 * scale,
        disk_bytes=int(5.1e6 * scale),
        energy_missing="this machine has no readable power sensor",
    )


def profile(*results: Result, **fields: Any) -> Profile:
    return Profile.model_validate(
        {
            "edgekit": "0.1.0",
            "created": "2026-07-01T08:00:30+00:00",
            "model": "residual",
            "versions": {"onnxruntime": "1.23.0", "openvino": "2025.3.0"},
            "command": ("edgekit", "profile", "residual.edge", "--seconds", "20"),
            "machine": MACHINE,
            "peaks": PEAKS,
            "results": results,
            **fields,
        }
    )


def profile_of(manifest: Manifest, **fields: Any) -> Profile:
    """Of every artifact of a bundle that runs on a processor: layers, costs, a server scenario."""
    built = [artifact for artifact in manifest.artifacts if artifact.target is None]
    found = []
    for index, artifact in enumerate(built):
        small = "int8" in artifact.precision
        median = (1.3 if small else 3.4) + 0.4 * index
        found.append(
            result(
                artifact.id,
                median,
                seed=index,
                layers=network("int8" if small else "fp32", median * 0.93e6),
                costs=costs(0.6 if small else 1.0),
            )
        )
    rates = ((400.0, True), (800.0, False), (600.0, True))
    found.append(
        result(
            built[0].id,
            2.1,
            seed=9,
            of_samples={"run": "run-2", "scenario": "server"},
            outcome=Outcome(
                valid=True,
                queries=1200,
                samples=1200,
                seconds=2.0,
                metric="queries/s",
                value=600.0,
                target=(99.0, 8.0),
                tried=rates,
            ),
        )
    )
    found += [
        result(
            built[0].id,
            6.0 / threads,
            seed=20 + threads,
            settings=Settings(threads=threads, batch=1),
            of_samples={"run": f"sweep-{threads}", "threads": threads},
        )
        for threads in (1, 2)
    ]
    hashes = {artifact.id: artifact.files[0].sha256 for artifact in built}
    return profile(*found, artifacts=hashes, model=manifest.name, **fields)
